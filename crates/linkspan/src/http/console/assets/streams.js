// Streams: what reads them, and how that goes.

import * as api from "./api.js";
import * as live from "./live.js";
import { draw, h, paced } from "./dom.js";
import { count, percent, rate, seconds } from "./format.js";
import { badge, empty, integration, link, loading, problem, since, table } from "./parts.js";
import { name, visible } from "./text.js";
import { to } from "./route.js";

export const title = () => "Streams";

export function open(root) {
  const state = { streams: null, error: null };
  let closed = false;
  const redraw = () => !closed && draw(root, view(state, read));
  async function read() {
    try {
      state.streams = (await api.get("/v1/streams")).streams;
      state.error = null;
    } catch (error) {
      state.error = error;
    }
    redraw();
  }
  const again = paced(2000, read);
  // The overview changes when the figures of a stream do.
  const ends = [live.on("overview", () => again()), live.on("state", (now) => now === "live" && again())];
  read();
  redraw();
  return {
    close() {
      closed = true;
      again.stop();
      ends.forEach((end) => end());
    },
  };
}

function view({ streams, error }, read) {
  return [
    h("h1", { tabindex: "-1" }, "Streams"),
    error && problem(error, read),
    !streams
      ? !error && loading("the streams")
      : streams.length
        ? table("Streams", columns, streams, (one) => one.integration)
        : empty(
            "No integration that you may read reads a stream",
            'One does with pattern = "stream-in" or "full-stream" and a source, such as source = { kinesis = "reviews" }.',
          ),
  ];
}

const columns = [
  { title: "State", cell: (one) => badge(one.state, STATES[one.state]) },
  { title: "Stream", class: "main", cell: (one) => link(to(["streams", one.integration]), integration(one.integration)) },
  { title: "Reads", class: "grow", cell: (one) => source(one.source) },
  { title: "Records", class: "figure", cell: (one) => `${rate(one.rate)}/s` },
  { title: "Errors", class: "figure", cell: (one) => h("span", { class: one.error_share > 0 ? "bad" : null }, percent(one.error_share)) },
  { title: "Lag", class: "figure", cell: (one) => lag(one.lag) },
  { title: "In flight", class: "figure", cell: (one) => count(one.in_flight) },
  { title: "Dead", class: "figure", cell: (one) => (one.dead ? h("b", { class: "bad" }, count(one.dead)) : "0") },
  { title: "Since", cell: (one) => since(one.since) },
];

/// A reading's states, in words for people.
export const STATES = { starting: "starting", reading: "reading", waiting: "begins again", stopped: "stopped" };

const KINDS = { own: "own Kinesis stream", kinesis: "Amazon Kinesis", kafka: "Kafka" };

/// What a stream reads.
export const source = (one) =>
  h(
    "span",
    { class: "row tight source" },
    name(one.name, 50),
    h("span", { class: "quiet" }, [KINDS[one.kind] ?? one.kind, one.cluster ?? one.region].filter(Boolean).map(visible).flatMap((part, at) => (at ? [" · ", ...part] : part))),
  );

/// How far behind its source a reading is.
export function lag(one) {
  if (!one) return "–";
  const parts = [];
  if (one.records !== undefined) parts.push(`${count(one.records)} ${one.records === 1 ? "record" : "records"}`);
  if (one.seconds !== undefined) parts.push(seconds(one.seconds));
  return parts.join(" · ") || "–";
}
