// Result documents for people: each answer as its task wants to be seen.

import { draw, h, icon, unique } from "./dom.js";
import { language, many, millis, number, percent, words } from "./format.js";
import { score, share, stack } from "./charts.js";
import { badge, copy, problem, segments } from "./parts.js";
import { jsonText, long, name, visible } from "./text.js";

/// Most lines that are listed at once.
const LINES = 300;

const VIEWS = { "extract-text": extracted, "proof-of-identity": identity, sentiment, "detect-language": detected };

/// The answers of a result document. `paper`: the document's view, whose boxes belong to the lines here. Gives an element that is
/// made once for each result.
export function answers(result, paper) {
  const steps = result.steps ?? [];
  const known = new Set(steps.map((step) => step.service));
  const others = Object.keys(result.answers ?? {}).filter((service) => !known.has(service));
  return h(
    "div",
    { class: "answers", key: `answers:${result.id}`, keep: `${result.id}:${result.status}` },
    result.error && problem(result.error),
    steps.map((step) => section(step, result.answers?.[step.service], paper)),
    others.map((service) => section({ service }, result.answers[service], paper)),
    raw(result),
  );
}

function section(step, answer, paper) {
  const view = VIEWS[step.task] ?? ((value) => tree(value));
  return h(
    "section",
    { class: "answer card" },
    h(
      "header",
      { class: "row" },
      h("h3", {}, words(step.task ?? step.service)),
      h("span", { class: "quiet" }, name(step.service, 40)),
      h("span", { class: "spring" }),
      h("span", { class: "quiet" }, [step.engine, step.took_ms !== undefined && millis(step.took_ms)].filter(Boolean).join(" · ")),
    ),
    answer === undefined ? h("p", { class: "quiet" }, "no answer") : view(answer, paper, step),
  );
}

/// The result document itself.
export function raw(result) {
  const body = h("div");
  return h(
    "details",
    {
      class: "raw card",
      ontoggle: (event) =>
        event.target.open &&
        !body.firstChild &&
        draw(body, long(jsonText(result), { id: `json:${result.id}`, mono: true, label: "result document", first: 12_000 })),
    },
    h(
      "summary",
      {},
      "The result document (JSON)",
      copy(() => jsonText(result), "Copy the result document"),
    ),
    body,
  );
}

