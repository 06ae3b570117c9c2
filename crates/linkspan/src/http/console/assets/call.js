// A call of an integration as the page makes it, and what becomes of its job.

import * as api from "./api.js";

const OPEN = ["queued", "running", "waiting"];
const ENDED = ["succeeded", "failed", "cancelled", "expired"];

/// A call as it stands in the form: headers, body, what the curl command needs, and the document to show beside the answer. What is
/// missing, or is not JSON, is a problem.
export function made({ one, asynchronous, typed, file, text, params, claim, auth }) {
  if (typed && !text.trim()) throw new api.Problem({ title: "There is no text", detail: "Type or paste one." });
  if (!typed && !file)
    throw new api.Problem({ title: "No document is chosen", detail: "Drop one on the page, paste one, or choose a file." });
  const members = { params: object("The parameters", params), claim: object("The claim", claim) };
  // A sync integration waits by itself, up to its deadline; any other is asked to.
  const prefer = asynchronous ? "respond-async" : one.pattern === "sync" ? "" : "wait=60";
  const headers = prefer ? { prefer } : {};
  const curl = { integration: one.name, prefer, auth, ...members };
  const document = typed ? new File([text], "text.txt", { type: "text/plain" }) : file;
  if (typed && one.takes === "text") {
    headers["content-type"] = "application/json";
    return { headers, body: JSON.stringify({ text, ...members }), curl: { ...curl, text }, document };
  }
  // Only a form carries the file's name.
  const body = new FormData();
  body.append("document", document, document.name);
  for (const [name, value] of Object.entries(members)) if (value) body.append(name, JSON.stringify(value));
  return { headers, body, curl: { ...curl, file: document, multipart: true }, document };
}

/// Follows a job to its end: `changed(job)` at each change, and the job at its end. Ends with the signal, as an AbortError.
export async function followed(job, { signal, changed }) {
  let latest = job;
  while (OPEN.includes(latest.state)) {
    const last = await stream(latest, signal, changed);
    if (signal.aborted) throw new DOMException("stopped", "AbortError");
    if (last && ENDED.includes(last.state)) return last;
    // The stream ends with the job; it may also have been cut: the job itself says which.
    latest = await api.get(`/v1/jobs/${encodeURIComponent(job.id)}`, { signal });
    changed(latest);
    if (OPEN.includes(latest.state)) await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  return latest;
}

/// A job's events until they end. Gives the last one.
function stream(job, signal, changed) {
  return new Promise((resolve) => {
    let last = null;
    const events = new EventSource(job.links?.events ?? `/v1/jobs/${encodeURIComponent(job.id)}/events`);
    const end = () => {
      events.close();
      resolve(last);
    };
    for (const state of [...OPEN, ...ENDED]) {
      events.addEventListener(state, (event) => {
        last = JSON.parse(event.data);
        changed(last);
        if (ENDED.includes(last.state)) end();
      });
    }
    events.onerror = end;
    signal.addEventListener("abort", end);
  });
}

function object(label, text) {
  if (!text.trim()) return undefined;
  const detail = 'It must be one JSON object, such as {"name": "value"}.';
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new api.Problem({ title: `${label}: not JSON`, detail });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new api.Problem({ title: `${label}: not a JSON object`, detail });
  return value;
}
