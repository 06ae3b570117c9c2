// Calls of the gateway, with the session's token, and its problems as errors.

/// A problem document (RFC 9457), or what stands for one where no answer came.
export class Problem extends Error {
  constructor(fields) {
    super(fields.detail ?? fields.title ?? "");
    Object.assign(this, { status: 0, code: "", title: "The gateway did not answer", detail: "", retryable: true, ...fields });
  }
}

let csrf = "";
let whenSignedOut = () => {};

/// The token of the session, for every call that changes something.
export function useToken(token) {
  csrf = token ?? "";
}

/// Called when the gateway says that nobody is signed in.
export function onSignedOut(work) {
  whenSignedOut = work;
}

export const get = (path, options) => json("GET", path, undefined, options);
export const post = (path, body, options) => json("POST", path, body, options);
export const remove = (path, options) => json("DELETE", path, undefined, options);

/// A path with a query; what is empty is left out.
export function path(base, query) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== "") search.set(name, value);
  }
  const text = search.toString();
  return text ? `${base}?${text}` : base;
}

/// A call whose answer is not JSON. Gives the response.
export async function raw(method, target, { body, headers, signal } = {}) {
  let response;
  try {
    response = await fetch(target, {
      method,
      body,
      signal,
      headers: withToken(method, headers),
      credentials: "same-origin",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ detail: "There is no connection to the gateway. Check that it runs, then try again." });
  }
  if (response.ok || response.status === 304) return response;
  throw await refused(response);
}

/// Sends a body with its progress: `progress(0…1)` while it goes up. Gives `{status, header(name), text, took}`.
export function send(target, { body, headers, signal, progress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const started = performance.now();
    request.open("POST", target);
    for (const [name, value] of Object.entries(withToken("POST", headers))) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && progress?.(event.loaded / event.total);
    request.upload.onload = () => progress?.(1);
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.onerror = () =>
      reject(
        new Problem({ detail: "The connection to the gateway ended before there was an answer. Check that it runs, then try again." }),
      );
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) {
        resolve({
          status: request.status,
          header: (name) => request.getResponseHeader(name),
          text: request.responseText,
          took: performance.now() - started,
        });
      } else {
        reject(problem(request.status, request.responseText, (name) => request.getResponseHeader(name)));
      }
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

async function json(method, target, body, options = {}) {
  const headers = { accept: "application/json", ...options.headers };
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await raw(method, target, {
    ...options,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ status: response.status, title: "The answer cannot be read", detail: "The gateway's answer is not JSON." });
  }
}

function withToken(method, headers) {
  const all = { ...headers };
  if (csrf && method !== "GET" && method !== "HEAD") all["x-csrf-token"] = csrf;
  return all;
}

async function refused(response) {
  const text = await response.text().catch(() => "");
  return problem(response.status, text, (name) => response.headers.get(name));
}

function problem(status, text, header) {
  let fields = {};
  try {
    fields = JSON.parse(text);
  } catch {
    /* A proxy's own page, perhaps: the status says what there is to say. */
  }
  if (typeof fields !== "object" || fields === null) fields = {};
  const found = new Problem({
    title: `The gateway answered ${status}`,
    retryable: status >= 500,
    ...fields,
    status,
    request_id: fields.request_id ?? header("x-request-id") ?? undefined,
    retry_after: Number(header("retry-after")) || undefined,
  });
  if (status === 401) whenSignedOut(found);
  return found;
}
