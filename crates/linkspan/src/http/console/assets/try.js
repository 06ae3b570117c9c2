// Trying an integration: a document goes in, the answer stands beside it.

import * as api from "./api.js";
import * as live from "./live.js";
import { draw, h, icon, keep, say } from "./dom.js";
import { bytes, millis, words } from "./format.js";
import { answers } from "./answer.js";
import { followed, made } from "./call.js";
import { command, separate } from "./curl.js";
import { droppable } from "./drop.js";
import { local, paper } from "./paper.js";
import { badge, code, copy, empty, field, loading, problem, segments, select } from "./parts.js";
import { go } from "./route.js";
import { name } from "./text.js";

const EXAMPLE =
  "The crossing was wonderful and the crew could not have been kinder. Sadly the coffee was terrible, and my cabin smelt of diesel.";
const HINTS = {
  "proof-of-identity": `{"name": "…", "birth-date": "1988-03-14"}`,
};

export const title = () => "Try it";

export function open(root, context) {
  const state = {
    route: context.route,
    mode: null,
    source: null,
    file: null,
    text: "",
    params: "",
    claim: "",
    phase: "idle",
    progress: 0,
    problem: null,
    result: null,
    job: null,
    took: null,
    dragging: false,
  };
  let sheet = null;
  let running = null;
  const integrations = () =>
    // One that answers to topics takes no calls.
    (context.latest()?.integrations ?? []).filter((one) => one.may_invoke && one.pattern !== "full-stream");
  const chosen = () => integrations().find((one) => one.name === state.route.query.integration) ?? integrations()[0];
  const takesText = (one) => one?.takes === "text";
  const input = (one) => state.source ?? (takesText(one) ? "text" : "file");
  const mode = (one) => state.mode ?? (one?.pattern === "sync" ? "sync" : "async");

  const busy = () => ["sending", "working", "job"].includes(state.phase);
  const redraw = () => draw(root, view());
  const ends = [
    live.on("overview", () => {
      if (!root.querySelector(".composer")) redraw();
    }),
  ];

  const take = (file) => {
    if (!file) return;
    Object.assign(state, { file, source: "file" });
    reset();
    say(`${file.name ?? "The document"} is chosen`);
  };
  const reset = () => {
    stop();
    sheet?.close();
    sheet = null;
    Object.assign(state, { phase: "idle", problem: null, result: null, job: null, progress: 0 });
    redraw();
  };
  const stop = () => {
    running?.abort();
    running = null;
  };
  const undrop = droppable(take, (dragging) => {
    if (state.dragging === dragging) return;
    state.dragging = dragging;
    redraw();
  });

  /// The document's password, where the parameters have one.
  const password = () => {
    try {
      return JSON.parse(state.params || "{}").password;
    } catch {
      return undefined;
    }
  };

  /// The call as the form stands.
  const call = (one) =>
    made({ ...state, one, asynchronous: mode(one) === "async", typed: input(one) === "text", auth: context.session.auth });

  async function send(event) {
    event.preventDefault();
    if (busy()) return;
    const one = chosen();
    stop();
    const own = (running = new AbortController());
    try {
      const { document, ...request } = call(one);
      sheet?.close();
      sheet = paper(local(document), password());
      Object.assign(state, { phase: "sending", progress: 0, problem: null, result: null, job: null, took: null });
      redraw();
      say("Sending");
      await sent(one, request, own);
    } catch (error) {
      // Whatever ended an earlier call says nothing about this one.
      if (own !== running) return;
      Object.assign(state, error.name === "AbortError" ? { phase: "stopped" } : { phase: "failed", problem: error });
      redraw();
    }
  }

  async function sent(one, request, own) {
    const answer = await api.send(`/v1/integrations/${encodeURIComponent(one.name)}/invocations`, {
      ...request,
      signal: own.signal,
      progress: (share) => {
        if (own !== running) return;
        Object.assign(state, { progress: share, phase: share >= 1 ? "working" : "sending" });
        redraw();
      },
    });
    state.took = answer.took;
    const document = JSON.parse(answer.text);
    if (answer.status !== 202) return done(document);
    Object.assign(state, { job: document, phase: "job" });
    redraw();
    say("Accepted: a job is queued");
    const started = performance.now();
    const job = await followed(document, {
      signal: own.signal,
      changed: (now) => {
        if (own !== running) return;
        state.job = now;
        redraw();
      },
    });
    if (!["succeeded", "failed"].includes(job.state)) {
      state.phase = "stopped";
      return redraw();
    }
    const result = await api.get(`/v1/jobs/${encodeURIComponent(job.id)}/result`, { signal: own.signal });
    state.took = performance.now() - started;
    return own === running && done(result);
  }

  function done(document) {
    Object.assign(state, { phase: "done", result: document });
    redraw();
    say(`The answer is there: ${document.status}`);
  }

  async function cancel() {
    const job = state.phase === "job" ? state.job : null;
    if (!job) {
      running?.abort();
      return;
    }
    try {
      await api.post(`/v1/jobs/${job.id}/cancel`);
    } catch (error) {
      Object.assign(state, { phase: "failed", problem: error });
      redraw();
    }
  }

  function view() {
    const head = h("h1", { tabindex: "-1" }, "Try it");
    if (!context.latest()) return [head, loading("the integrations")];
    const one = chosen();
    if (!one)
      return [
        head,
        empty(
          "There is no integration that you may invoke",
          "An integration is a section [integration.NAME] of linkspan.toml; the key needs the scope invoke.",
        ),
      ];
    return [head, composer(one), outcome(one)];
  }

  function composer(one) {
    const from = input(one);
    const picker = h("input", {
      type: "file",
      class: "unseen",
      id: "document",
      "aria-describedby": "document-hint",
      onchange: (event) => {
        take(event.target.files[0]);
        event.target.value = "";
      },
    });
    return h(
      "form",
      { class: "composer card", onsubmit: send, key: "composer" },
      h(
        "div",
        { class: "row fill" },
        field(
          "Integration",
          select(
            integrations().map((other) => [other.name, other.name]),
            one.name,
            {
              id: "integration",
              onchange: (event) => {
                go(["try"], { integration: event.target.value }, true);
              },
            },
          ),
          null,
          { key: "integration" },
        ),
        h(
          "div",
          { class: "field" },
          h("span", { class: "label", "aria-hidden": "true" }, "Answer"),
          segments(
            "How the answer comes",
            [
              ["sync", "Wait for it"],
              ["async", "As a job"],
            ],
            mode(one),
            (next) => {
              state.mode = next;
              redraw();
            },
            { key: "mode" },
          ),
        ),
        h(
          "div",
          { class: "field" },
          h("span", { class: "label", "aria-hidden": "true" }, "Input"),
          segments(
            "What is sent",
            [
              ["file", "File"],
              ["text", "Text"],
            ],
            from,
            (next) => {
              state.source = next;
              redraw();
            },
            { key: "input" },
          ),
        ),
        h(
          "p",
          { class: "hint steps" },
          one.steps.map((step) => h("span", { class: "step", title: `service ${step.service}` }, words(step.task))),
          ` ${one.pattern}, at most ${bytes(one.max_body)}`,
        ),
      ),
      from === "file"
        ? h(
            "div",
            { class: `drop${state.dragging ? " over" : ""}`, key: "drop" },
            picker,
            h(
              "label",
              { for: "document" },
              icon(state.file ? "file" : "upload"),
              state.file
                ? h(
                    "span",
                    {},
                    name(state.file.name || "pasted", 60),
                    h("span", { class: "quiet" }, ` ${[state.file.type, bytes(state.file.size)].filter(Boolean).join(" · ")}`),
                  )
                : h(
                    "span",
                    {},
                    h("b", {}, "Choose a document"),
                    h("span", { class: "quiet", id: "document-hint" }, ", drop it anywhere on this page, or paste it"),
                  ),
              state.file && h("span", { class: "quiet" }, "choose another"),
            ),
          )
        : h(
            "div",
            { class: "field", key: "text" },
            h("label", { for: "text" }, "Text"),
            h("textarea", {
              id: "text",
              rows: "4",
              dir: "auto",
              value: state.text,
              oninput: (event) => {
                state.text = event.target.value;
                recurl(one);
              },
            }),
            !state.text &&
              h(
                "button",
                {
                  type: "button",
                  class: "small",
                  onclick: () => {
                    state.text = EXAMPLE;
                    redraw();
                    root.querySelector("#text").focus();
                  },
                },
                "Insert an example",
              ),
          ),
      h(
        "details",
        { class: "options" },
        h("summary", {}, "Claim and parameters"),
        h(
          "div",
          { class: "columns" },
          field(
            "Claim (JSON)",
            h("textarea", {
              rows: "3",
              class: "mono",
              id: "claim",
              spellcheck: "false",
              value: state.claim,
              placeholder: HINTS[one.steps[0]?.task] ?? "",
              oninput: (event) => {
                state.claim = event.target.value;
                recurl(one);
              },
            }),
            "What the document is compared with.",
          ),
          field(
            "Parameters (JSON)",
            h("textarea", {
              rows: "3",
              class: "mono",
              id: "params",
              spellcheck: "false",
              value: state.params,
              placeholder: `{"language": "en"}`,
              oninput: (event) => {
                state.params = event.target.value;
                recurl(one);
              },
            }),
            "What the services take besides the document.",
          ),
        ),
      ),
      h(
        "details",
        { class: "options" },
        h("summary", {}, "The same call with curl"),
        h("div", { class: "same" }, same(one)),
      ),
      h(
        "div",
        { class: "row" },
        // Not `disabled`: that would take the focus from who pressed it.
        h("button", { type: "submit", class: "primary", "aria-disabled": busy() ? "true" : null }, icon("try"), "Send"),
        busy() && h("button", { type: "button", onclick: cancel }, "Cancel"),
        status(),
      ),
    );
  }

  // The command follows what is typed, without a redraw of what is typed in.
  function recurl(one) {
    draw(root.querySelector(".same"), same(one));
  }

  function same(one) {
    let curl;
    try {
      ({ curl } = call(one));
    } catch {
      // What is missing is shown when it is sent.
      return h("p", { class: "quiet" }, "The command stands here when the form is complete.");
    }
    const body = separate(curl);
    return [
      body &&
        h(
          "p",
          { class: "row" },
          h("span", {}, `The text is long. Save the body (${bytes(new Blob([body]).size)}) as body.json first:`),
          copy(body, "Copy the body"),
        ),
      code(command(curl), "the command"),
    ];
  }

  function status() {
    if (state.phase === "sending")
      return h(
        "span",
        { class: "row progress" },
        h("progress", { max: "1", value: String(state.progress), "aria-label": "sent" }),
        `${Math.round(state.progress * 100)} % sent`,
      );
    if (state.phase === "working")
      return h("span", { class: "row progress" }, h("progress", { "aria-label": "working" }), "the gateway works on it");
    if (state.phase === "job") return h("span", { class: "row progress" }, badge(state.job.state), jobLink());
    if (state.phase === "stopped") return h("span", { class: "quiet" }, "Stopped.");
    if (state.phase === "done")
      return h(
        "span",
        { class: "row" },
        badge(state.result.status),
        h("span", { class: "quiet" }, `after ${millis(state.took)}`),
        state.job && jobLink(),
      );
    return null;
  }

  const jobLink = () => h("a", { href: `#/jobs/${encodeURIComponent(state.job.id)}` }, "Open the job");

  function outcome() {
    if (state.phase === "idle" && !state.result) return null;
    return h(
      "div",
      { class: "outcome", key: "outcome" },
      state.problem && problem(state.problem),
      h("div", { class: "beside", key: "beside" }, sheet && keep(sheet.node), state.result && answersOf(state.result)),
    );
  }

  // Made once for each result: the element, with its place in the list and its open page, lives on over redraws.
  let shown = { result: null, node: null };
  function answersOf(result) {
    if (shown.result !== result) shown = { result, node: answers(result, sheet) };
    return keep(shown.node);
  }

  redraw();
  return {
    update(route) {
      const before = chosen()?.name;
      state.route = route;
      if (chosen()?.name === before) return redraw();
      Object.assign(state, { mode: null, source: null });
      return reset();
    },
    close() {
      ends.forEach((end) => end());
      undrop();
      stop();
      sheet?.close();
    },
  };
}
