// Jobs: filtered, page by page, changing as they change.

import * as api from "./api.js";
import * as live from "./live.js";
import { draw, h, paced } from "./dom.js";
import { millis } from "./format.js";
import { Pages, filters, searched } from "./lists.js";
import { badge, empty, integration, link, loading, problem, shortId, since, table, time } from "./parts.js";
import { name, visible } from "./text.js";

export const STATES = ["queued", "running", "waiting", "succeeded", "failed", "cancelled", "expired"];
const PARTS = ["jobs"];

export const title = () => "Jobs";

export function open(root, context) {
  let route = context.route;
  const seesOthers = (context.session.scopes ?? []).some((scope) => /^admin(:|$)/.test(scope));
  let page = null;
  let error = null;
  let turn = 0;
  const pages = new Pages();
  const redraw = () => draw(root, view());
  const read = async () => {
    const mine = ++turn;
    try {
      const found = await api.get(api.path("/v1/jobs", { limit: 50, ...route.query }));
      if (mine === turn) {
        page = found;
        error = null;
      }
    } catch (problem) {
      if (mine === turn) error = problem;
    }
    if (mine === turn) redraw();
  };
  const again = paced(1000, read);
  const ends = [
    live.on("job", (event) => {
      if (
        page?.jobs.some((job) => job.id === event.id) ||
        (!route.query.after && (!route.query.integration || route.query.integration === event.integration))
      )
        again();
    }),
    live.on("missed", () => again()),
    live.on("state", (state) => state === "live" && again()),
  ];
  const tick = setInterval(redraw, 10_000);

  function view() {
    const query = route.query;
    const names = (context.latest()?.integrations ?? []).map((one) => [one.name, one.name]);
    if (query.integration && !names.some(([name]) => name === query.integration)) names.push([query.integration, query.integration]);
    return [
      h("h1", { tabindex: "-1" }, "Jobs"),
      filters(PARTS, query, [
        { name: "integration", label: "Integration", options: names },
        { name: "state", label: "State", options: STATES.map((state) => [state, state]) },
        seesOthers && { name: "caller", label: "Caller", placeholder: "a key's name" },
        { name: "q", label: "Job or request", placeholder: "an id, exactly", class: "wide" },
        { name: "from", label: "From", type: "datetime-local" },
        { name: "until", label: "Until", type: "datetime-local" },
      ]),
      error && problem(error, read),
      !page
        ? !error && loading("the jobs")
        : page.jobs.length
          ? table("Jobs, newest first", seesOthers ? [...columns.slice(0, 3), caller, ...columns.slice(3)] : columns, page.jobs, (job) => job.id)
          : empty(
              Object.values(query).some(Boolean) ? "No job fits" : "There are no jobs",
              searched(context, "jobs"),
              "An integration of the pattern async makes one for each document; any other does when a call asks for it (Prefer: respond-async).",
            ),
      page && pages.view(PARTS, query, page.next),
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
      again.stop();
      clearInterval(tick);
      ends.forEach((end) => end());
    },
  };
}

const caller = { title: "Caller", class: "name-cell", cell: (job) => name(job.caller, 30) };
const columns = [
  { title: "State", cell: (job) => badge(job.state) },
  { title: "Job", class: "main", cell: (job) => link(`/jobs/${encodeURIComponent(job.id)}`, shortId(job.id)) },
  { title: "Integration", class: "name-cell", cell: (job) => integration(job.integration) },
  { title: "Accepted", cell: (job) => h("span", { class: "pair" }, time(job.created), h("span", { class: "quiet" }, since(job.created))) },
  { title: "Took", class: "figure", cell: (job) => (job.finished ? millis(new Date(job.finished) - new Date(job.created)) : "–") },
  { title: "Attempts", class: "figure", cell: (job) => `${job.attempts}/${job.max_attempts}` },
  {
    title: "Error",
    class: "grow",
    cell: (job) => (job.error ? h("span", { class: "cut", title: job.error.title }, h("bdi", {}, visible(job.error.title))) : ""),
  },
];
