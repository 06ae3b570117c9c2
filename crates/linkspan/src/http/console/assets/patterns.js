// The four patterns as drawings: places as elements, what moves between them as lines that follow the places wherever the width of
// the screen puts them.

import { h, icon, s } from "./dom.js";

/// How each pattern is drawn. `lines`: from, to, label, and how: `back` for what returns, `link` for what goes through the VPN.
export const PATTERNS = [
  {
    name: "sync",
    title: "Sync",
    says: "A document goes in, the response is the answer.",
    none: 'No integration answers while its caller waits. One does with pattern = "sync".',
    places: ["estate", "api", "service"],
    lines: [
      ["estate", "api", "document", ""],
      ["api", "service", "", ""],
      ["service", "api", "", "back"],
      ["api", "estate", "answer", "back"],
    ],
  },
  {
    name: "async",
    title: "Async",
    says: "Accepted once it is on disk; the answer goes out when it is ready.",
    none: 'No integration takes work now and answers later. One does with pattern = "async".',
    places: ["estate", "queue", "service", "outputs"],
    lines: [
      ["estate", "queue", "document", ""],
      ["queue", "estate", "202", "back"],
      ["queue", "service", "", ""],
      ["service", "outputs", "", "back"],
    ],
  },
  {
    name: "stream-in",
    title: "Stream in",
    says: "Records come one after another, through the VPN, and results go out.",
    none: 'No integration reads a stream of the estate. One does with pattern = "stream-in".',
    places: ["estate", "kinesis", "service", "outputs"],
    lines: [
      ["estate", "kinesis", "VPN", "link"],
      ["kinesis", "service", "", ""],
      ["service", "outputs", "", "back"],
    ],
  },
  {
    name: "full-stream",
    title: "Full stream",
    says: "An input topic becomes an output topic, exactly once; Kafka at both ends.",
    none: 'No integration turns one topic into another. One does with pattern = "full-stream".',
    places: ["estate", "kafka", "service"],
    lines: [
      ["estate", "kafka", "replicated", "link"],
      ["kafka", "service", "", ""],
      ["service", "kafka", "", "back"],
      ["kafka", "estate", "replicated", "link back"],
    ],
  },
];

const OUTPUTS = [
  ["web", "Web application", null],
  ["email", "Messages", ["email"]],
  ["http", "External API calls", ["webhook", "http"]],
  ["file", "Files", ["file"]],
  ["kafka", "Streams", ["kafka", "kinesis"]],
  ["polling", "Polling", null],
];

/// A drawing. `service`: what stands in the place of the AI service; `kinds`: the kinds of channel that deliver here; `figures`: nodes
/// in the queue's or the stream's place; `reads`: what the stream's place is called; `flows`: whether something moves.
export function drawing(pattern, { service, kinds = new Map(), figures, reads, flows }) {
  const places = {
    estate: () =>
      place(
        "estate",
        "Estate",
        pattern.name === "full-stream" ? "kafka" : "lock",
        h(
          "ul",
          { class: "systems" },
          (pattern.name === "full-stream"
            ? ["Kafka", "input topic", "output topic"]
            : ["Finance", "HR", "Marketing", "Line of business"]
          ).map((system) => h("li", {}, system)),
        ),
      ),
    api: () => place("api", "API", "web", h("p", {}, "POST, then wait")),
    queue: () => place("queue", "Jobs", "store", figures ?? h("p", {}, "kept on disk")),
    kinesis: () => place("kinesis", reads || "Kinesis", "kafka", figures || h("p", {}, "durable, in order")),
    kafka: () => place("kafka", "Kafka", "kafka", figures || h("p", {}, "in and out, in one transaction")),
    service: () => h("div", { class: "place service", "data-place": "service" }, service),
    outputs: () =>
      place(
        "outputs",
        "Outputs",
        null,
        h(
          "ul",
          {},
          OUTPUTS.map(([sign, label, takes]) => {
            const tally = takes?.map((kind) => kinds.get(kind)).filter(Boolean);
            const on = takes === null ? kinds.size > 0 || flows !== undefined : tally.length > 0;
            const open = tally?.reduce((sum, one) => sum + one.open, 0);
            const dead = tally?.reduce((sum, one) => sum + one.dead, 0);
            return h(
              "li",
              { class: on ? "on" : "off" },
              icon(sign),
              h("span", {}, label),
              open > 0 && h("span", { class: "count", title: "on their way" }, String(open)),
              dead > 0 && h("a", { class: "count bad", href: "#/deliveries?state=dead", title: "dead letters" }, String(dead)),
            );
          }),
        ),
      ),
  };
  return h(
    "div",
    {
      class: `drawing ${pattern.name}${flows ? " flows" : ""}`,
      key: pattern.name,
      role: "group",
      "aria-label": `${pattern.title}: ${pattern.says}`,
    },
    s("svg", { class: "wires", "aria-hidden": "true", key: "wires", keep: pattern.name }),
    pattern.places.map((name) => places[name]()),
  );
}

