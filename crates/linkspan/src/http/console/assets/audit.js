// The audit, for administrators: who did what, page by page.

import * as api from "./api.js";
import { draw, h } from "./dom.js";
import { Pages, filters } from "./lists.js";
import { badge, copy, empty, loading, problem, table, time } from "./parts.js";
import { name, visible } from "./text.js";

const PARTS = ["audit"];

export const title = () => "Audit";

export function open(root, context) {
  let route = context.route;
  let page = null;
  let error = null;
  let turn = 0;
  const pages = new Pages();
  const redraw = () => draw(root, view());
  const read = async () => {
    const mine = ++turn;
    try {
      const found = await api.get(api.path("/v1/audit", { limit: 100, ...route.query }));
      if (mine === turn) {
        page = found;
        error = null;
      }
    } catch (problem) {
      if (mine === turn) error = problem;
    }
    if (mine === turn) redraw();
  };

  function view() {
    return [
      h(
        "header",
        { class: "head row" },
        h("h1", { tabindex: "-1" }, "Audit"),
        h("span", { class: "spring" }),
        h("button", { type: "button", onclick: read }, "Read again"),
      ),
      filters(PARTS, route.query, [
        { name: "actor", label: "Who", placeholder: "a name, exactly" },
        { name: "action", label: "Did", placeholder: "such as key.revoke" },
        { name: "from", label: "From", type: "datetime-local" },
        { name: "until", label: "Until", type: "datetime-local" },
      ]),
      error && problem(error, read),
      !page
        ? !error && loading("the audit")
        : page.lines.length
          ? table(
              "The audit, newest first",
              columns,
              page.lines.map((line, at) => ({ ...line, key: `${line.at}:${line.action}:${line.target}:${at}` })),
              (line) => line.key,
            )
          : empty(Object.values(route.query).some(Boolean) ? "No line fits" : "Nothing is written yet"),
      page && pages.view(PARTS, route.query, page.next),
    ];
  }

  read();
  redraw();
  return {
    update(next) {
      route = next;
      page = null;
      redraw();
      read();
    },
    close() {
      turn = -1;
    },
  };
}

const text = (value) => h("bdi", {}, visible(String(value ?? "")));
const columns = [
  { title: "When", cell: (line) => time(line.at) },
  { title: "Who", class: "main", cell: (line) => name(line.actor, 40) },
  { title: "Did", class: "name-cell", cell: (line) => text(line.action) },
  { title: "To", class: "grow", cell: (line) => h("span", { class: "wrap" }, text(line.target)) },
  {
    title: "Outcome",
    cell: (line) =>
      badge(
        /^(ok|done|succeeded|allowed)$/.test(line.outcome)
          ? "delivered"
          : /refused|denied|failed|forbidden|unauth/.test(line.outcome)
            ? "dead"
            : "queued",
        line.outcome,
      ),
  },
  { title: "Address", cell: (line) => (line.remote ? h("span", { class: "mono" }, text(line.remote)) : "–") },
  {
    title: "Request",
    cell: (line) =>
      line.request_id
        ? h(
            "span",
            { class: "row tight" },
            h("span", { class: "mono cut", title: line.request_id }, text(line.request_id.slice(-12))),
            copy(line.request_id, "Copy the request's id"),
          )
        : "–",
  },
];
