// What happens in the gateway, by server-sent events, to whoever on the page wants to know.

const listeners = new Map();
let source = null;
let retry = 0;
let wait = 1000;
let hiddenSince = 0;
let wanted = false;
let state = "off";

/// Calls `work(data)` for each event of a kind (`overview`, `job`, `delivery`; `missed`: more may have changed than was told), and for
/// `state` with `live`, `offline` or `off`.
/// Gives the way to end that.
export function on(kind, work) {
  if (!listeners.has(kind)) listeners.set(kind, new Set());
  listeners.get(kind).add(work);
  return () => listeners.get(kind).delete(work);
}

/// `live`, `offline` or `off`.
export const liveState = () => state;

/// Starts to listen.
export function start() {
  wanted = true;
  connect();
}

/// Stops to listen.
export function stop() {
  wanted = false;
  close();
  become("off");
}

/// So long a hidden page stays connected.
const HIDDEN_MS = 60_000;

function rest() {
  if (!document.hidden) return;
  close();
  become("off");
}

function tell(kind, data) {
  for (const work of listeners.get(kind) ?? []) work(data);
}

function become(next) {
  if (state === next) return;
  state = next;
  tell("state", state);
}

function close() {
  clearTimeout(retry);
  source?.close();
  source = null;
}

function connect() {
  close();
  if (!wanted) return;
  source = new EventSource("/console/events");
  source.onopen = () => {
    wait = 1000;
    become("live");
  };
  for (const kind of ["overview", "job", "delivery", "missed"]) {
    source.addEventListener(kind, (event) => {
      let data;
      try {
        data = JSON.parse(event.data);
      } catch {
        return;
      }
      become("live");
      tell(kind, data);
    });
  }
  source.onerror = () => {
    become("offline");
    // The browser tries again by itself after a lost connection, but not after a refusal or at its own slow pace: one way for both.
    source?.close();
    clearTimeout(retry);
    retry = setTimeout(connect, wait * (0.75 + Math.random() / 2));
    wait = Math.min(wait * 2, 15_000);
    tell("lost");
  };
}

// A page that nobody looks at gives its connection back: a browser has few for one host. It is not live then: when it is looked at
// again and becomes so, what it shows is read anew.
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiddenSince);
  if (document.hidden) hiddenSince = setTimeout(rest, HIDDEN_MS);
  else if (wanted && !source) connect();
});
addEventListener("online", () => wanted && state !== "live" && connect());
