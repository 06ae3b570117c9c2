// Deliveries: the receivers with their health, what is on its way, and the dead letters.

import * as api from "./api.js";
import * as live from "./live.js";
import { draw, h, icon, paced } from "./dom.js";
import { count, many } from "./format.js";
import { deliveryList, giveUp, replayOne, sign } from "./delivery.js";
import { Pages, exact, filters, searched } from "./lists.js";
import { ask, badge, empty, field, integration, link, loading, modal, problem, select, since, table, toast } from "./parts.js";
import { name, visible } from "./text.js";

const STATES = ["pending", "sending", "delivered", "dead", "paused"];
const PARTS = ["deliveries"];
/// So many are counted before a replay of many; more are told as more.
const COUNTED = 2000;

export const title = () => "Deliveries";

export function open(root, context) {
  let route = context.route;
  const state = { endpoints: null, page: null, error: null, endpointsError: null };
  const pages = new Pages();
  let turn = 0;
  let closed = false;
  const redraw = () => !closed && draw(root, view());
  const may = (where) => context.admin || (context.session.scopes ?? []).includes(`admin:${where}`);

  const readEndpoints = async () => {
    try {
      state.endpoints = (await api.get("/v1/endpoints")).endpoints;
      state.endpointsError = null;
    } catch (error) {
      // Whoever may not see all of them sees those of the overview.
      state.endpoints = context.latest()?.endpoints ?? state.endpoints ?? [];
      state.endpointsError = error.status === 403 ? null : error;
    }
    redraw();
  };
  const read = async () => {
    const mine = ++turn;
    try {
      const page = await api.get(api.path("/v1/deliveries", { limit: 50, ...route.query }));
      if (mine === turn) Object.assign(state, { page, error: null });
    } catch (error) {
      if (mine === turn) state.error = error;
    }
    if (mine === turn) redraw();
  };
  const all = () => {
    read();
    readEndpoints();
  };
  const again = paced(1000, all);
  const ends = [live.on("delivery", () => again()), live.on("missed", () => again()), live.on("state", (now) => now === "live" && again())];
  const tick = setInterval(redraw, 10_000);

  async function pause(endpoint) {
    const reason = h("input", { type: "text", maxlength: "200", id: "pause-reason" });
    const done = await ask({
      title: `Pause ${endpoint.integration}/${endpoint.channel}?`,
      action: "Pause",
      body: [h("p", {}, "Its deliveries are kept and wait until it goes on. Nothing is lost."), field("Reason (optional)", reason)],
      work: () => api.post(`${where(endpoint)}/pause`, reason.value.trim() ? { reason: reason.value.trim() } : {}),
    });
    if (done) {
      toast("It is paused");
      all();
    }
  }

  async function resume(endpoint) {
    try {
      await api.post(`${where(endpoint)}/resume`, {});
      toast("It goes on");
    } catch (error) {
      state.endpointsError = error;
      redraw();
    }
    all();
  }

  function replayMany(preset) {
    const names = [
      ...new Set([
        ...(context.latest()?.integrations ?? []).map((one) => one.name),
        ...(state.endpoints ?? []).map((one) => one.integration),
      ]),
    ]
      .filter(may)
      .sort();
    const chosen = {
      integration: preset.integration ?? (context.admin ? "" : names[0]),
      channel: preset.channel ?? "",
      state: preset.state === "delivered" ? "delivered" : "dead",
      from: "",
      until: "",
    };
    const said = h("div", { "aria-live": "polite" });
    const go = h("button", { type: "submit", class: "primary", disabled: true }, "Replay");
    let mine = 0;
    const recount = async () => {
      const own = ++mine;
      go.disabled = true;
      if (!chosen.integration && !chosen.from && !chosen.until)
        return draw(said, h("p", { class: "quiet" }, "Choose an integration or a time."));
      draw(said, h("p", { class: "quiet" }, "Counting…"));
      try {
        const { total, more } = await counted(chosen);
        if (own !== mine) return undefined;
        go.disabled = total === 0;
        go.textContent = total ? `Replay ${more ? "more than " : ""}${count(total)}` : "Replay";
        draw(
          said,
          h(
            "p",
            {},
            total
              ? `${more ? "More than " : ""}${many(total, chosen.state === "dead" ? "dead letter" : "delivery", chosen.state === "dead" ? "dead letters" : "deliveries")} will be sent again.`
              : "Nothing fits.",
          ),
        );
      } catch (error) {
        if (own === mine) draw(said, problem(error));
      }
      return undefined;
    };
    const set =
      (what, read = (event) => event.target.value) =>
      (event) => {
        chosen[what] = read(event);
        recount();
      };
    // A channel is known within its integration.
    const channel = h("select", { onchange: set("channel") });
    const offer = () => {
      const known = (state.endpoints ?? []).filter((one) => one.integration === chosen.integration).map((one) => one.channel);
      channel.disabled = !chosen.integration;
      channel.replaceChildren(
        h("option", { value: "" }, "all channels"),
        ...known.map((one) => h("option", { value: one }, one)),
      );
      channel.value = known.includes(chosen.channel) ? chosen.channel : "";
      chosen.channel = channel.value;
    };
    offer();
    const dialog = modal(
      "Replay many",
      h(
        "form",
        {
          method: "dialog",
          onsubmit: async (event) => {
            event.preventDefault();
            go.disabled = true;
            try {
              const body = Object.fromEntries(Object.entries(chosen).filter(([, value]) => value));
              const done = await api.post("/v1/deliveries/replay", body);
              toast(`${many(done.replayed, "delivery", "deliveries")} sent again${done.left ? `, ${count(done.left)} could not be` : ""}`);
              dialog.close();
              all();
            } catch (error) {
              draw(said, problem(error));
              go.disabled = false;
            }
          },
        },
        h(
          "div",
          { class: "columns" },
          field(
            "Integration",
            select([...(context.admin ? [["", "all integrations"]] : []), ...names.map((one) => [one, one])], chosen.integration, {
              onchange: (event) => {
                Object.assign(chosen, { integration: event.target.value, channel: "" });
                offer();
                recount();
              },
            }),
          ),
          field(
            "Channel",
            channel,
          ),
          field(
            "What",
            select(
              [
                ["dead", "dead letters"],
                ["delivered", "what has arrived"],
              ],
              chosen.state,
              { onchange: set("state") },
            ),
          ),
          field("Made from", h("input", { type: "datetime-local", onchange: set("from", (event) => exact(event.target.value)) })),
          field("Made until", h("input", { type: "datetime-local", onchange: set("until", (event) => exact(event.target.value)) })),
        ),
        said,
        h("div", { class: "row end" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go),
      ),
    );
    recount();
  }

  function view() {
    const { query } = route;
    const names = [
      ...new Set([...(state.endpoints ?? []).map((one) => one.integration), ...(query.integration ? [query.integration] : [])]),
    ];
    const channels = [
      ...new Set([
        ...(state.endpoints ?? []).filter((one) => !query.integration || one.integration === query.integration).map((one) => one.channel),
        ...(query.channel ? [query.channel] : []),
      ]),
    ];
    return [
      h(
        "header",
        { class: "head row" },
        h("h1", { tabindex: "-1" }, "Deliveries"),
        h("span", { class: "spring" }),
        (context.admin || (context.session.scopes ?? []).some((scope) => scope.startsWith("admin:"))) &&
          h("button", { type: "button", onclick: () => replayMany(query) }, icon("again"), "Replay many…"),
      ),
      h(
        "section",
        { "aria-labelledby": "receivers", key: "receivers" },
        h("h2", { id: "receivers" }, "Channels and receivers"),
        state.endpointsError && problem(state.endpointsError, readEndpoints),
        !state.endpoints
          ? !state.endpointsError && loading("the channels")
          : state.endpoints.length
            ? table("Channels and receivers", columns, state.endpoints, (one) => `${one.integration}/${one.channel}`)
            : empty(
                context.admin ? "No integration delivers results yet" : "No integration that you may read delivers results",
                'Results are read here or by polling. An integration\'s deliver = [{ webhook = "…" }] sends them out.',
              ),
      ),
      h(
        "section",
        { "aria-labelledby": "letters", key: "letters" },
        h("h2", { id: "letters" }, query.state === "dead" ? "Dead letters" : "Deliveries"),
        filters(PARTS, query, [
          { name: "state", label: "State", options: STATES.map((one) => [one, one]) },
          { name: "integration", label: "Integration", options: names.map((one) => [one, one]) },
          { name: "channel", label: "Channel", options: channels.map((one) => [one, one]) },
          { name: "job", label: "Job", placeholder: "a job's id", class: "wide" },
          { name: "from", label: "From", type: "datetime-local" },
          { name: "until", label: "Until", type: "datetime-local" },
        ]),
        state.error && problem(state.error, read),
        !state.page
          ? !state.error && loading("the deliveries")
          : state.page.deliveries.length
            ? deliveryList(state.page.deliveries, {
                endpoints: state.endpoints ?? [],
                onreplay: (one) => replayOne(one, all),
                ongiveup: (one) => giveUp(one, all),
              })
            : empty(
                query.state === "dead" ? "No dead letter fits" : "No delivery fits",
                searched(context, "jobs' deliveries") ??
                  (query.state === "dead" ? "What is looked for has arrived, or is still tried." : null),
                query.state !== "dead" && "A delivery is made for each channel when a job ends.",
              ),
        state.page && pages.view(PARTS, query, state.page.next),
      ),
    ];
  }

  // How many there are is told to the integration's administrators only.
  const told = (one, number) => (one.dead === undefined ? "–" : count(number));
  const columns = [
    {
      title: "Channel",
      class: "main",
      cell: (one) =>
        h(
          "span",
          { class: "row tight" },
          sign(one.kind),
          h(
            "span",
            {},
            integration(one.integration),
            " / ",
            link(`/deliveries?${new URLSearchParams({ integration: one.integration, channel: one.channel })}`, name(one.channel, 40)),
          ),
        ),
    },
    {
      title: "Receiver",
      class: "grow",
      cell: (one) => (one.receiver ? name(one.receiver, 50) : h("span", { class: "quiet" }, one.configured ? "–" : "no longer configured")),
    },
    {
      title: "Health",
      cell: (one) =>
        h(
          "span",
          { class: "row tight" },
          health(one),
          one.paused &&
            h("span", { class: "cut quiet", title: `since ${one.paused.since}` }, h("bdi", {}, visible(one.paused.reason || ""))),
        ),
    },
    { title: "Waiting", class: "figure", cell: (one) => told(one, one.pending + one.held) },
    { title: "Sending", class: "figure", cell: (one) => told(one, one.sending) },
    { title: "Arrived", class: "figure", cell: (one) => told(one, one.delivered) },
    {
      title: "Dead",
      class: "figure",
      cell: (one) =>
        one.dead
          ? link(
              `/deliveries?${new URLSearchParams({ integration: one.integration, channel: one.channel, state: "dead" })}`,
              h("b", { class: "bad" }, count(one.dead)),
            )
          : told(one, 0),
    },
    { title: "Oldest due", cell: (one) => since(one.oldest_due) },
    {
      title: "",
      class: "actions",
      cell: (one) =>
        may(one.integration) &&
        (one.paused
          ? h(
              "button",
              { type: "button", class: "small", onclick: () => resume(one), "aria-label": `Resume ${one.integration}/${one.channel}` },
              icon("try"),
              "Resume",
            )
          : h(
              "button",
              { type: "button", class: "small", onclick: () => pause(one), "aria-label": `Pause ${one.integration}/${one.channel}` },
              icon("pause"),
              "Pause",
            )),
    },
  ];

  all();
  redraw();
  return {
    update(next) {
      route = next;
      state.page = null;
      redraw();
      read();
    },
    close() {
      closed = true;
      turn = -1;
      again.stop();
      clearInterval(tick);
      ends.forEach((end) => end());
    },
  };
}

const where = (endpoint) => `/v1/endpoints/${encodeURIComponent(endpoint.integration)}/${encodeURIComponent(endpoint.channel)}`;

function health(one) {
  if (one.paused) return badge("paused");
  if (one.breaker === "open") return badge("open", "does not answer");
  if (one.breaker === "half-open") return badge("half-open", "being tried");
  return badge("closed", "well");
}

async function counted(chosen) {
  let total = 0;
  let after;
  do {
    const page = await api.get(api.path("/v1/deliveries", { ...chosen, limit: 200, after }));
    total += page.deliveries.filter((one) => !one.superseded).length;
    after = page.next;
  } while (after && total < COUNTED);
  return { total, more: Boolean(after) };
}
