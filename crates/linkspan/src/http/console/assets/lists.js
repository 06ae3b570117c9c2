// What the lists have in common: filters that live in the address, and pages by cursor.

import { h, icon } from "./dom.js";
import { field, select } from "./parts.js";
import { go } from "./route.js";

/// Pages by cursor within one page of the console: which cursors led here, so that there is a way back.
export class Pages {
  #before = [];
  #filters = "";

  /// Below a list: newer and older. `next` is the cursor of the page that follows.
  view(parts, query, next) {
    const at = query.after ?? "";
    const turn = (after) => go(parts, { ...query, after });
    const filters = JSON.stringify({ ...query, after: undefined });
    if (filters !== this.#filters) [this.#filters, this.#before] = [filters, [""]];
    const known = this.#before.lastIndexOf(at);
    if (known >= 0) this.#before.length = known + 1;
    else this.#before.push(at);
    const newer = this.#before.length > 1 ? this.#before.at(-2) : null;
    if (newer === null && !next) return null;
    return h(
      "nav",
      { class: "row pager", "aria-label": "Pages" },
      h("button", { type: "button", class: "small", disabled: newer === null, onclick: () => turn(newer) }, "Newer"),
      at && h("button", { type: "button", class: "small", onclick: () => turn("") }, "Newest"),
      h("button", { type: "button", class: "small", disabled: !next, onclick: () => turn(next) }, "Older"),
    );
  }
}

/// What an empty list was looked for in: other callers' things are not among it for everybody.
export function searched(context, what) {
  if (context.admin) return null;
  const others = (context.session.scopes ?? []).filter((scope) => scope.startsWith("admin:")).map((scope) => scope.slice(6));
  return others.length
    ? `Your own ${what} were looked at, and all of ${others.join(", ")}. Other callers' are not shown to this key.`
    : `Only your own ${what} were looked at: other callers' are not shown to this key.`;
}

/// The lists whose filters are unfolded, on a phone.
const unfolded = new Set();

/// A form of filters; on a phone it is folded. `fields`: `{name, label, options | type, hint}`, or nothing; each change is a new
/// address, without the cursor.
export function filters(parts, query, fields) {
  const change = (name, value) => go(parts, { ...query, after: undefined, [name]: value });
  fields = fields.filter(Boolean);
  const any = fields.filter(({ name }) => query[name]).length;
  const open = unfolded.has(parts[0]);
  const fold = (event) => {
    if (!unfolded.delete(parts[0])) unfolded.add(parts[0]);
    const now = unfolded.has(parts[0]);
    event.currentTarget.setAttribute("aria-expanded", String(now));
    event.currentTarget.form.classList.toggle("unfolded", now);
  };
  return h(
    "form",
    { class: `filters row${open ? " unfolded" : ""}`, role: "search", onsubmit: (event) => event.preventDefault() },
    h(
      "button",
      { type: "button", class: "fold", key: "fold", "aria-expanded": String(open), onclick: fold },
      icon("filter"),
      any ? `Filters (${any})` : "Filters",
    ),
    fields.map((one) => field(one.label, control(one, query, change), null, { key: one.name, class: `field ${one.class ?? ""}` })),
    any > 0 && h("button", { type: "button", class: "small", key: "clear", onclick: () => go(parts, {}) }, "Clear"),
  );
}

function control({ name, label, options, type, placeholder }, query, change) {
  const id = `filter-${name}`;
  if (options)
    return select([["", `any ${label.toLowerCase()}`], ...options], query[name], {
      id,
      onchange: (event) => change(name, event.target.value),
    });
  if (type === "datetime-local") {
    return h("input", { id, type, value: localTime(query[name]), onchange: (event) => change(name, exact(event.target.value)) });
  }
  return h("input", {
    id,
    type: "search",
    value: query[name] ?? "",
    placeholder,
    spellcheck: "false",
    autocomplete: "off",
    onchange: (event) => change(name, event.target.value.trim()),
  });
}

/// RFC 3339 as the value of a `datetime-local` field, in the reader's zone.
export function localTime(text) {
  const time = new Date(text ?? "");
  if (Number.isNaN(time.getTime())) return "";
  return new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/// The value of a `datetime-local` field as RFC 3339.
export function exact(value) {
  const time = new Date(value);
  return value && !Number.isNaN(time.getTime()) ? time.toISOString() : "";
}
