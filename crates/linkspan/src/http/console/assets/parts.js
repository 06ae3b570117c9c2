// The parts that all pages are made of.

import { draw, h, icon, say, unique } from "./dom.js";
import { ago, moment, words } from "./format.js";
import { name, visible } from "./text.js";

const TONES = {
  succeeded: "good",
  delivered: "good",
  accepted: "good",
  closed: "good",
  failed: "bad",
  dead: "bad",
  rejected: "bad",
  open: "bad",
  lost: "bad",
  running: "busy",
  reading: "good",
  starting: "busy",
  sending: "busy",
  waiting: "warn",
  review: "warn",
  paused: "warn",
  "half-open": "warn",
};

/// A state as a badge: colour, and a word for who does not see colours.
export const badge = (state, label) =>
  h("span", { class: `badge ${TONES[state] ?? "idle"}` }, h("i", { "aria-hidden": "true" }), label ?? words(state));

/// A time in the reader's locale, with the exact one at hand.
export const time = (text, none = "–") => (text ? h("time", { datetime: text, title: text }, moment(text)) : none);

/// How long ago, with the exact time at hand.
export const since = (text, none = "–") => (text ? h("time", { datetime: text, title: text }, ago(text)) : none);

/// An id by its end, which is what differs.
export const shortId = (id) => h("span", { class: "mono", title: id }, id.length > 20 ? id.slice(-12) : id);

/// A button that copies a text.
export function copy(text, label = "Copy", props) {
  const button = h(
    "button",
    {
      type: "button",
      class: "small icon-only",
      "aria-label": label,
      title: label,
      ...props,
      onclick: async () => {
        const done = await copied(typeof text === "function" ? text() : text);
        say(done ? "Copied" : "Copying is not allowed here");
        button.classList.toggle("done", done);
        setTimeout(() => button.classList.remove("done"), 1500);
      },
    },
    icon("copy"),
    icon("check"),
  );
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without https there is no clipboard but the old way.
    const area = h("textarea", { class: "unseen", value: text });
    const focused = document.activeElement;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}

/// A command or a piece of code, with a button that copies it.
export const code = (text, label) =>
  h(
    "div",
    { class: "code" },
    h("pre", { tabindex: "0", role: "region", "aria-label": label }, h("code", {}, text)),
    copy(text, `Copy ${label}`),
  );

/// A problem: what it is, what to do, and how to find it again.
export function problem(error, again) {
  const said = error.status ? error : { ...error, title: error.title, detail: error.detail ?? error.message };
  return h(
    "div",
    { class: "problem", role: "alert" },
    icon("alert"),
    h(
      "div",
      {},
      h("strong", {}, h("bdi", {}, visible(said.title ?? "Something went wrong"))),
      said.detail && h("p", {}, h("bdi", {}, visible(said.detail))),
      h(
        "p",
        { class: "quiet row" },
        said.code &&
          h(
            "a",
            { href: `/problems/${encodeURIComponent(said.code)}`, target: "_blank", rel: "noopener" },
            `What to do about ${said.code}`,
          ),
        said.status > 0 && h("span", {}, `status ${said.status}`),
        said.code && h("span", {}, said.retryable ? retrySentence(said) : "the same request will fail again"),
        said.request_id &&
          h(
            "span",
            { class: "row" },
            "request ",
            h("span", { class: "mono wrap" }, said.request_id),
            copy(said.request_id, "Copy the request's id"),
          ),
      ),
      again && h("button", { type: "button", class: "small", onclick: again }, "Try again"),
    ),
  );
}

const retrySentence = (said) =>
  said.retry_after ? `the same request can succeed in ${said.retry_after} s` : "the same request can succeed later";

/// What stands where nothing is.
export const empty = (title, ...rest) =>
  h("div", { class: "empty" }, h("strong", {}, title), ...rest.filter(Boolean).map((part) => (typeof part === "string" ? h("p", {}, part) : part)));

/// What stands where something will be.
export const loading = (what) => h("p", { class: "quiet loading", role: "status" }, `Reading ${what}…`);

/// A field with its label.
export function field(label, control, hint, props) {
  control.id ||= unique("field");
  const about = hint && h("span", { class: "hint", id: `${control.id}-hint` }, hint);
  if (about) control.setAttribute("aria-describedby", about.id);
  return h("div", { class: "field", ...props }, h("label", { for: control.id }, label), control, about);
}

/// A choice among options: `[value, label]`.
export const select = (options, value, props) =>
  h(
    "select",
    { ...props, value: value ?? "" },
    options.map(([option, label]) => h("option", { value: option, selected: option === (value ?? "") }, label)),
  );

/// A switch between a few values: radio buttons that look like one control.
export function segments(legend, options, value, onchange, props) {
  // The same name at each redraw, so that the buttons stay one group.
  const group = `segments-${legend}`;
  return h(
    "fieldset",
    { class: "segments", ...props },
    h("legend", { class: "unseen" }, legend),
    options.map(([option, label]) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name: group, value: option, checked: option === value, onchange: () => onchange(option) }),
        h("span", {}, label),
      ),
    ),
  );
}

/// A link within the console.
export const link = (hash, ...children) => h("a", { href: `#${hash}` }, ...children);

/// A table. `columns`: `{title, class, cell(row)}`; on a phone each row is a card with the titles beside the values.
export function table(label, columns, rows, key, rowProps) {
  return h(
    "div",
    { class: "table", role: "region", "aria-label": label, tabindex: "-1" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map((column) =>
            h("th", { scope: "col", class: column.class }, column.title || h("span", { class: "unseen" }, column.hidden ?? "Actions")),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            { key: key(row), ...rowProps?.(row) },
            columns.map((column) => h("td", { class: column.class, "data-title": column.title }, column.cell(row))),
          ),
        ),
      ),
    ),
  );
}

/// Asks before something is done. `work()` may fail: the problem is shown and the question stays. Gives whether it was done.
export function ask({ title, body, action, danger = false, work }) {
  return new Promise((resolve) => {
    let done = false;
    let busy = false;
    const said = h("div");
    const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
    const dialog = modal(
      title,
      [
        h(
          "form",
          {
            method: "dialog",
            onsubmit: async (event) => {
              event.preventDefault();
              if (busy) return;
              busy = true;
              go.disabled = true;
              try {
                await work();
                done = true;
                dialog.close();
              } catch (error) {
                draw(said, problem(error));
              }
              busy = false;
              go.disabled = false;
            },
          },
          body,
          said,
          h("div", { class: "row end" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go),
        ),
      ],
      () => resolve(done),
    );
  });
}

/// A dialog over the page; Escape closes it, and the focus returns where it was.
export function modal(title, content, closed) {
  const heading = unique("dialog");
  const before = document.activeElement;
  const dialog = h(
    "dialog",
    { "aria-labelledby": heading },
    h(
      "header",
      {},
      h("h2", { id: heading }, title),
      h("button", { type: "button", class: "small icon-only", "aria-label": "Close", onclick: () => dialog.close() }, icon("close")),
    ),
    content,
  );
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected) before.focus();
    closed?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/// A sentence that appears for a while, and is read out.
export function toast(text) {
  let place = document.querySelector(".toasts");
  if (!place) document.body.append((place = h("div", { class: "toasts" })));
  const note = h("p", {}, icon("check"), text);
  place.append(note);
  say(text);
  setTimeout(() => note.remove(), 5000);
}

/// An integration's name.
export const integration = (text) => name(text, 60);
