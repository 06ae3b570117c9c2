// Deliveries in a list, each with its tries.

import * as api from "./api.js";
import { h, icon } from "./dom.js";
import { many, millis } from "./format.js";
import { ask, badge, integration, link, modal, problem, shortId, since, time, toast } from "./parts.js";
import { name, visible } from "./text.js";

const SIGNS = { webhook: "webhook", email: "email", http: "http", file: "file", kafka: "kafka", kinesis: "kafka" };

/// The icon of a kind of channel.
export const sign = (kind) => icon(SIGNS[kind] ?? "deliveries");

/// Deliveries, each of which opens to its tries. `endpoints`: what is known of where they go.
export function deliveryList(deliveries, { withJob = true, endpoints = [], onreplay, ongiveup }) {
  return h(
    "ul",
    { class: "deliveries-list" },
    deliveries.map((one) =>
      h(
        "li",
        { key: one.id, class: "card" },
        h(
          "div",
          { class: "row" },
          badge(one.state),
          sign(one.kind),
          h(
            "span",
            { class: "to" },
            withJob && [integration(one.integration), " / "],
            name(one.channel, 40),
            h("span", { class: "quiet" }, " → "),
            name(one.receiver, 60),
          ),
          h("span", { class: "spring" }),
          h(
            "span",
            { class: "quiet" },
            one.state === "pending" ? next(one, endpoints) : since(one.updated),
          ),
          onreplay &&
            ["dead", "delivered", "pending"].includes(one.state) &&
            h(
              "button",
              {
                type: "button",
                class: "small",
                disabled: one.superseded,
                title: one.superseded ? "its job was retried since: this result is no longer there" : null,
                onclick: () => onreplay(one),
              },
              icon("again"),
              one.state === "pending" ? "Try now" : "Replay",
            ),
          ongiveup &&
            ["pending", "sending", "paused"].includes(one.state) &&
            h("button", { type: "button", class: "small", onclick: () => ongiveup(one) }, "Give up"),
        ),
        one.reason && one.state !== "delivered" && h("p", { class: "reason" }, h("bdi", {}, visible(one.reason))),
        h(
          "details",
          {},
          h("summary", {}, many((one.tries ?? []).length, "try", "tries"), h("span", { class: "quiet" }, " · made ", time(one.created))),
          h(
            "dl",
            { class: "ids" },
            h("div", {}, h("dt", {}, "Delivery"), h("dd", { class: "mono wrap" }, one.id)),
            withJob && h("div", {}, h("dt", {}, "Job"), h("dd", {}, link(`/jobs/${encodeURIComponent(one.job)}`, shortId(one.job)))),
          ),
          (one.tries ?? []).length
            ? h(
                "ol",
                { class: "tries" },
                one.tries.map((attempt) =>
                  h(
                    "li",
                    {},
                    badge(attempt.outcome),
                    time(attempt.at),
                    h("span", { class: "figure" }, millis(attempt.took_ms)),
                    attempt.status ? h("span", { class: "figure" }, String(attempt.status)) : null,
                    h("bdi", { class: "detail" }, visible(attempt.detail ?? "")),
                  ),
                ),
              )
            : h("p", { class: "quiet" }, "not tried yet"),
        ),
      ),
    ),
  );
}

/// What a pending one waits for.
function next(one, endpoints) {
  if (new Date(one.due) > Date.now()) return [one.attempts > 0 ? "next try " : "first try ", since(one.due)];
  const to = endpoints.find((endpoint) => endpoint.integration === one.integration && endpoint.channel === one.channel);
  const why =
    to?.configured === false
      ? "due, but its channel is not configured"
      : to?.breaker === "open"
        ? "due, waits until its receiver answers again"
        : "due, waits for its receiver";
  return h("time", { datetime: one.due, title: `due since ${one.due}` }, why);
}

/// Sends one again, after a question where it had arrived.
export async function replayOne(one, then) {
  const work = () => api.post(`/v1/deliveries/${encodeURIComponent(one.id)}/replay`);
  if (one.state === "delivered") {
    const done = await ask({
      title: "Send it again?",
      action: "Send again",
      work,
      body: h("p", {}, "The receiver has it already. It gets the same result again, under the same id."),
    });
    if (!done) return;
  } else {
    try {
      await work();
    } catch (error) {
      failed("The replay failed", error);
      return;
    }
  }
  toast(one.state === "pending" ? "It is tried now" : "It is sent again");
  then();
}

/// Gives one up, after a question.
export async function giveUp(one, then) {
  const done = await ask({
    title: "Give this delivery up?",
    action: "Give up",
    danger: true,
    body: h("p", {}, "It becomes a dead letter and is not tried again by itself. It can be replayed later."),
    work: () => api.post(`/v1/deliveries/${encodeURIComponent(one.id)}/give-up`),
  });
  if (!done) return;
  toast("It is given up");
  then();
}

function failed(title, error) {
  modal(title, h("div", {}, problem(error)));
}
