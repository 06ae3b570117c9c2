// Small charts, as SVG.

import { h, s } from "./dom.js";
import { number } from "./format.js";

/// A line of the latest values, newest at the right.
export function spark(values, { width = 72, height = 20, slots = 60, label } = {}) {
  const top = Math.max(...values, 1e-9);
  const step = width / (slots - 1);
  const start = width - (values.length - 1) * step;
  const points = values.map((value, at) => `${(start + at * step).toFixed(1)} ${(height - 1.5 - (value / top) * (height - 4)).toFixed(1)}`);
  const line = points.length > 1 ? `M${points.join("L")}` : "";
  return s(
    "svg",
    { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label },
    line && s("path", { class: "area", d: `${line}L${width} ${height}L${start.toFixed(1)} ${height}Z` }),
    s("path", { class: "line", d: line || `M0 ${height - 1.5}H${width}` }),
  );
}

/// A score from −1 to 1 as a bar from the middle.
export function score(value) {
  const share = Math.max(-1, Math.min(1, value));
  return h(
    "span",
    {
      class: `score ${value >= 0.05 ? "good" : value <= -0.05 ? "bad" : "even"}`,
      role: "img",
      "aria-label": `score ${number(value)} of −1 to 1`,
    },
    h("i", { style: { left: `${share < 0 ? 50 + share * 50 : 50}%`, width: `${Math.max(1, Math.abs(share) * 50)}%` } }),
  );
}

/// A share of one as a bar with its number.
export function share(value, label) {
  const tone = value >= 0.85 ? "good" : value >= 0.6 ? "warn" : "bad";
  const text = `${Math.round(value * 1000) / 10} %`;
  return h(
    "span",
    { class: "share", title: label },
    h("span", { class: `bar ${tone}`, "aria-hidden": "true" }, h("i", { style: { width: `${Math.max(0, Math.min(1, value)) * 100}%` } })),
    h("span", { class: "figure" }, text),
  );
}

/// Parts of a whole as one bar: `[label, value, class]`.
export function stack(parts) {
  const all = parts.reduce((sum, [, value]) => sum + value, 0) || 1;
  return h(
    "div",
    { class: "stack" },
    h(
      "div",
      { class: "bar", "aria-hidden": "true" },
      parts.map(([, value, tone]) => value > 0 && h("i", { class: tone, style: { width: `${(value / all) * 100}%` } })),
    ),
    h(
      "ul",
      {},
      parts.map(([label, value, tone]) =>
        h("li", {}, h("i", { class: tone, "aria-hidden": "true" }), `${label} ${Math.round(value * 1000) / 10} %`),
      ),
    ),
  );
}
