// Dead letters of a stream: records that could not be worked on, with why, their bytes, and their replay.

import * as api from "./api.js";
import { draw, h, icon, keep } from "./dom.js";
import { bytes, count, many } from "./format.js";
import { exact } from "./lists.js";
import { badge, field, link, modal, problem, shortId, since, time, toast } from "./parts.js";
import { long, name, visible } from "./text.js";

/// So much of a record is shown.
const SHOWN = 16 * 1024;
/// So many are counted before a replay of many; more are told as more.
const COUNTED = 2000;

/// Lists of them, over all redraws of a page: `(list, may, then)`. `may(one)`: whether it may be replayed; `then()`: what to do after it
/// was.
export function deadLetters() {
  const previews = new Map();
  return (list, may, then) => {
    const ids = new Set(list.map((one) => one.id));
    for (const id of previews.keys()) if (!ids.has(id)) previews.delete(id);
    for (const id of ids) if (!previews.has(id)) previews.set(id, preview(id));
    return listed(list, may, then, previews);
  };
}

function listed(list, may, then, previews) {
  return h(
    "ul",
    { class: "deliveries-list letters" },
    list.map((one) =>
      h(
        "li",
        { class: "card", key: one.id },
        h(
          "div",
          { class: "row" },
          badge("failed"),
          h("span", { class: "to" }, one.record ? name(one.record, 60) : "a call", " "),
          h("span", { class: "quiet" }, time(one.created), " · ", since(one.created)),
          h("span", { class: "spring" }),
          link(`/jobs/${encodeURIComponent(one.id)}`, shortId(one.id)),
          may(one) &&
            h("button", { type: "button", class: "small", "aria-label": `Replay ${one.id}`, onclick: () => replay(one, then) }, icon("again"), "Replay"),
        ),
        h(
          "p",
          { class: "reason" },
          h("strong", {}, h("bdi", {}, visible(one.result.error?.title ?? "It failed"))),
          one.result.error?.detail && [": ", h("bdi", {}, visible(one.result.error.detail))],
        ),
        keep(previews.get(one.id)),
      ),
    ),
  );
}

async function replay(one, then) {
  try {
    await api.post(`/v1/jobs/${encodeURIComponent(one.id)}/retry`);
    toast("It is worked on again");
  } catch (error) {
    modal("The replay failed", h("div", {}, problem(error)));
  }
  then();
}

/// A record's bytes, as text where they are text. Read when they are asked for.
function preview(id) {
  const body = h("div", { class: "bytes" });
  const address = `/v1/jobs/${encodeURIComponent(id)}/document`;
  let asked = false;
  const show = async () => {
    if (asked) return;
    asked = true;
    draw(body, h("p", { class: "quiet loading" }, "Reading the record…"));
    try {
      const { text, size, cut } = await head(address);
      draw(
        body,
        text === null
          ? h("p", { class: "quiet" }, `${bytes(size)} that are no text.`)
          : long(text, { id: `bytes:${id}`, mono: true, label: "record's bytes" }),
        text !== null && cut && h("p", { class: "quiet" }, `The first ${bytes(SHOWN)} of ${bytes(size)}.`),
        h("p", {}, h("a", { href: address, download: "" }, "Save the record as it came")),
      );
    } catch (error) {
      const none = error.status === 404;
      asked = none;
      draw(body, none ? h("p", { class: "quiet" }, "No bytes of this record are kept.") : problem(error));
    }
  };
  return h("details", { class: "preview", ontoggle: (event) => event.target.open && show() }, h("summary", {}, "The record's bytes"), body);
}

/// The begin of a document: `{text: null where it is none, size, cut}`.
async function head(address) {
  const response = await api.raw("GET", address);
  const reader = response.body.getReader();
  const parts = [];
  let read = 0;
  let ended = false;
  while (read < SHOWN && !ended) {
    const { done, value } = await reader.read();
    ended = done;
    if (value) parts.push(value);
    read += value?.length ?? 0;
  }
  await reader.cancel();
  const size = Number(response.headers.get("content-length")) || read;
  const whole = new Uint8Array(await new Blob(parts).arrayBuffer()).subarray(0, SHOWN);
  const cut = size > whole.length;
  try {
    // A character that the cut went through is left out, not taken for a fault.
    const text = new TextDecoder("utf-8", { fatal: true }).decode(whole, { stream: cut });
    return { text: text.includes("\0") ? null : text, size, cut };
  } catch {
    return { text: null, size, cut };
  }
}

/// Asks which dead letters of an integration are replayed, and does it.
export function replayMany(integration, then) {
  const chosen = { from: "", until: "" };
  const said = h("div", { "aria-live": "polite" });
  const go = h("button", { type: "submit", class: "primary", disabled: true }, "Replay");
  let mine = 0;
  const recount = async () => {
    const own = ++mine;
    go.disabled = true;
    draw(said, h("p", { class: "quiet" }, "Counting…"));
    try {
      const { total, more } = await counted(integration, chosen);
      if (own !== mine) return;
      go.disabled = total === 0;
      go.textContent = total ? `Replay ${more ? "more than " : ""}${count(total)}` : "Replay";
      draw(said, h("p", {}, total ? `${more ? "More than " : ""}${many(total, "dead letter")} will be worked on again.` : "Nothing fits."));
    } catch (error) {
      if (own === mine) draw(said, problem(error));
    }
  };
  const set = (what) => (event) => {
    chosen[what] = exact(event.target.value);
    recount();
  };
  const dialog = modal(
    "Replay dead letters",
    h(
      "form",
      {
        method: "dialog",
        onsubmit: async (event) => {
          event.preventDefault();
          go.disabled = true;
          try {
            const times = Object.fromEntries(Object.entries(chosen).filter(([, value]) => value));
            const done = await api.post("/v1/jobs/retry", { integration, ...times });
            toast(`${many(done.retried, "record")} worked on again${done.left ? `, ${count(done.left)} could not be` : ""}`);
            dialog.close();
            then();
          } catch (error) {
            draw(said, problem(error));
            go.disabled = false;
          }
        },
      },
      h(
        "div",
        { class: "columns" },
        field("Taken from", h("input", { type: "datetime-local", onchange: set("from") })),
        field("Taken until", h("input", { type: "datetime-local", onchange: set("until") })),
      ),
      said,
      h("div", { class: "row end" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go),
    ),
  );
  recount();
}

async function counted(integration, chosen) {
  let total = 0;
  let after;
  do {
    const page = await api.get(api.path("/v1/jobs", { ...chosen, integration, state: "failed", limit: 200, after }));
    total += page.jobs.length;
    after = page.next;
  } while (after && total < COUNTED);
  return { total, more: Boolean(after) };
}
