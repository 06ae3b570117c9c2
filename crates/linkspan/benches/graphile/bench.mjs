// Graphile Worker under the loads of linkspan's bench: `node bench.mjs` with the load and its parameters as JSON in BENCH_LOAD and an
// empty database's address in DATABASE_URL. Prints one line of JSON: {jobs, seconds, times}; `times` are the calls' in milliseconds.
//
// It is used as its documentation says: single jobs by `addJob`, several by `addJobs`, and a worker with the settings of its page on
// performance. The durability is PostgreSQL's default, as for linkspan.

import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { makeWorkerUtils, run, Logger } from "graphile-worker";
import pg from "pg";

const load = JSON.parse(process.env.BENCH_LOAD);
const connectionString = process.env.DATABASE_URL;
const logger = new Logger(() => () => {});
const payload = { text: "word ".repeat(200) };
const now = () => performance.now();

/** So many callers, each of which waits for its answer before its next call, until the time is over. */
async function calling(callers, seconds, call) {
  const times = [];
  const start = now();
  const end = start + seconds * 1000;
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (now() < end) {
        const begun = now();
        await call();
        times.push(now() - begun);
      }
    }),
  );
  return { seconds: (now() - start) / 1000, times };
}

/** A pool with all its connections made, so that none is made while the clock runs. */
async function connected(max) {
  const pool = new pg.Pool({ connectionString, max, idleTimeoutMillis: 0 });
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  const clients = await Promise.all(Array.from({ length: max }, () => pool.connect()));
  for (const client of clients) client.release();
  return pool;
}

async function utilities(connections) {
  const pool = await connected(connections);
  const utils = await makeWorkerUtils({ pgPool: pool, logger });
  await utils.migrate();
  await utils.addJob("noop", payload); // what is read once and remembered
  await pool.query("TRUNCATE graphile_worker._private_jobs");
  return { pool, utils };
}

/** Starts the worker; gives how many jobs it has run. */
async function worker() {
  const done = { jobs: 0 };
  const runner = await run({
    preset: {
      worker: {
        connectionString,
        concurrentJobs: 24,
        maxPoolSize: 25,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
    logger,
    noHandleSignals: true,
    taskList: { noop: () => void done.jobs++ },
  });
  return { runner, done };
}

/** Waits until so many jobs have run and none is left in the table: then their ends are durable. */
async function ended(pool, done, jobs) {
  while (done.jobs < jobs()) await new Promise((resolve) => setTimeout(resolve, 2));
  for (;;) {
    const { rows } = await pool.query("SELECT count(*)::int AS left FROM graphile_worker._private_jobs");
    if (rows[0].left === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const loads = {
  /** One job a call. */
  async enqueue({ callers, seconds, connections }) {
    const { pool, utils } = await utilities(connections);
    if (process.send) process.send("ready");
    if (process.send) await once(process, "message");
    const called = await calling(callers, seconds, () => utils.addJob("noop", payload));
    await pool.end();
    return { jobs: called.times.length, ...called };
  },

  /** Many jobs a call. */
  async batch({ callers, seconds, connections, batch }) {
    const { pool, utils } = await utilities(connections);
    const specs = Array.from({ length: batch }, () => ({ identifier: "noop", payload }));
    const called = await calling(callers, seconds, () => utils.addJobs(specs));
    await pool.end();
    return { jobs: called.times.length * batch, ...called };
  },

  /** Jobs that are there before the worker starts. */
  async work({ jobs }) {
    const { pool, utils } = await utilities(4);
    const specs = Array.from({ length: 500 }, () => ({ identifier: "noop", payload }));
    for (let left = jobs; left > 0; left -= specs.length) await utils.addJobs(specs.slice(0, left));
    const start = now();
    const { runner, done } = await worker();
    await ended(pool, done, () => jobs);
    const seconds = (now() - start) / 1000;
    await runner.stop();
    await pool.end();
    return { jobs, seconds, times: [] };
  },

  /** Callers in one process, the worker in another: until the last job is done. */
  async life(parameters) {
    const { pool } = await utilities(4);
    const environment = { ...process.env, BENCH_LOAD: JSON.stringify({ ...parameters, load: "enqueue" }) };
    const callers = fork(fileURLToPath(import.meta.url), { env: environment, silent: true });
    await once(callers, "message");
    const { runner, done } = await worker();
    let added = Infinity;
    const output = [];
    callers.stdout.on("data", (data) => output.push(data));
    const start = now();
    callers.send("go");
    callers.on("close", () => (added = JSON.parse(Buffer.concat(output).toString()).jobs));
    await ended(pool, done, () => added);
    const seconds = (now() - start) / 1000;
    await runner.stop();
    await pool.end();
    return { jobs: added, seconds, times: [] };
  },
};

const outcome = await loads[load.load](load);
await new Promise((resolve) => process.stdout.write(`${JSON.stringify(outcome)}\n`, resolve));
process.exit(0);
