// Texts from outside, shown so that they cannot pass for something else: characters that steer the display are made visible, a
// text's direction ends with it, and a long one comes in parts.

import { h } from "./dom.js";
import { count } from "./format.js";
import { copy } from "./parts.js";

// Controls, marks that change direction, and tags. Tab and line ends are layout, joiners belong to scripts and emoji.
// eslint-disable-next-line no-control-regex
const STEERING =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\udb40[\udc00-\udc7f]/gu;
const NAMES = {
  0x00: "NUL",
  0x0c: "FF",
  0x0d: "CR",
  0x1b: "ESC",
  0x7f: "DEL",
  0xad: "SHY",
  0x61c: "ALM",
  0x200b: "ZWSP",
  0x200e: "LRM",
  0x200f: "RLM",
  0x2028: "LS",
  0x2029: "PS",
  0x202a: "LRE",
  0x202b: "RLE",
  0x202c: "PDF",
  0x202d: "LRO",
  0x202e: "RLO",
  0x2060: "WJ",
  0x2066: "LRI",
  0x2067: "RLI",
  0x2068: "FSI",
  0x2069: "PDI",
  0xfeff: "BOM",
};
/// So many marks are elements of their own; further ones are text, so that a text of marks alone stays light.
const MARKS = 200;
const FIRST = 4000;
const PART = 32_000;

/// The text with its steering characters visible: nodes to append.
export function visible(text) {
  const nodes = [];
  let from = 0;
  let marks = 0;
  let rest = "";
  for (const found of text.matchAll(STEERING)) {
    const code = found[0].codePointAt(0);
    // A carriage return before a line feed is a line's end.
    if (code === 0x0d && text[found.index + 1] === "\n") continue;
    rest += text.slice(from, found.index);
    from = found.index + found[0].length;
    const name = NAMES[code] ?? `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
    if (++marks > MARKS) {
      rest += `⟦${name}⟧`;
      continue;
    }
    if (rest) nodes.push(rest);
    rest = "";
    nodes.push(
      h("span", { class: "steering", title: `the control character U+${code.toString(16).toUpperCase().padStart(4, "0")}` }, name),
    );
  }
  rest += text.slice(from);
  if (rest) nodes.push(rest);
  return nodes;
}

/// The same as plain text, for titles and labels.
export const plain = (text) =>
  visible(String(text ?? ""))
    .map((node) => (typeof node === "string" ? node : `⟦${node.textContent}⟧`))
    .join("");

/// A short text of unknown content, such as a file's name: isolated, one line, cut in the middle where it is long.
export function name(text, most = 80) {
  const whole = String(text ?? "");
  const characters = whole.length > most * 4 ? [...whole.slice(0, most * 2), ...whole.slice(-most * 2)] : [...whole];
  const cut = characters.length > most ? `${characters.slice(0, most - 16).join("")}…${characters.slice(-15).join("")}` : whole;
  return h("bdi", { class: "name", title: whole.length > most ? plain(whole.slice(0, 1000)) : null }, visible(cut));
}

/// A text of any length, in parts on demand. `id` says whose text it is: the same one keeps what is open over redraws.
export function long(text, { id, mono = false, label = "text", first = FIRST } = {}) {
  const whole = String(text ?? "");
  if (whole.length <= first) {
    return h("div", { class: mono ? "long mono" : "long", dir: "auto", key: id }, visible(whole));
  }
  const block = h("div", { class: mono ? "long mono" : "long", dir: "auto" });
  const shown = h("span");
  let end = 0;
  const add = (size) => {
    let next = Math.min(whole.length, end + size);
    if (next < whole.length) {
      // At a line's end or between words where there is one near, and never between the halves of one character.
      const tail = whole.slice(next - 1000, next);
      const gap = Math.max(tail.lastIndexOf("\n"), tail.includes("\n") ? -1 : tail.lastIndexOf(" "));
      if (gap >= 0) next += gap + 1 - tail.length;
      else if ((whole.charCodeAt(next - 1) & 0xfc00) === 0xd800) next += 1;
    }
    block.append(h("span", { class: "part" }, visible(whole.slice(end, next))));
    end = next;
    shown.textContent = end < whole.length ? `${count(end)} of ${count(whole.length)} characters` : `all ${count(whole.length)} characters`;
    more.hidden = end >= whole.length;
    everything.hidden = end >= whole.length || whole.length - end > 40 * PART;
  };
  const more = h("button", { class: "small", type: "button", onclick: () => add(PART) }, "Show more");
  const everything = h(
    "button",
    {
      class: "small",
      type: "button",
      // Piece by piece, with the page alive in between.
      onclick: function step() {
        add(PART);
        if (end < whole.length) requestAnimationFrame(step);
      },
    },
    "Show all",
  );
  add(first);
  return h(
    "div",
    { class: "bounded", key: id, keep: `${id}:${whole.length}` },
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, block),
    h("div", { class: "row tools" }, h("span", { class: "quiet" }, shown), more, everything, copy(whole, `Copy the ${label}`)),
  );
}

/// Any JSON, as text.
export const jsonText = (value) => JSON.stringify(value, null, 2);
