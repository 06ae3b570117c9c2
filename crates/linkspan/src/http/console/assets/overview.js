// The overview: the four patterns as in the article, with the integrations of this gateway at work on them.

import * as live from "./live.js";
import { draw, h, icon } from "./dom.js";
import { count, millis, percent, rate, seconds, words } from "./format.js";
import { spark } from "./charts.js";
import { integration as named, loading } from "./parts.js";
import { PATTERNS, drawing, wire } from "./patterns.js";
import { lag } from "./streams.js";
import { visible } from "./text.js";

const SLOTS = 60;
const history = new Map();
let latest = null;

// Sampled every second, also while another page is shown: what does not change is not sent again.
live.on("overview", (data) => {
  latest = data;
});
setInterval(() => {
  if (!latest || live.liveState() !== "live") return;
  for (const one of latest.integrations) {
    const values = history.get(one.name) ?? [];
    values.push(one.rate ?? 0);
    if (values.length > SLOTS) values.shift();
    history.set(one.name, values);
  }
}, 1000);

/// Forgets what was shown: somebody else may be here next.
export function forget() {
  latest = null;
  history.clear();
}

export const title = () => "Overview";

export function open(root) {
  const redraw = () => {
    draw(root, view(latest));
    rewire();
  };
  const rewire = () => {
    for (const node of root.querySelectorAll(".drawing"))
      wire(
        node,
        PATTERNS.find((pattern) => node.classList.contains(pattern.name)),
      );
  };
  const sized = new ResizeObserver(rewire);
  sized.observe(root);
  const ends = [live.on("overview", redraw), live.on("state", redraw)];
  const tick = setInterval(redraw, 1000);
  redraw();
  return {
    close: () => {
      ends.forEach((end) => end());
      clearInterval(tick);
      sized.disconnect();
    },
  };
}

function view(data) {
  const head = h("h1", { tabindex: "-1" }, "Overview");
  if (!data) return [head, loading("the gateway's figures")];
  const drawn = PATTERNS.map((pattern) => ({ pattern, at: data.integrations.filter((one) => one.pattern === pattern.name) }));
  return [
    head,
    attention(data),
    summary(data),
    drawn.map(({ pattern, at }, index) => section(pattern, index + 1, at, data.endpoints ?? [])),
  ];
}

function attention(data) {
  const notes = [];
  if (!data.accepting) notes.push(["bad", "The gateway does not accept new work", data.reason ? `: ${data.reason}` : "", "."]);
  for (const one of data.integrations) {
    if (one.stream?.state !== "waiting") continue;
    const where = h("a", { href: `#/streams/${encodeURIComponent(one.name)}` }, named(one.name));
    notes.push(["bad", where, " does not read its stream: ", h("bdi", {}, visible(one.stream.reason ?? ""))]);
  }
  for (const endpoint of data.endpoints ?? []) {
    const where = () =>
      h(
        "a",
        { href: `#/deliveries?${new URLSearchParams({ integration: endpoint.integration, channel: endpoint.channel })}` },
        h("bdi", {}, visible(`${endpoint.integration}/${endpoint.channel}`)),
      );
    if (endpoint.paused)
      notes.push(["warn", where(), " is paused: ", h("bdi", {}, visible(endpoint.paused.reason || "no reason was given"))]);
    else if (endpoint.breaker === "open") notes.push(["bad", where(), " does not answer; its deliveries wait."]);
    if (endpoint.dead > 0) notes.push(["bad", where(), ` has ${count(endpoint.dead)} dead ${endpoint.dead === 1 ? "letter" : "letters"}.`]);
  }
  if (!notes.length) return null;
  return h(
    "section",
    { class: "attention", key: "attention", "aria-label": "What needs attention" },
    h(
      "ul",
      {},
      notes.map(([tone, ...text]) => h("li", { class: tone }, icon("alert"), h("span", {}, text))),
    ),
  );
}

function summary(data) {
  const all = data.integrations;
  const sum = (pick) => all.reduce((total, one) => total + (pick(one) ?? 0), 0);
  const calls = sum((one) => one.count);
  const errors = calls ? sum((one) => one.count * one.error_share) / calls : 0;
  const oldest = Math.max(...all.map((one) => one.oldest_waiting_s ?? -1), -1);
  // Only an integration's administrators are told how many deliveries there are.
  const endpoints = data.endpoints ?? [];
  const told = endpoints.filter((one) => one.dead !== undefined);
  const dead = told.reduce((total, one) => total + one.dead, 0);
  const open = told.reduce((total, one) => total + one.pending + one.sending + one.held, 0);
  // Others share the store, and with it the jobs and the deliveries; calls are counted by each for itself.
  const here = data.shared ? ", this gateway" : "";
  const tile = (label, value, note, tone, href) =>
    h(
      href ? "a" : "div",
      { class: `tile ${tone ?? ""}`, href },
      h("span", { class: "label" }, label),
      h("span", { class: "value" }, value),
      h("span", { class: "note" }, note),
    );
  return h(
    "section",
    { class: "tiles", key: "summary", "aria-label": "The gateway now" },
    tile(
      "Gateway",
      data.accepting ? "accepting" : "not accepting",
      h("bdi", { title: `${data.host} ${data.listen}` }, [data.host, data.listen].filter(Boolean).join(" · ")),
      data.accepting ? "good" : "bad",
    ),
    tile(`Calls${here}`, `${rate(sum((one) => one.rate))}/s`, `${count(calls)} in the last ${data.window_s} s`),
    tile(`Errors${here}`, percent(errors), calls ? "of these calls" : "no calls to judge by", errors >= 0.05 ? "bad" : errors > 0 ? "warn" : ""),
    tile(
      "Jobs",
      count(sum((one) => one.queued + one.running + one.waiting)),
      `${count(sum((one) => one.running))} running · oldest waits ${oldest < 0 ? "–" : seconds(oldest)}`,
      "",
      "#/jobs",
    ),
    tile(
      "Deliveries",
      endpoints.length && !told.length ? "–" : count(open),
      endpoints.length && !told.length ? "your own are in the list" : dead ? `${count(dead)} dead` : "none dead",
      dead ? "bad" : "",
      dead ? "#/deliveries?state=dead" : "#/deliveries",
    ),
  );
}

