// One job: its document beside its answer, where its time went, its attempts and its deliveries.

import * as api from "./api.js";
import * as live from "./live.js";
import { draw, h, icon, keep, paced } from "./dom.js";
import { bytes, millis } from "./format.js";
import { answers } from "./answer.js";
import { deliveryList, replayOne } from "./delivery.js";
import { paper, stored } from "./paper.js";
import { ask, badge, copy, empty, integration, link, loading, problem, since, table, time, toast } from "./parts.js";
import { name, visible } from "./text.js";
import { attempts as attemptsOf, rows, sent, waterfall } from "./waterfall.js";

export const title = (route) => `Job ${route.parts[1]?.slice(-8) ?? ""}`;

export function open(root, context) {
  const id = context.route.parts[1];
  const address = `/v1/jobs/${encodeURIComponent(id)}`;
  const state = { job: null, result: null, resultError: null, deliveries: null, more: null, error: null, gone: false };
  let sheet = null;
  let node = null;
  let closed = false;
  let turn = 0;
  const redraw = () => !closed && draw(root, view());

  async function read() {
    const mine = ++turn;
    try {
      const job = await api.get(address);
      if (closed || mine !== turn) return;
      const before = state.job;
      Object.assign(state, { job, error: null });
      if (!sheet && job.document && job.state !== "expired") sheet = paper(stored(job));
      redraw();
      const ended = ["succeeded", "failed"].includes(job.state);
      if (!ended) Object.assign(state, { result: null, resultError: null });
      else if (!state.result || before?.updated !== job.updated) await readResult();
      await readDeliveries();
    } catch (error) {
      if (closed || mine !== turn) return;
      state.error = error;
      redraw();
    }
  }

  async function readResult() {
    try {
      const result = await api.get(`${address}/result`);
      if (closed) return;
      if (JSON.stringify(result) !== JSON.stringify(state.result)) {
        state.result = result;
        node = answers(result, sheet);
      }
      state.resultError = null;
    } catch (error) {
      // A failed job's result may be its problem.
      state.resultError = state.job?.error ? null : error;
    }
    redraw();
  }

  async function readDeliveries() {
    try {
      const page = await api.get(api.path("/v1/deliveries", { job: id, limit: 100 }));
      if (closed) return;
      Object.assign(state, { deliveries: page.deliveries, more: page.next });
    } catch (error) {
      state.deliveries = error.status === 404 ? [] : state.deliveries;
    }
    redraw();
  }

  const again = paced(300, () => !state.gone && read());
  const late = paced(800, () => !state.gone && readDeliveries());
  const ends = [
    live.on("job", (event) => event.id === id && again()),
    live.on("delivery", (event) => event.job === id && late()),
    live.on("missed", () => again()),
    live.on("state", (now) => now === "live" && again()),
  ];
  const tick = setInterval(() => state.job && !state.job.finished && redraw(), 1000);

  async function command(verb, said) {
    try {
      await api.post(`${address}/${verb}`);
      toast(said);
      read();
    } catch (error) {
      state.error = error;
      redraw();
    }
  }

  const erase = async () => {
    const done = await ask({
      title: "Delete this job?",
      action: "Delete",
      danger: true,
      body: h("p", {}, "Its document, its result and its deliveries are erased for good. A line in the audit stays."),
      work: () => api.remove(address),
    });
    if (!done) return;
    state.gone = true;
    toast("The job is deleted");
    location.hash = "#/jobs";
  };

  function view() {
    const back = h("p", { class: "crumbs" }, link("/jobs", "Jobs"));
    const { job } = state;
    if (!job) return [back, h("h1", { tabindex: "-1" }, "Job"), state.error ? problem(state.error, read) : loading("the job")];
    const open = ["queued", "running", "waiting"].includes(job.state);
    return [
      back,
      h(
        "header",
        { class: "head row" },
        h("h1", { tabindex: "-1" }, integration(job.integration)),
        badge(job.state),
        h("span", { class: "spring" }),
        h(
          "div",
          { class: "row actions" },
          open && h("button", { type: "button", onclick: () => command("cancel", "The job is cancelled") }, "Cancel"),
          ["failed", "cancelled"].includes(job.state) &&
            h("button", { type: "button", onclick: () => command("retry", "The job is queued again") }, icon("again"), "Retry"),
          h("button", { type: "button", class: "danger quiet", onclick: erase }, icon("trash"), "Delete"),
        ),
      ),
      state.error && problem(state.error, read),
      facts(job),
      job.error && problem(job.error),
      h(
        "section",
        { class: "card", "aria-labelledby": "times", key: "times" },
        h("h2", { id: "times" }, "Time"),
        waterfall("Where the job's time went", rows(job, state.result)),
        state.deliveries?.length > 0 && [
          h("h3", {}, "Deliveries, from the job's end"),
          waterfall("The tries of its deliveries", sent(job, state.deliveries)),
        ],
      ),
      h(
        "div",
        { class: "beside", key: "beside" },
        sheet
          ? keep(sheet.node)
          : h(
              "p",
              { class: "card quiet note", key: "no-document" },
              job.state === "expired" ? "The document was erased with its retention." : "No document is kept for this job.",
            ),
        node
          ? keep(node)
          : h(
              "div",
              { class: "card", key: "no-answer" },
              state.resultError
                ? problem(state.resultError, readResult)
                : job.state === "expired"
                  ? h("p", { class: "quiet" }, "The result has expired.")
                  : open
                    ? loading("the answer, when it is there")
                    : h("p", { class: "quiet" }, "There is no answer."),
            ),
      ),
      attemptsOf(job).length > 0 &&
        h(
          "section",
          { "aria-labelledby": "attempts", key: "attempts" },
          h("h2", { id: "attempts" }, "Attempts"),
          table(
            "Attempts",
            attempts,
            attemptsOf(job).map((attempt, index) => ({ ...attempt, number: index + 1 })),
            (attempt) => attempt.number,
          ),
        ),
      h(
        "section",
        { "aria-labelledby": "deliveries", key: "deliveries" },
        h("h2", { id: "deliveries" }, "Deliveries"),
        !state.deliveries
          ? loading("the deliveries")
          : state.deliveries.length
            ? deliveryList(state.deliveries, { withJob: false, onreplay: (one) => replayOne(one, readDeliveries) })
            : empty("This job has no deliveries", "Its result is read here or by polling. An integration's deliver says where results go."),
        state.more && h("p", {}, link(`/deliveries?job=${encodeURIComponent(id)}`, "All deliveries of this job")),
      ),
    ];
  }

  read();
  redraw();
  return {
    update() {},
    close() {
      closed = true;
      again.stop();
      late.stop();
      clearInterval(tick);
      ends.forEach((end) => end());
      sheet?.close();
    },
  };
}