function extracted(answer, paper) {
  const root = h("div", { class: "extracted" });
  const pages = answer.pages ?? [];
  let mode = pages.some((page) => page.lines?.length) ? "lines" : "text";
  let at = paper?.page ?? 1;
  let most = LINES;
  let active = 0;
  const list = () => root.querySelector("[role=listbox]");
  const page = () => pages.find((one) => one.number === at) ?? pages[0];

  const activate = (line, focus, tell = true) => {
    if (line >= most) {
      most = line + LINES;
      show();
    }
    active = line;
    for (const option of list()?.children ?? []) {
      const on = Number(option.dataset.line) === line;
      option.setAttribute("aria-selected", String(on));
      option.tabIndex = on ? 0 : -1;
      if (on && focus) option.focus();
      if (on && !focus) option.scrollIntoView({ block: "nearest" });
    }
    if (tell) paper?.select(at, line);
  };
  const keys = (event) => {
    const last = Math.min(most, page().lines.length) - 1;
    const next = { ArrowDown: active + 1, ArrowUp: active - 1, Home: 0, End: last, PageDown: active + 10, PageUp: active - 10 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    activate(Math.max(0, Math.min(last, next)), true);
  };
  const lines = (one) => [
    h(
      "ol",
      { class: "lines", role: "listbox", "aria-label": `The lines of page ${one.number}`, onkeydown: keys, key: `lines:${one.number}` },
      one.lines.slice(0, most).map((line, index) =>
        h(
          "li",
          {
            role: "option",
            "data-line": String(index),
            tabindex: index === active ? "0" : "-1",
            "aria-selected": String(index === active),
            dir: "auto",
            onpointerenter: () => activate(index, false),
            onclick: () => activate(index, true),
            onfocus: () => active !== index && activate(index, false),
          },
          h("span", { class: "said" }, visible(line.text.length > 2000 ? `${line.text.slice(0, 2000)}…` : line.text)),
          h(
            "span",
            {
              class: `sure ${line.confidence >= 0.85 ? "good" : line.confidence >= 0.6 ? "warn" : "bad"}`,
              title: "how sure the reading is",
            },
            percent(line.confidence, 0),
          ),
        ),
      ),
    ),
    one.lines.length > most &&
      h(
        "button",
        {
          type: "button",
          class: "small",
          onclick: () => {
            most += LINES * 4;
            show();
          },
        },
        `Show more of ${many(one.lines.length, "line")}`,
      ),
  ];
  function show() {
    const one = page();
    draw(
      root,
      h(
        "p",
        { class: "quiet row" },
        many(pages.length, "page"),
        " · ",
        answer.media_type,
        one && [
          ` · page ${one.number}: `,
          one.source === "ocr" ? "read from the picture" : "from the file's text",
          one.rotated ? `, turned by ${one.rotated}°` : "",
        ],
      ),
      one &&
        h(
          "div",
          { class: "row" },
          h("span", { class: "quiet" }, "confidence"),
          share(one.confidence, "how sure the reading of this page is"),
          h("span", { class: "spring" }),
          segments(
            "How the page is shown",
            [
              ["lines", "Lines"],
              ["text", "Text"],
            ],
            mode,
            (next) => {
              mode = next;
              show();
            },
            { key: "mode" },
          ),
        ),
      (answer.warnings ?? []).length > 0 &&
        h(
          "ul",
          { class: "warnings" },
          answer.warnings.slice(0, 50).map((warning) => h("li", {}, icon("alert"), h("bdi", {}, visible(warning)))),
        ),
      !one
        ? h("p", { class: "quiet" }, "nothing was read")
        : mode === "lines" && one.lines?.length
          ? lines(one)
          : long(one.text, { id: `page:${one.number}`, label: `page's text` }),
    );
  }
  if (paper) {
    paper.read(pages, answer.media_type);
    paper.onpage = (number) => {
      at = number;
      active = 0;
      most = LINES;
      show();
    };
    paper.onpick = (number, line, chosen) => {
      if (mode === "lines") activate(line, chosen, false);
    };
  }
  show();
  return root;
}

function identity(answer) {
  const fields = Object.entries(answer.fields ?? {});
  return h(
    "div",
    { class: "identity" },
    h("p", { class: "row verdict" }, badge(answer.verdict), h("strong", {}, words(answer.document))),
    (answer.reasons ?? []).length > 0 &&
      h(
        "ul",
        { class: "reasons" },
        answer.reasons.map((reason) => h("li", {}, h("bdi", {}, visible(reason)))),
      ),
    h("h4", {}, "Fields"),
    fields.length
      ? h(
          "div",
          { class: "fields" },
          fields.map(([label, field]) =>
            h(
              "div",
              {},
              h("span", { class: "label" }, words(label)),
              h("bdi", { class: label === "mrz" ? "value mono" : "value" }, visible(String(field.value ?? ""))),
              share(field.confidence, "how sure the reading is"),
              h("span", { class: "quiet source" }, field.source),
            ),
          ),
        )
      : h("p", { class: "quiet" }, "no field was read"),
    h("h4", {}, "Checks"),
    (answer.checks ?? []).length
      ? h(
          "ul",
          { class: "checks" },
          answer.checks.map((check) =>
            h(
              "li",
              { class: check.passed ? "good" : "bad" },
              icon(check.passed ? "check" : "cross"),
              h(
                "span",
                {},
                h("strong", {}, words(check.name)),
                h("span", { class: "unseen" }, check.passed ? ": passed." : ": failed."),
                h("bdi", { class: "quiet" }, visible(check.detail)),
              ),
            ),
          ),
        )
      : h("p", { class: "quiet" }, "nothing was checked"),
  );
}

function sentiment(answer) {
  const tone = { positive: "good", negative: "bad", mixed: "warn" }[answer.label] ?? "idle";
  return h(
    "div",
    { class: "sentiment" },
    h(
      "p",
      { class: "row" },
      h("span", { class: `badge ${tone}` }, h("i", { "aria-hidden": "true" }), words(answer.label)),
      score(answer.score),
      h("strong", { class: "figure" }, signed(answer.score)),
    ),
    answer.scores &&
      stack([
        ["positive", answer.scores.positive, "good"],
        ["neutral", answer.scores.neutral, "even"],
        ["negative", answer.scores.negative, "bad"],
      ]),
    (answer.sentences ?? []).length > 0 && [
      h("h4", {}, "Sentences"),
      h(
        "ol",
        { class: "sentences", tabindex: "0", "aria-label": "Sentences" },
        answer.sentences
          .slice(0, 500)
          .map((sentence, at) =>
            h(
              "li",
              {},
              score(sentence.score),
              h("span", { class: "figure" }, signed(sentence.score)),
              long(sentence.text, { id: `sentence:${at}`, first: 1500 }),
            ),
          ),
      ),
      answer.sentences.length > 500 && h("p", { class: "quiet" }, `and ${answer.sentences.length - 500} more in the result document`),
    ],
  );
}

const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${number(Math.abs(value))}`;

function detected(answer) {
  const row = (one) =>
    h(
      "li",
      {},
      h("span", {}, h("bdi", {}, language(one.language)), " ", h("span", { class: "quiet mono" }, one.language)),
      share(one.confidence, "how likely it is"),
    );
  return h("ul", { class: "languages" }, [answer, ...(answer.alternatives ?? [])].map(row));
}

/// Any JSON as nested lists, for tasks without a view of their own.
export function tree(value, depth = 0) {
  if (Array.isArray(value) || (value && typeof value === "object")) {
    const entries = Object.entries(value);
    if (!entries.length) return h("span", { class: "quiet" }, Array.isArray(value) ? "none" : "empty");
    const id = unique("tree");
    const list = h(
      "dl",
      { class: "tree", id },
      entries
        .slice(0, 200)
        .map(([label, one]) =>
          h("div", {}, h("dt", {}, h("bdi", {}, visible(label))), h("dd", {}, depth > 6 ? "…" : tree(one, depth + 1))),
        ),
    );
    return entries.length > 200 ? [list, h("p", { class: "quiet" }, `and ${entries.length - 200} more in the result document`)] : list;
  }
  if (typeof value === "string") return long(value, { id: unique("text"), first: 1500 });
  return h("span", { class: "figure" }, String(value));
}
