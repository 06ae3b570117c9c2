// One stream: how its reading goes, the labels over time, the latest results, and the dead letters with their replay.

import * as api from "./api.js";
import * as live from "./live.js";
import { draw, h, icon, paced } from "./dom.js";
import { bytes, count, percent, rate, words } from "./format.js";
import { deadLetters, replayMany } from "./deadletters.js";
import { Pages, filters } from "./lists.js";
import { chart, mixed } from "./mix.js";
import { badge, empty, integration, link, loading, problem, segments, select, shortId, since, table, time } from "./parts.js";
import { STATES, lag, source } from "./streams.js";
import { name, plain, visible } from "./text.js";

/// How far back the label mix looks: hours, and what it is called.
const SPANS = [
  ["1", "1 h"],
  ["6", "6 h"],
  ["24", "1 day"],
  ["168", "7 days"],
];
const RESULTS = 15;
const LETTERS = 10;

export const title = (route) => `Stream ${plain(route.parts[1] ?? "").slice(0, 60)}`;

export function open(root, context) {
  let route = context.route;
  const id = route.parts[1];
  const address = `/v1/streams/${encodeURIComponent(id)}`;
  const state = { stream: null, labels: null, results: null, letters: null, span: "1", service: "", errors: {}, committed: null };
  const pages = new Pages();
  const listed = deadLetters();
  const scopes = context.session.scopes ?? [];
  const may = context.admin || scopes.includes(`admin:${id}`);
  let closed = false;
  const turns = {};
  const redraw = () => !closed && draw(root, view());

  /// Reads one part of the page. What was asked for later goes before what comes later.
  async function part(which, target) {
    const mine = (turns[which] = (turns[which] ?? 0) + 1);
    try {
      const found = await api.get(target());
      if (closed || mine !== turns[which]) return;
      state[which] = found;
      delete state.errors[which];
    } catch (error) {
      if (closed || mine !== turns[which]) return;
      state.errors[which] = error;
    }
    redraw();
  }
  const readStream = () => part("stream", () => address);
  const readLabels = () =>
    part("labels", () => api.path(`${address}/labels`, { from: new Date(Date.now() - Number(state.span) * 3_600_000).toISOString() }));
  const readResults = () => part("results", () => api.path("/v1/results", { limit: RESULTS, ...route.query, integration: id }));
  const readLetters = () => part("letters", () => api.path("/v1/results", { limit: LETTERS, integration: id, status: "failed" }));
  const stored = () => state.stream?.pattern !== "full-stream";
  const all = () => {
    readStream();
    readLabels();
    readResults();
    readLetters();
  };
  const figures = paced(1000, readStream);
  const outcome = paced(1500, () => {
    if (!stored()) return;
    // A page that somebody reads stays as it is.
    if (!route.query.after) readResults();
    readLetters();
  });
  const mix = paced(15_000, readLabels);
  const ends = [
    live.on("overview", (data) => {
      figures();
      const now = data.integrations.find((one) => one.name === id)?.stream?.committed;
      if (now === state.committed) return;
      state.committed = now;
      outcome();
      mix();
    }),
    live.on("job", (event) => event.integration === id && outcome()),
    live.on("missed", () => outcome()),
    live.on("state", (now) => now === "live" && all()),
  ];
  const tick = setInterval(() => {
    mix();
    redraw();
  }, 10_000);

  function view() {
    const crumbs = h("p", { class: "crumbs" }, link("/streams", "Streams"));
    const { stream, errors } = state;
    if (!stream)
      return [crumbs, h("h1", { tabindex: "-1" }, integration(id)), errors.stream ? problem(errors.stream, all) : loading("the stream")];
    return [
      crumbs,
      h(
        "header",
        { class: "head row" },
        h("h1", { tabindex: "-1" }, integration(stream.integration)),
        badge(stream.state, STATES[stream.state]),
        h("span", { class: "quiet" }, since(stream.since)),
      ),
      errors.stream && problem(errors.stream, readStream),
      stream.reason &&
        h(
          "section",
          { class: "attention", key: "reason", "aria-label": "Why it does not read" },
          h("ul", {}, h("li", { class: "bad" }, icon("alert"), h("bdi", { class: "wrap" }, visible(stream.reason)))),
        ),
      tiles(stream, context.latest()?.integrations.find((one) => one.name === id)?.stream?.failed),
      facts(stream),
      lanes(stream.lanes ?? []),
      stored() ? [labels(), results(), letters()] : elsewhere(stream),
    ];
  }

  function labels() {
    const services = [...new Set((state.labels?.counts ?? []).map((one) => one.service))].sort();
    const service = services.includes(state.service) ? state.service : services[0];
    const shownMix = service && mixed(state.labels, service);
    return h(
      "section",
      { class: "card", key: "labels", "aria-labelledby": "labels" },
      h(
        "header",
        { class: "row" },
        h("h2", { id: "labels" }, "Labels over time"),
        h("span", { class: "spring" }),
        services.length > 1 &&
          select(
            services.map((one) => [one, one]),
            service,
            {
              "aria-label": "The service that gives the labels",
              onchange: (event) => {
                state.service = event.target.value;
                redraw();
              },
            },
          ),
        segments("How far back", SPANS, state.span, (span) => {
          state.span = span;
          state.labels = null;
          redraw();
          readLabels();
        }),
      ),
      state.errors.labels && problem(state.errors.labels, readLabels),
      !state.labels
        ? !state.errors.labels && loading("the labels")
        : shownMix?.total
          ? chart(shownMix, `Labels of ${plain(service)} by time`)
          : h("p", { class: "quiet" }, "No label came out in this time."),
    );
  }

  function results() {
    const parts = ["streams", id];
    const { query } = route;
    const page = state.results;
    return h(
      "section",
      { key: "results", "aria-labelledby": "results" },
      h("h2", { id: "results" }, "Latest results"),
      filters(parts, query, [
        { name: "q", label: "Contains", placeholder: "any text of a result", class: "wide" },
        {
          name: "status",
          label: "Status",
          options: [
            ["succeeded", "succeeded"],
            ["failed", "failed"],
          ],
        },
        { name: "record", label: "Record", placeholder: "where it stood, exactly" },
        { name: "from", label: "From", type: "datetime-local" },
        { name: "until", label: "Until", type: "datetime-local" },
      ]),
      state.errors.results && problem(state.errors.results, readResults),
      !page
        ? !state.errors.results && loading("the results")
        : page.results.length
          ? table("Results, newest first", columns, page.results, (one) => one.id)
          : page.next
            ? empty("None of those that were looked at fits", "Older ones were not looked at yet: go on with Older.")
            : empty(
                Object.values(query).some(Boolean) ? "No result fits" : "No result yet",
                "A result is kept for each record, for as long as the integration's retention says.",
              ),
      page && pages.view(parts, query, page.next),
    );
  }

  const letters = () =>
    h(
      "section",
      { key: "letters", "aria-labelledby": "letters" },
      h(
        "header",
        { class: "head row" },
        h("h2", { id: "letters" }, "Dead letters"),
        h("span", { class: "spring" }),
        may && h("button", { type: "button", onclick: () => replayMany(id, readLetters) }, icon("again"), "Replay many…"),
      ),
      state.errors.letters && problem(state.errors.letters, readLetters),
      !state.letters
        ? !state.errors.letters && loading("the dead letters")
        : state.letters.results.length || state.letters.next
          ? [
              listed(state.letters.results, (one) => may || !one.record, () => outcome()),
              state.letters.next &&
                h("p", {}, link(`/streams/${encodeURIComponent(id)}?status=failed`, "More of them are among the results")),
            ]
          : empty("No dead letters", "A record that cannot be worked on comes here with its bytes and the reason; the stream goes on."),
    );

  all();
  redraw();
  return {
    update(next) {
      route = next;
      state.results = null;
      redraw();
      readResults();
    },
    close() {
      closed = true;
      [figures, outcome, mix].forEach((one) => one.stop());
      clearInterval(tick);
      ends.forEach((end) => end());
    },
  };
}