function facts(job) {
  const fact = (label, ...value) => h("div", {}, h("dt", {}, label), h("dd", {}, value));
  return h(
    "dl",
    { class: "facts card" },
    fact("Job", h("span", { class: "mono wrap" }, job.id), copy(job.id, "Copy the job's id")),
    job.request_id &&
      fact("Request", h("bdi", { class: "mono wrap" }, visible(job.request_id)), copy(job.request_id, "Copy the request's id")),
    job.caller !== undefined && fact("Caller", name(job.caller, 60)),
    fact("Accepted", time(job.created), " ", h("span", { class: "quiet" }, since(job.created))),
    fact(
      "Ended",
      job.finished
        ? [time(job.finished), " ", h("span", { class: "quiet" }, `after ${millis(new Date(job.finished) - new Date(job.created))}`)]
        : job.next_attempt
          ? ["next attempt ", since(job.next_attempt)]
          : "–",
    ),
    fact("Attempts", `${job.attempts} of ${job.max_attempts}`),
    job.document &&
      fact(
        "Document",
        job.document.file_name ? name(job.document.file_name, 60) : "without a name",
        " ",
        h("span", { class: "quiet" }, [job.document.media_type, bytes(job.document.size)].filter(Boolean).join(" · ")),
      ),
    job.expires && fact(new Date(job.expires) > new Date() ? "Kept until" : "Erased", time(job.expires)),
    job.traceparent && fact("Trace", h("span", { class: "mono wrap" }, job.traceparent.split("-")[1] ?? job.traceparent)),
  );
}

const attempts = [
  { title: "Attempt", class: "figure", cell: (attempt) => String(attempt.number) },
  { title: "Started", cell: (attempt) => time(attempt.started) },
  {
    title: "Took",
    class: "figure",
    cell: (attempt) => (attempt.ended ? millis(new Date(attempt.ended) - new Date(attempt.started)) : "–"),
  },
  {
    title: "Outcome",
    class: "grow",
    cell: (attempt) => [
      attempt.outcome ?? "running",
      attempt.code && [
        " · ",
        h("a", { href: `/problems/${encodeURIComponent(attempt.code)}`, target: "_blank", rel: "noopener" }, attempt.code),
      ],
    ],
  },
];
