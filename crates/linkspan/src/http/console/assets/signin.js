// Signing in, with a key or with the organisation's account.

import * as api from "./api.js";
import { draw, h } from "./dom.js";
import { field, problem } from "./parts.js";

/// Draws the sign-in page; `done(session)` is called when somebody is in.
export function signIn(root, session, reason, done) {
  const key = h("input", {
    type: "password",
    name: "key",
    required: true,
    autocomplete: "current-password",
    spellcheck: "false",
    autocapitalize: "off",
    placeholder: "lsk_…",
  });
  const said = h("div");
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  const enter = async (event) => {
    event.preventDefault();
    button.disabled = true;
    draw(said);
    try {
      done(await api.post("/console/session", { key: key.value.trim() }));
    } catch (error) {
      draw(said, problem(error));
      key.select();
      key.focus();
    }
    button.disabled = false;
  };
  draw(
    root,
    h(
      "main",
      { id: "main", class: "alone", tabindex: "-1" },
      h(
        "div",
        { class: "card sign-in" },
        h(
          "div",
          { class: "brand" },
          h("img", { src: "/console/assets/mark.svg", alt: "", width: "32", height: "32" }),
          h("b", {}, "linkspan"),
        ),
        h("h1", {}, "Sign in to the console"),
        reason && h("p", { role: "status" }, reason),
        session.oidc && [
          h("a", { class: "button primary", href: "/console/oidc/login" }, "Sign in with your organisation"),
          h("p", { class: "or" }, "or with a key"),
        ],
        h(
          "form",
          { onsubmit: enter },
          field("Key", key, "A key of this gateway. Whoever runs it makes one with: linkspan keys add NAME --scope invoke --scope read"),
          said,
          button,
        ),
      ),
    ),
  );
  if (!session.oidc) key.focus();
}
