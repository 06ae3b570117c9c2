// A document as it looks: its pages as pictures, with the recognised lines boxed on them, or its text.

import * as api from "./api.js";
import { draw, h, icon, s } from "./dom.js";
import { bytes } from "./format.js";
import { field, loading, problem } from "./parts.js";
import { long, name, visible } from "./text.js";

const SHOWN_BY_BROWSER = /^image\/(png|jpeg|webp|gif)$/;
const TEXT = /^(text\/|application\/(json|xml|csv)$)/;
/// Points of a PDF in an inch, and the engine's own resolution where it reads a page by OCR.
const POINTS = 72;
const OCR_DPI = 300;
/// So much of a text document is shown.
const TEXT_BYTES = 6 * 1024 * 1024;

/// How the view stands after a refusal that says more of the document than of the call.
const KINDS = { "unsupported-media-type": "none", "password-required": "locked" };

/// A document that lies in the page. `blob` has a type and perhaps a name.
export const local = (blob) => ({
  id: `${blob.name ?? "text"}:${blob.size}:${blob.lastModified ?? 0}`,
  name: blob.name,
  type: blob.type,
  size: blob.size,
  picture: SHOWN_BY_BROWSER.test(blob.type) ? async () => blob : null,
  page: (number, signal, password) =>
    api.raw("POST", `/console/preview?page=${number}`, {
      body: blob,
      signal,
      headers: { "content-type": blob.type || "application/octet-stream", ...withPassword(password) },
    }),
  text: () => blob.slice(0, TEXT_BYTES).text(),
});

/// A job's stored document.
export const stored = (job) => ({
  id: job.id,
  name: job.document?.file_name,
  type: (job.document?.media_type ?? "").split(";")[0],
  size: job.document?.size,
  href: job.links.document ?? `/v1/jobs/${job.id}/document`,
  picture: null,
  page: (number, signal, password) =>
    api.raw("GET", `/v1/jobs/${job.id}/preview?page=${number}`, { signal, headers: withPassword(password) }),
  text: async () => (await (await api.raw("GET", job.links.document ?? `/v1/jobs/${job.id}/document`)).blob()).slice(0, TEXT_BYTES).text(),
});

const withPassword = (password) =>
  password ? { "linkspan-document-password": btoa(String.fromCharCode(...new TextEncoder().encode(password))) } : {};

