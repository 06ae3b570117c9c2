// What the lists have in common: filters that live in the address, and pages by cursor.

import { h } from "./dom.js";
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

/// A form of filters. `fields`: `{name, label, options | type, hint}`; each change is a new address, without the cursor.
export function filters(parts, query, fields) {
  const change = (name, value) => go(parts, { ...query, after: undefined, [name]: value });
  const any = fields.some(({ name }) => query[name]);
  return h(
    "form",
    { class: "filters row", role: "search", onsubmit: (event) => event.preventDefault() },
    fields.map((one) => field(one.label, control(one, query, change), null, { key: one.name, class: `field ${one.class ?? ""}` })),
    any && h("button", { type: "button", class: "small", key: "clear", onclick: () => go(parts, {}) }, "Clear"),
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