function section(pattern, order, integrations, endpoints) {
  const names = new Set(integrations.map((one) => one.name));
  const kinds = new Map();
  for (const one of integrations)
    for (const channel of one.deliver ?? []) if (!kinds.has(channel.kind)) kinds.set(channel.kind, { open: 0, dead: 0 });
  for (const endpoint of endpoints) {
    const tally = names.has(endpoint.integration) && kinds.get(endpoint.kind);
    if (!tally || endpoint.dead === undefined) continue;
    tally.open += endpoint.pending + endpoint.sending + endpoint.held;
    tally.dead += endpoint.dead;
  }
  const some = integrations.length > 0;
  const total = (pick) => integrations.reduce((sum, one) => sum + (pick(one) ?? 0), 0);
  const oldest = Math.max(...integrations.map((one) => one.oldest_waiting_s ?? -1), -1);
  const streams = integrations.map((one) => one.stream).filter(Boolean);
  return h(
    "section",
    { class: `pattern card${some ? "" : " dim"}`, key: pattern.name, "aria-labelledby": `pattern-${pattern.name}` },
    h(
      "header",
      {},
      h("h2", { id: `pattern-${pattern.name}` }, h("span", { class: "order" }, String(order)), pattern.title),
      h("p", {}, pattern.says),
    ),
    drawing(pattern, {
      kinds,
      reads: reads(streams),
      flows: some ? total((one) => one.rate) > 0 || total((one) => one.running) > 0 : undefined,
      figures:
        some &&
        h(
          "dl",
          { class: "depth" },
          streams.length
            ? [
                figure("in flight", count(streams.reduce((sum, one) => sum + one.in_flight, 0))),
                figure("lag", lag(behind(streams))),
                figure("dead", count(streams.reduce((sum, one) => sum + one.dead, 0))),
              ]
            : [
                figure("queued", count(total((one) => one.queued + one.waiting))),
                figure("running", count(total((one) => one.running))),
                figure("oldest", oldest < 0 ? "–" : seconds(oldest)),
              ],
        ),
      service: [h("h3", {}, "AI service"), some ? h("ul", { class: "ships" }, integrations.map(ship)) : h("p", {}, pattern.none)],
    }),
  );
}

/// What the streams of a pattern are read from, in a word.
function reads(streams) {
  const kinds = new Set(streams.map((one) => (one.source.kind === "kafka" ? "Kafka" : "Kinesis")));
  return kinds.size > 1 ? "Kinesis, Kafka" : [...kinds][0];
}

/// The lag of several streams: the records summed, the longest time.
function behind(streams) {
  const known = streams.map((one) => one.lag).filter(Boolean);
  const all = (pick) => known.map(pick).filter((value) => value !== undefined);
  const [records, times] = [all((one) => one.records), all((one) => one.seconds)];
  return {
    records: records.length ? records.reduce((sum, one) => sum + one, 0) : undefined,
    seconds: times.length ? Math.max(...times) : undefined,
  };
}

const figure = (label, value, tone) => h("div", { class: tone }, h("dt", {}, label), h("dd", {}, value));

function ship(one) {
  const values = history.get(one.name) ?? [];
  const name = named(one.name);
  return h(
    "li",
    { key: one.name },
    h(
      "div",
      { class: "row" },
      one.stream
        ? h("a", { class: "strong", href: `#/streams/${encodeURIComponent(one.name)}` }, name)
        : one.may_invoke
          ? h("a", { class: "strong", href: `#/try?${new URLSearchParams({ integration: one.name })}` }, name)
          : h("span", { class: "strong" }, name),
      h(
        "span",
        { class: "steps" },
        one.steps.map((step) => h("span", { class: "step", title: `service ${step.service}` }, words(step.task))),
      ),
      h(
        "span",
        { class: "aside row" },
        spark(values, { label: `calls a second, the last ${values.length} s` }),
        h(
          "a",
          { class: "quiet", href: `#/jobs?${new URLSearchParams({ integration: one.name })}`, "aria-label": `Jobs of ${one.name}` },
          "jobs",
        ),
      ),
    ),
    h(
      "dl",
      { class: "figures" },
      figure(one.stream ? "records" : "calls", `${rate(one.rate)}/s`),
      figure("errors", percent(one.error_share), one.error_share >= 0.05 ? "bad" : one.error_share > 0 ? "warn" : ""),
      figure("p50", millis(one.p50_ms)),
      figure("p99", millis(one.p99_ms), one.p99_ms > one.deadline_s * 1000 && one.pattern === "sync" ? "bad" : ""),
      one.stream
        ? [figure("lag", lag(one.stream.lag)), figure("in flight", count(one.stream.in_flight))]
        : [
            figure("queue", count((one.queued ?? 0) + (one.waiting ?? 0))),
            figure("oldest", one.oldest_waiting_s === null || one.oldest_waiting_s === undefined ? "–" : seconds(one.oldest_waiting_s)),
          ],
    ),
  );
}