const place = (name, title, sign, ...content) =>
  h("div", { class: `place ${name}`, "data-place": name }, h("h3", {}, sign && icon(sign), title), content);

/// Draws a drawing's lines between its places, as they lie now.
export function wire(node, pattern) {
  const svg = node.querySelector(".wires");
  const origin = node.getBoundingClientRect();
  if (!origin.width) return;
  const boxes = new Map([...node.querySelectorAll("[data-place]")].map((one) => [one.dataset.place, one.getBoundingClientRect()]));
  const said = JSON.stringify([
    origin.width,
    origin.height,
    ...[...boxes.values()].map((box) => [box.left - origin.left, box.top - origin.top, box.width, box.height].map(Math.round)),
  ]);
  if (svg.$drawn === said) return;
  svg.$drawn = said;
  svg.setAttribute("viewBox", `0 0 ${origin.width} ${origin.height}`);
  svg.replaceChildren(
    ...pattern.lines.flatMap(([from, to, label, how]) => {
      const [a, b] = [boxes.get(from), boxes.get(to)];
      const pair = pattern.lines.some(([one, other]) => one === to && other === from);
      const shift = pair ? (how.includes("back") ? 11 : -11) : 0;
      const across = b.left >= a.right || a.left >= b.right;
      let [x1, y1, x2, y2] = [0, 0, 0, 0];
      if (across) {
        y1 = y2 = (Math.max(a.top, b.top) + Math.min(a.bottom, b.bottom)) / 2 - origin.top + shift;
        [x1, x2] = a.left < b.left ? [a.right, b.left] : [a.left, b.right];
        [x1, x2] = [x1 - origin.left, x2 - origin.left];
      } else {
        x1 = x2 = (Math.max(a.left, b.left) + Math.min(a.right, b.right)) / 2 - origin.left - shift;
        [y1, y2] = a.top < b.top ? [a.bottom, b.top] : [a.top, b.bottom];
        [y1, y2] = [y1 - origin.top, y2 - origin.top];
      }
      const length = Math.hypot(x2 - x1, y2 - y1) || 1;
      const [dx, dy] = [(x2 - x1) / length, (y2 - y1) / length];
      const end = [x2 - dx * 3, y2 - dy * 3];
      const neck = [x2 - dx * 10, y2 - dy * 10];
      const line = `M${x1 + dx * 3} ${y1 + dy * 3}L${neck[0]} ${neck[1]}`;
      const head = `M${end[0]} ${end[1]}L${neck[0] - dy * 4.5} ${neck[1] + dx * 4.5}L${neck[0] + dy * 4.5} ${neck[1] - dx * 4.5}Z`;
      const text =
        label &&
        s(
          "text",
          across
            ? { x: (x1 + x2) / 2, y: y1 + (shift > 0 ? 17 : -8), "text-anchor": "middle" }
            : { x: x1 + (shift < 0 || !pair ? 9 : -9), y: (y1 + y2) / 2 + 4, "text-anchor": shift < 0 || !pair ? "start" : "end" },
          label,
        );
      return [
        how.includes("link") && s("path", { class: "tube", d: `M${x1 + dx * 3} ${y1 + dy * 3}L${end[0]} ${end[1]}` }),
        s("path", { class: `wire ${how}`, d: line }),
        s("path", { class: `head ${how}`, d: head }),
        text,
      ].filter(Boolean);
    }),
  );
}