/// `failed`: how many dead letters are kept, where that is known.
function tiles(stream, failed) {
  const { deliveries } = stream;
  const open = deliveries.pending + deliveries.sending + deliveries.held;
  const tile = (label, value, note, tone, href) =>
    h(
      href ? "a" : "div",
      { class: `tile ${tone ?? ""}`, href },
      h("span", { class: "label" }, label),
      h("span", { class: "value" }, value),
      h("span", { class: "note" }, note),
    );
  const to = (state) => `#/deliveries?${new URLSearchParams({ integration: stream.integration, ...(state && { state }) })}`;
  return h(
    "section",
    { class: "tiles", key: "tiles", "aria-label": "The stream now" },
    tile("Records", `${rate(stream.rate)}/s`, `${count(stream.committed)} committed`),
    tile("Errors", percent(stream.error_share), "of the last minute's tries", stream.error_share > 0 ? "warn" : ""),
    tile("Lag", lag(stream.lag), stream.lag ? "not read yet" : "not known here"),
    tile("In flight", count(stream.in_flight), `${bytes(stream.in_flight_bytes)} · ${count(stream.limit)} calls at once`),
    tile("Dead letters", count(failed || stream.dead), `${count(stream.dead)} since the start`, failed || stream.dead ? "bad" : ""),
    tile("Deliveries", count(open), deliveries.dead ? `${count(deliveries.dead)} dead` : "none dead", deliveries.dead ? "bad" : "", to(deliveries.dead && "dead")),
  );
}

