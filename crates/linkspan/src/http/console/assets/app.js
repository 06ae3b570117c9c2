// The console: who is signed in, which page is shown, and the frame around it.

import * as api from "./api.js";
import * as live from "./live.js";
import { draw, h, icon, say } from "./dom.js";
import { seconds } from "./format.js";
import { problem, toast } from "./parts.js";
import { parse } from "./route.js";
import { signIn } from "./signin.js";
import * as overview from "./overview.js";
import * as attempt from "./try.js";
import * as jobs from "./jobs.js";
import * as job from "./job.js";
import * as streams from "./streams.js";
import * as stream from "./stream.js";
import * as deliveries from "./deliveries.js";
import * as keys from "./keys.js";
import * as audit from "./audit.js";

/// The pages. A page has `title(route)` and `open(root, context)`, which gives `{update(route)?, close()?}`.
const PAGES = [
  { path: "", name: "Overview", icon: "overview", page: overview },
  { path: "try", name: "Try it", icon: "try", page: attempt },
  { path: "jobs", name: "Jobs", icon: "jobs", page: jobs },
  { path: "streams", name: "Streams", icon: "streams", page: streams },
  { path: "deliveries", name: "Deliveries", icon: "deliveries", page: deliveries },
  { path: "keys", name: "Keys", icon: "keys", page: keys, admin: true },
  { path: "audit", name: "Audit", icon: "audit", page: audit, admin: true },
];

/// The pages of one thing of a list.
const ONE = { jobs: job, streams: stream };

const app = document.getElementById("app");
let session = null;
let shown = null;
let latest = null;

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  const main = document.getElementById("main");
  main?.focus();
  main?.scrollIntoView();
});
addEventListener("hashchange", () => session && navigate());
api.onSignedOut(() => {
  if (!session?.signed_in || session.auth === "none") return;
  begin({ ...session, signed_in: false }, "Your session has ended. Sign in again to go on.");
});
live.on("state", frame);
live.on("overview", (data) => {
  latest = data;
  frame();
});
live.on("lost", async () => {
  // A session that ended ends the events: find out which it was.
  const now = await api.get("/console/session").catch(() => null);
  if (now && !now.signed_in && now.auth !== "none" && session?.signed_in) begin(now, "Your session has ended. Sign in again to go on.");
});
open();

async function open() {
  try {
    begin(await api.get("/console/session"));
  } catch (error) {
    draw(app, h("main", { id: "main", class: "alone", tabindex: "-1" }, problem(error, open)));
  }
}

function begin(now, reason) {
  session = now;
  api.useToken(now.csrf);
  shown?.close?.();
  shown = null;
  latest = null;
  overview.forget();
  if (!now.signed_in && now.auth !== "none") {
    live.stop();
    document.title = "Sign in · linkspan";
    app.replaceChildren();
    signIn(app, now, reason, begin);
    return;
  }
  app.replaceChildren();
  draw(
    app,
    h("header", { class: "top" }),
    h("nav", { class: "side", "aria-label": "Console" }),
    h("main", { id: "main", tabindex: "-1" }),
    h("footer", { class: "foot" }),
  );
  live.start();
  navigate(true);
}

const isAdmin = () => session.auth === "none" || (session.scopes ?? []).some((scope) => scope === "admin");