/// The view of a document, with its password where one is known: `{node, read(pages, mediaType), select(page, line), onpage, onpick,
/// close()}`.
export function paper(source, password = "") {
  const root = h("section", { class: "paper card", "aria-label": "The document" });
  const stop = new AbortController();
  const view = { node: root, onpage: null, onpick: null, page: 1 };
  const cache = new Map();
  let total = 1;
  let answer = [];
  let mediaType = source.type;
  let selected = -1;
  let zoomed = false;
  let state = { kind: "loading" };
  let turn = 0;

  view.read = (pages, type) => {
    answer = pages ?? [];
    mediaType = type ?? mediaType;
    total = Math.max(total, answer.length);
    redraw();
  };
  view.select = (page, line) => {
    selected = line;
    if (page !== view.page) go(page);
    else {
      mark();
      root.querySelector(".box.on")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  };
  view.close = () => {
    stop.abort();
    for (const { url } of cache.values()) URL.revokeObjectURL(url);
  };

  const go = (page) => {
    view.page = Math.max(1, Math.min(total, page));
    view.onpage?.(view.page);
    load();
  };

  async function load() {
    const mine = ++turn;
    const wanted = view.page;
    if (TEXT.test(source.type) && source.type !== "text/html") {
      try {
        state = { kind: "text", text: await source.text() };
      } catch (error) {
        state = { kind: "problem", error };
      }
      return redraw();
    }
    if (!cache.has(wanted)) {
      state = { kind: "loading" };
      redraw();
      try {
        cache.set(wanted, await fetched(wanted));
      } catch (error) {
        if (error.name === "AbortError" || mine !== turn) return undefined;
        state = { kind: KINDS[error.code] ?? "problem", error };
        return redraw();
      }
    }
    if (mine !== turn || stop.signal.aborted) return undefined;
    state = { kind: "picture", ...cache.get(wanted) };
    total = Math.max(total, state.pages ?? 1);
    return redraw();
  }

  async function fetched(page) {
    if (source.picture) {
      const url = URL.createObjectURL(await source.picture());
      const picture = new Image();
      picture.src = url;
      try {
        await picture.decode();
      } catch {
        URL.revokeObjectURL(url);
        throw new api.Problem({ status: 422, detail: "The browser cannot show this picture." });
      }
      // The browser turns a photo as its camera noted, and so does the engine before it reads.
      return { url, width: picture.naturalWidth, height: picture.naturalHeight, pages: 1 };
    }
    const response = await source.page(page, stop.signal, password);
    const header = (name) => Number(response.headers.get(name)) || 0;
    const url = URL.createObjectURL(await response.blob());
    let [width, height] = [header("linkspan-page-width"), header("linkspan-page-height")];
    if (!width || !height) {
      const picture = new Image();
      picture.src = url;
      await picture.decode();
      [width, height] = [picture.naturalWidth, picture.naturalHeight];
    }
    return { url, width, height, pages: header("linkspan-pages") || 1 };
  }

  function unlock() {
    const entered = h("input", { type: "password", autocomplete: "off", required: true });
    return h(
      "form",
      {
        class: "unlock",
        onsubmit: (event) => {
          event.preventDefault();
          password = event.target.querySelector("input").value;
          load();
        },
      },
      h(
        "p",
        { role: "status" },
        password
          ? h("bdi", {}, visible(state.error.detail))
          : "The document is encrypted: its pages are shown with its password.",
      ),
      h("div", { class: "row fill" }, field("Password", entered), h("button", { type: "submit" }, "Show the pages")),
    );
  }

  const lines = () => answer.find((page) => page.number === view.page);

  function redraw() {
    draw(
      root,
      h(
        "header",
        { class: "row" },
        icon("file"),
        h("span", { class: "title" }, source.name ? name(source.name, 48) : "Document"),
        h(
          "span",
          { class: "quiet" },
          [source.type || "kind not told", Number.isFinite(source.size) && bytes(source.size)].filter(Boolean).join(" · "),
        ),
        h("span", { class: "spring" }),
        total > 1 &&
          h(
            "span",
            { class: "row pager" },
            h(
              "button",
              {
                type: "button",
                class: "small icon-only",
                "aria-label": "The page before",
                disabled: view.page <= 1,
                onclick: () => go(view.page - 1),
              },
              icon("left"),
            ),
            h("span", { class: "figure", role: "status" }, `page ${view.page} of ${total}`),
            h(
              "button",
              {
                type: "button",
                class: "small icon-only",
                "aria-label": "The next page",
                disabled: view.page >= total,
                onclick: () => go(view.page + 1),
              },
              icon("right"),
            ),
          ),
        state.kind === "picture" &&
          h(
            "button",
            {
              type: "button",
              class: "small",
              "aria-pressed": String(zoomed),
              onclick: () => {
                zoomed = !zoomed;
                redraw();
              },
            },
            zoomed ? "Fit" : "Zoom",
          ),
        source.href &&
          h(
            "a",
            { class: "button small icon-only", href: source.href, "aria-label": "Download the document", title: "Download", download: "" },
            icon("download"),
          ),
      ),
      h("div", { class: `sheet${zoomed ? " zoomed" : ""}`, tabindex: "0", role: "region", "aria-label": "The page" }, content()),
    );
    mark();
  }

  function content() {
    if (state.kind === "loading") return loading("the document");
    if (state.kind === "problem") return problem(state.error, load);
    if (state.kind === "none")
      return h("p", { class: "quiet note" }, "There is no picture of this kind of document; what was read stands beside.");
    if (state.kind === "locked") return unlock();
    if (state.kind === "text") return long(state.text, { id: `paper:${source.id}`, label: "document's text", first: 20_000 });
    const page = lines();
    const scale = unit(page);
    const [width, height] = [state.width * scale, state.height * scale];
    const degrees = page?.rotated ?? 0;
    const upright = degrees % 180 === 0 ? [width, height] : [height, width];
    const turned = {
      0: "",
      90: `translate(${height} 0) rotate(90)`,
      180: `translate(${width} ${height}) rotate(180)`,
      270: `translate(0 ${width}) rotate(270)`,
    }[degrees];
    const pad = Math.max(...upright) / 400;
    return s(
      "svg",
      {
        class: "picture",
        viewBox: `0 0 ${upright[0]} ${upright[1]}`,
        key: `${state.url}:${scale}:${degrees}`,
        role: "img",
        "aria-label": `Page ${view.page}`,
      },
      s("image", { href: state.url, width, height, transform: turned, preserveAspectRatio: "none" }),
      s(
        "g",
        {
          class: "boxes",
          onclick: (event) => pick(event.target, true),
          onpointerover: (event) => pick(event.target, false),
        },
        (page?.lines ?? []).slice(0, 5000).map(
          (line, at) =>
            line.box &&
            s("rect", {
              class: `box ${line.confidence >= 0.85 ? "good" : line.confidence >= 0.6 ? "warn" : "bad"}`,
              "data-line": String(at),
              x: line.box[0] - pad,
              y: line.box[1] - pad,
              width: line.box[2] + 2 * pad,
              height: line.box[3] + 2 * pad,
              rx: pad,
            }),
        ),
      ),
    );
  }

  // Boxes are in pixels of the picture where a page was read by OCR; a PDF's page is told in points.
  function unit(page) {
    if (mediaType !== "application/pdf" || page?.source !== "ocr") return 1;
    const boxes = (page.lines ?? []).map((line) => line.box).filter(Boolean);
    const across = Math.max(...boxes.map((box) => box[0] + box[2]), 0);
    const [wide, high] = (page.rotated ?? 0) % 180 === 0 ? [state.width, state.height] : [state.height, state.width];
    const down = Math.max(...boxes.map((box) => box[1] + box[3]), 0);
    // Read at the engine's own resolution, or at a higher one where the boxes would not lie within the page.
    return Math.max(OCR_DPI / POINTS, across / wide, down / high);
  }

  function pick(target, chosen) {
    const line = Number(target.dataset?.line);
    if (!Number.isInteger(line) || (line === selected && !chosen)) return;
    selected = line;
    mark();
    view.onpick?.(view.page, line, chosen);
  }

  function mark() {
    for (const box of root.querySelectorAll(".box")) box.classList.toggle("on", Number(box.dataset.line) === selected);
  }

  load();
  return view;
}
