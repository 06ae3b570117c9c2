// A job's time as a waterfall: waiting, attempts, the steps of the last one, and the tries of its deliveries.

import { h } from "./dom.js";
import { millis } from "./format.js";
import { name } from "./text.js";

/// A job's attempts, the one that is under way too.
export function attempts(job) {
  const ended = job.history ?? [];
  return job.state === "running" && job.started ? [...ended, { started: job.started }] : ended;
}

/// The rows of a job: `{label, from, until, tone, note, depth}` in milliseconds since it was accepted.
export function rows(job, result, now = Date.now()) {
  const zero = new Date(job.created).getTime();
  const at = (text) => new Date(text).getTime() - zero;
  const end = job.finished ? at(job.finished) : Math.max(0, now - zero);
  const tries = attempts(job);
  const found = [];
  let from = 0;
  for (const [index, attempt] of tries.entries()) {
    const started = at(attempt.started);
    const ended = attempt.ended ? at(attempt.ended) : end;
    found.push({ label: index ? "waiting" : "queued", from, until: started, tone: "idle" });
    const last = index === tries.length - 1;
    found.push({
      label: `attempt ${index + 1}`,
      from: started,
      until: ended,
      tone: tone(attempt),
      note: attempt.code ?? (attempt.ended ? (attempt.outcome === "succeeded" ? "" : attempt.outcome) : "running"),
    });
    if (last) {
      let step = started;
      for (const one of result?.steps ?? []) {
        found.push({ label: one.service, from: step, until: step + one.took_ms, tone: "step", note: one.engine, depth: 1 });
        step += one.took_ms;
      }
    }
    from = ended;
  }
  if (!tries.length || (!job.finished && job.state !== "running"))
    found.push({ label: tries.length ? "waiting" : "queued", from, until: end, tone: "idle" });
  return found;
}

/// The rows of a job's deliveries, from the job's end on.
export function sent(job, deliveries, now = Date.now()) {
  const zero = new Date(job.finished ?? job.created).getTime();
  return deliveries.flatMap((delivery) => {
    const end = delivery.finished ? new Date(delivery.finished).getTime() : now;
    return [
      { label: delivery.channel, from: new Date(delivery.created).getTime() - zero, until: end - zero, tone: "idle", note: delivery.state },
      ...(delivery.tries ?? []).slice(-12).map((one, index) => {
        const from = new Date(one.at).getTime() - zero;
        return {
          label: `try ${index + 1}`,
          from,
          until: from + one.took_ms,
          tone: one.outcome === "delivered" ? "good" : "bad",
          note: one.status ? String(one.status) : one.outcome,
          depth: 1,
        };
      }),
    ];
  });
}

/// Rows as a chart with one scale.
export function waterfall(label, all) {
  const start = Math.min(0, ...all.map((row) => row.from));
  const end = Math.max(...all.map((row) => row.until), start + 1);
  const place = (value) => `${(Math.max(0, value - start) / (end - start)) * 100}%`;
  return h(
    "div",
    { class: "waterfall", role: "table", "aria-label": label },
    all.map((row) =>
      h(
        "div",
        { class: `bar-row depth-${row.depth ?? 0}`, role: "row" },
        h("span", { class: "label", role: "rowheader" }, name(row.label, 30)),
        h(
          "span",
          { class: "lane", role: "cell", "aria-label": `from ${millis(row.from)} to ${millis(row.until)}` },
          h("i", {
            class: row.tone,
            style: { left: place(row.from), width: `max(3px, ${place(start + Math.max(0, row.until - row.from))})` },
          }),
        ),
        h("span", { class: "figure", role: "cell" }, millis(Math.max(0, row.until - row.from))),
        h("span", { class: "note quiet", role: "cell" }, row.note ? name(row.note, 40) : ""),
      ),
    ),
    h(
      "div",
      { class: "bar-row axis", "aria-hidden": "true" },
      h("span", { class: "label" }),
      h(
        "span",
        { class: "lane" },
        [0, 0.25, 0.5, 0.75, 1].map((share) =>
          h("span", { style: { left: `${share * 100}%` } }, millis(Math.round(share * (end - start)))),
        ),
      ),
      h("span", { class: "figure" }),
      h("span", { class: "note" }),
    ),
  );
}

function tone(attempt) {
  if (!attempt.ended) return "busy";
  return { succeeded: "good", cancelled: "idle" }[attempt.outcome] ?? "bad";
}