function navigate(first = false) {
  const route = parse(location.hash);
  const found = PAGES.find((page) => page.path === (route.parts[0] ?? "") && (!page.admin || isAdmin()));
  const page = (route.parts[1] && ONE[found?.path]) || found?.page;
  const main = document.getElementById("main");
  const title = page ? page.title(route) : "Not found";
  document.title = `${title} · linkspan`;
  main.dataset.at = location.hash;
  if (shown && shown.page === page && shown.update && shown.id === (route.parts[1] ?? "")) {
    shown.update(route);
    frame();
    return;
  }
  shown?.close?.();
  main.replaceChildren();
  const root = h("div", { class: `page ${found ? found.path || "overview" : "nowhere"}` });
  main.append(root);
  if (page) {
    shown = { page, id: route.parts[1] ?? "", ...page.open(root, { route, session, admin: isAdmin(), latest: () => latest }) };
  } else {
    shown = null;
    draw(
      root,
      h("h1", { tabindex: "-1" }, "Not found"),
      h("p", {}, "There is no such page, or it is for administrators. ", h("a", { href: "#/" }, "Go to the overview"), "."),
    );
  }
  frame();
  if (!first) {
    scrollTo(0, 0);
    (main.querySelector("h1") ?? main).focus({ preventScroll: true });
  }
}

function frame() {
  const top = app.querySelector(".top");
  if (!top) return;
  const at = parse(location.hash).parts[0] ?? "";
  const state = live.liveState();
  draw(
    top,
    h(
      "a",
      { class: "brand", href: "#/" },
      h("img", { src: "/console/assets/mark.svg", alt: "", width: "24", height: "24" }),
      h("b", {}, "linkspan"),
    ),
    h(
      "span",
      { class: `pulse ${state}`, role: "status" },
      h("i", { "aria-hidden": "true" }),
      state === "live" ? "live" : state === "offline" ? ["offline", h("span", { class: "wide" }, "· trying again")] : "connecting",
    ),
    h("span", { class: "spring" }),
    themes(),
    session.auth === "none"
      ? h("span", { class: "who quiet" }, "no sign-in needed")
      : [
          h("span", { class: "who", title: (session.scopes ?? []).join(", ") }, h("bdi", {}, session.name ?? "")),
          h(
            "button",
            { type: "button", class: "small plain", onclick: leave, "aria-label": "Sign out", title: "Sign out" },
            icon("leave"),
            h("span", { class: "wide" }, "Sign out"),
          ),
        ],
  );
  draw(
    app.querySelector(".side"),
    h(
      "ul",
      {},
      PAGES.filter((page) => !page.admin || isAdmin()).map((page) =>
        h(
          "li",
          {},
          h("a", { href: `#/${page.path}`, "aria-current": page.path === at ? "page" : null }, icon(page.icon), h("span", {}, page.name)),
        ),
      ),
    ),
  );
  draw(
    app.querySelector(".foot"),
    h("span", {}, `linkspan ${session.version ?? ""}`),
    latest && h("span", {}, `up ${seconds(latest.uptime_s)}`),
    h("a", { href: "/docs", target: "_blank", rel: "noopener" }, "API"),
  );
}

const THEMES = [
  ["", "screen", "as the system"],
  ["light", "sun", "light"],
  ["dark", "moon", "dark"],
];

function themes() {
  const now = document.documentElement.dataset.theme ?? "";
  const at = THEMES.findIndex(([theme]) => theme === now);
  const [, sign, label] = THEMES[at];
  const [next, , nextLabel] = THEMES[(at + 1) % THEMES.length];
  return h(
    "button",
    {
      type: "button",
      class: "small plain icon-only",
      id: "theme",
      "aria-label": `Theme: ${label}. Change to ${nextLabel}`,
      title: `Theme: ${label}`,
      onclick: () => {
        if (next) document.documentElement.dataset.theme = next;
        else delete document.documentElement.dataset.theme;
        try {
          localStorage.setItem("linkspan-theme", next);
        } catch {
          /* It holds for this page then. */
        }
        say(`Theme: ${nextLabel}`);
        frame();
      },
    },
    icon(sign),
  );
}

async function leave() {
  try {
    await api.remove("/console/session");
    // Who comes next begins at the beginning; who only has to sign in again, goes on where they were.
    history.replaceState(null, "", "#/");
    begin(await api.get("/console/session"));
    say("Signed out");
  } catch (error) {
    toast(`Signing out failed: ${error.detail ?? error.message}`);
  }
}