function facts(stream) {
  const fact = (label, ...value) => h("div", {}, h("dt", {}, label), h("dd", {}, value));
  return h(
    "dl",
    { class: "facts card", key: "facts" },
    fact("Reads", source(stream.source)),
    fact("Pattern", stream.pattern),
    fact("Reading", h("span", { class: "mono wrap" }, visible(stream.stream))),
    fact("Taken", count(stream.taken)),
    fact("Commits", count(stream.commits)),
    fact("Tried again", count(stream.retried)),
  );
}

function lanes(all) {
  return h(
    "section",
    { key: "lanes", "aria-labelledby": "lanes" },
    h("h2", { id: "lanes" }, "Partitions and shards"),
    all.length
      ? table("Partitions and shards", laneColumns, all, (one) => one.lane)
      : h("p", { class: "card quiet note" }, "None was read yet."),
  );
}

const laneColumns = [
  { title: "Lane", class: "main", cell: (one) => name(one.lane, 60) },
  {
    title: "Read by",
    cell: (one) =>
      one.ended ? badge("delivered", "read to its end") : one.here ? badge("running", "this gateway") : one.owner ? badge("idle", "another gateway") : badge("idle", "nobody"),
  },
  { title: "Lag", class: "figure", cell: (one) => lag(one.lag) },
  { title: "Done up to", class: "grow", cell: (one) => h("span", { class: "cut mono", title: plain(one.progress ?? "") }, visible(one.progress ?? "–")) },
  { title: "Last commit", cell: (one) => since(one.updated) },
];

const columns = [
  { title: "Status", cell: (one) => badge(one.status) },
  { title: "Result", class: "main", cell: (one) => link(`/jobs/${encodeURIComponent(one.id)}`, shortId(one.id)) },
  { title: "Record", class: "main", cell: (one) => (one.record ? name(one.record, 32) : h("span", { class: "quiet" }, "a call")) },
  { title: "Taken", cell: (one) => h("span", { class: "pair" }, time(one.created), h("span", { class: "quiet" }, since(one.created))) },
  { title: "What came out", class: "grow", cell: (one) => gist(one.result) },
];

/// A result in a line: its labels, or why there are none.
function gist(result) {
  if (result.error) return h("span", { class: "cut bad" }, h("bdi", {}, visible(result.error.title ?? "")));
  const labels = Object.entries(result.answers ?? {}).flatMap(([service, answer]) => {
    const label = answer?.label ?? answer?.language ?? answer?.verdict;
    return typeof label === "string" ? [h("span", { class: "step", title: plain(service) }, visible(label.slice(0, 60)))] : [];
  });
  if (labels.length) return h("span", { class: "steps" }, labels);
  const text = Object.values(result.answers ?? {}).find((answer) => typeof answer?.text === "string")?.text;
  return text ? h("span", { class: "cut" }, h("bdi", {}, visible(text.slice(0, 200)))) : h("span", { class: "quiet" }, (result.steps ?? []).map((step) => words(step.task)).join(", "));
}

const elsewhere = (stream) =>
  h(
    "p",
    { class: "card note", key: "elsewhere" },
    "Results and dead letters of this stream are in Kafka, in the same transaction as its progress: nothing of them is kept here. ",
    h("bdi", {}, visible(stream.source.name)),
    " is read; the output topics are the integration's channels.",
  );
