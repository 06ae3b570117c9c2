// Keys, for administrators: what there is, a new one shown once, revoking.

import * as api from "./api.js";
import { draw, h, icon } from "./dom.js";
import { ask, badge, copy, empty, field, loading, modal, problem, select, since, table, time, toast } from "./parts.js";
import { name, visible } from "./text.js";

const ACTIONS = [
  ["invoke", "send documents"],
  ["read", "see its own jobs and deliveries; cancel, retry, delete, replay them and give them up"],
  ["admin", "the same with everybody's; for all integrations, also keys and the audit"],
];

const NAME_RULE = "1 to 63 letters, digits and . - _ @";

export const title = () => "Keys";

export function open(root, context) {
  const state = { keys: null, error: null };
  let closed = false;
  const redraw = () => !closed && draw(root, view());
  const read = async () => {
    try {
      Object.assign(state, { keys: (await api.get("/v1/keys")).keys, error: null });
    } catch (error) {
      state.error = error;
    }
    redraw();
  };

  async function revoke(key) {
    const done = await ask({
      title: "Revoke this key?",
      action: "Revoke",
      danger: true,
      body: h("p", {}, h("b", {}, name(key.name, 60)), " stops working at once, everywhere. This cannot be undone."),
      work: () => api.post(`/v1/keys/${encodeURIComponent(key.id)}/revoke`),
    });
    if (done) {
      toast("The key is revoked");
      read();
    }
  }

  function add() {
    const integrations = (context.latest()?.integrations ?? []).map((one) => one.name);
    const label = h("input", { type: "text", required: true, maxlength: "63", pattern: "[A-Za-z0-9._@\\-]+", autocomplete: "off" });
    label.title = NAME_RULE;
    const where = select([["", "all integrations"], ...integrations.map((one) => [one, one])], "");
    const expires = select(
      [
        ["30d", "30 days"],
        ["90d", "90 days"],
        ["365d", "a year"],
        ["", "never"],
      ],
      "90d",
    );
    const rate = h("input", { type: "number", min: "1", max: "100000", step: "1", placeholder: "the gateway's" });
    const boxes = ACTIONS.map(([action]) => h("input", { type: "checkbox", name: "scope", value: action, checked: action !== "admin" }));
    const said = h("div");
    const go = h("button", { type: "submit", class: "primary" }, "Make the key");
    const body = h("div");
    const dialog = modal("A new key", body, () => {
      draw(body);
      read();
    });
    draw(
      body,
      h(
        "form",
        {
          method: "dialog",
          onsubmit: async (event) => {
            event.preventDefault();
            const scopes = boxes.filter((box) => box.checked).map((box) => (where.value ? `${box.value}:${where.value}` : box.value));
            if (!scopes.length)
              return draw(
                said,
                problem(new api.Problem({ title: "The key may do nothing", detail: "Choose at least one thing that it may do." })),
              );
            const wanted = label.value.trim();
            if ((state.keys ?? []).some((key) => key.name === wanted) && !(await shared(wanted))) return undefined;
            go.disabled = true;
            try {
              const made = await api.post("/v1/keys", {
                name: wanted,
                scopes,
                expires_in: expires.value || undefined,
                rate: Number(rate.value) || undefined,
              });
              body.replaceChildren(
                h(
                  "div",
                  {},
                  h("p", {}, "This is the only time that the key is shown. Keep it where secrets are kept."),
                  h("div", { class: "code secret" }, h("pre", { tabindex: "0" }, h("code", {}, made.key)), copy(made.key, "Copy the key")),
                  h(
                    "div",
                    { class: "row end" },
                    h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "I have it"),
                  ),
                ),
              );
              body.querySelector("button").focus();
            } catch (error) {
              draw(said, problem(error));
              go.disabled = false;
            }
            return undefined;
          },
        },
        field("Name", label, `${NAME_RULE}. Keys of one name share their jobs.`),
        h(
          "fieldset",
          { class: "choices" },
          h("legend", {}, "It may"),
          ACTIONS.map(([action, says], at) =>
            h("label", {}, boxes[at], h("span", {}, h("b", {}, action), h("span", { class: "quiet" }, ` ${says}`))),
          ),
        ),
        h("div", { class: "columns" }, field("For", where), field("Expires after", expires), field("Requests a second", rate)),
        said,
        h("div", { class: "row end" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go),
      ),
    );
    label.focus();
  }

  const shared = (wanted) =>
    ask({
      title: "There is a key of this name",
      action: "Make another",
      body: h(
        "p",
        {},
        "Keys of one name share their jobs: the new one sees and may change what ",
        h("b", {}, name(wanted, 63)),
        " has sent so far. That is right where it replaces the other one.",
      ),
      work: async () => {},
    });

  function view() {
    return [
      h(
        "header",
        { class: "head row" },
        h("h1", { tabindex: "-1" }, "Keys"),
        h("span", { class: "spring" }),
        h("button", { type: "button", class: "primary", onclick: add }, icon("plus"), "New key"),
      ),
      state.error && problem(state.error, read),
      !state.keys
        ? !state.error && loading("the keys")
        : state.keys.length
          ? table("Keys", columns, state.keys, (key) => key.id)
          : empty("There are no keys", "Callers show one with each call: Authorization: Bearer lsk_…"),
    ];
  }

  const status = (key) =>
    key.revoked
      ? badge("dead", "revoked")
      : key.expires && new Date(key.expires) < new Date()
        ? badge("paused", "expired")
        : badge("delivered", "valid");
  const columns = [
    { title: "Name", class: "main", cell: (key) => h("span", { class: "strong" }, name(key.name, 60)) },
    { title: "State", cell: status },
    { title: "Kind", cell: (key) => (key.kind === "sigv4" ? "access key (SigV4)" : "bearer") },
    {
      title: "May",
      class: "grow",
      cell: (key) =>
        h(
          "span",
          { class: "scopes" },
          key.scopes.map((scope) => h("span", { class: "step" }, h("bdi", {}, visible(scope)))),
        ),
    },
    { title: "Made", cell: (key) => time(key.created) },
    { title: "Expires", cell: (key) => (key.revoked ? "–" : since(key.expires, "never")) },
    { title: "Rate", class: "figure", cell: (key) => (key.rate === undefined || key.rate === null ? "–" : `${key.rate}/s`) },
    { title: "Id", cell: (key) => h("span", { class: "mono" }, key.id) },
    {
      title: "",
      class: "actions",
      cell: (key) =>
        !key.revoked &&
        h(
          "button",
          { type: "button", class: "small danger quiet", onclick: () => revoke(key), "aria-label": `Revoke ${key.name}` },
          "Revoke",
        ),
    },
  ];

  read();
  redraw();
  return {
    update() {},
    close() {
      closed = true;
    },
  };
}
