// The mix of labels over time: a chart, and the table behind it.

import { h, s } from "./dom.js";
import { count, moment, percent } from "./format.js";
import { plain, visible } from "./text.js";

/// So many labels have a colour of their own; the rest is one.
const MOST = 7;
const TALL = 100;
const WIDE = 10;

/// Labels that mean good or bad look so.
const MEANING = { positive: "good", negative: "bad", neutral: "even", mixed: "warn", accepted: "good", rejected: "bad", review: "warn" };

/// What a chart of `service` shows of the counts of `GET /v1/streams/…/labels`: its steps with their counts by label, the labels by how
/// often they came, and the highest step.
export function mixed(view, service) {
  const length = view.step * 60_000;
  const begin = new Date(view.from).getTime();
  const steps = Math.max(1, Math.ceil((new Date(view.until).getTime() - begin) / length));
  const counts = view.counts.filter((one) => one.service === service);
  const totals = new Map();
  for (const one of counts) totals.set(one.label, (totals.get(one.label) ?? 0) + one.count);
  const ranked = [...totals].sort(([a, one], [b, other]) => other - one || (a < b ? -1 : 1));
  const shown = ranked.length > MOST + 1 ? ranked.slice(0, MOST) : ranked;
  const rest = ranked.slice(shown.length);
  let series = 0;
  const labels = shown.map(([label, total]) => ({ label, total, tone: MEANING[label] ?? `series-${++series}` }));
  if (rest.length) labels.push({ label: null, many: rest.length, total: rest.reduce((sum, [, total]) => sum + total, 0), tone: "rest" });
  const place = new Map(shown.map(([label], at) => [label, at]));
  const rows = Array.from({ length: steps }, (_, at) => ({
    at: new Date(begin + at * length).toISOString(),
    counts: labels.map(() => 0),
    total: 0,
  }));
  for (const one of counts) {
    const row = rows[Math.round((new Date(one.at).getTime() - begin) / length)];
    if (!row) continue;
    row.counts[place.get(one.label) ?? labels.length - 1] += one.count;
    row.total += one.count;
  }
  return { labels, rows, top: Math.max(...rows.map((row) => row.total), 0), total: labels.reduce((sum, one) => sum + one.total, 0) };
}

const said = (one) => (one.label === null ? `${one.many} others` : one.label);

/// The chart of a mix, with its legend and, on demand, its table.
export function chart(mix, title) {
  const { labels, rows, top, total } = mix;
  const ends = [0, 0.25, 0.5, 0.75, 1].map((share) => rows[Math.round(share * (rows.length - 1))]);
  return h(
    "figure",
    { class: "mix" },
    h(
      "div",
      { class: "plot" },
      h("span", { class: "most figure", "aria-hidden": "true" }, count(top)),
      s(
        "svg",
        {
          viewBox: `0 0 ${rows.length * WIDE} ${TALL}`,
          preserveAspectRatio: "none",
          role: "img",
          "aria-label": `${title}: ${labels.map((one) => `${plain(said(one))} ${count(one.total)}`).join(", ")}; the table below has all of it`,
        },
        rows.map((row, at) => bar(row, at, labels, top)),
      ),
    ),
    h(
      "div",
      { class: "times", "aria-hidden": "true" },
      ends.map((row) => h("span", {}, moment(row.at))),
    ),
    h(
      "ul",
      { class: "legend" },
      labels.map((one) =>
        h(
          "li",
          { key: `${one.label}` },
          h("i", { class: one.tone, "aria-hidden": "true" }),
          h("bdi", { class: "wrap" }, visible(said(one))),
          h("span", { class: "figure" }, count(one.total)),
          h("span", { class: "quiet figure" }, percent(one.total / total)),
        ),
      ),
    ),
    tabled(mix, title),
  );
}

function bar(row, at, labels, top) {
  if (!row.total) return null;
  let floor = TALL;
  return s(
    "g",
    {},
    s("title", {}, `${moment(row.at)}: ${labels.map((one, index) => `${plain(said(one))} ${count(row.counts[index])}`).join(", ")}`),
    // All of the step's height can be pointed at.
    s("rect", { class: "ground", x: at * WIDE, y: 0, width: WIDE, height: TALL }),
    labels.map((one, index) => {
      const height = (row.counts[index] / top) * TALL;
      if (!height) return null;
      floor -= height;
      return s("rect", { class: one.tone, x: at * WIDE + 1, y: floor.toFixed(2), width: WIDE - 2, height: height.toFixed(2) });
    }),
  );
}

/// What the reader opened stays open while the page draws itself anew.
let unfolded = false;

function tabled({ labels, rows }, title) {
  return h(
    "details",
    { open: unfolded, ontoggle: (event) => (unfolded = event.target.open) },
    h("summary", {}, "As a table"),
    h(
      "div",
      { class: "table scroll", role: "region", tabindex: "0", "aria-label": title },
      h(
        "table",
        {},
        h("caption", { class: "unseen" }, title),
        h(
          "thead",
          {},
          h("tr", {}, h("th", { scope: "col" }, "From"), labels.map((one) => h("th", { scope: "col", class: "figure" }, h("bdi", {}, visible(said(one)))))),
        ),
        h(
          "tbody",
          {},
          rows
            .filter((row) => row.total)
            .reverse()
            .map((row) =>
              h(
                "tr",
                { key: row.at },
                h("th", { scope: "row" }, h("time", { datetime: row.at }, moment(row.at))),
                row.counts.map((value) => h("td", { class: "figure" }, count(value))),
              ),
            ),
        ),
      ),
    ),
  );
}
