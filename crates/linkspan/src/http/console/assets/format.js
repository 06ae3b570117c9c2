// Numbers, sizes and times as people read them.

const LOCALE = navigator.languages?.length ? navigator.languages : undefined;
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const day = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "medium" });
const short = new Intl.DateTimeFormat(LOCALE, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" });
const clock = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const languages = new Intl.DisplayNames(LOCALE ?? "en", { type: "language", fallback: "code" });

/// A count.
export const count = (value) => whole.format(value ?? 0);

/// A number with about three digits.
export function number(value) {
  if (!Number.isFinite(value)) return "–";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return new Intl.NumberFormat(LOCALE, { maximumFractionDigits: digits }).format(value);
}

/// Calls a second.
export const rate = (value) => (value > 0 && value < 0.01 ? "<0.01" : number(value ?? 0));

/// A share of one, in per cent.
export function percent(value, digits) {
  if (!Number.isFinite(value)) return "–";
  const shown = digits ?? (value > 0 && value < 0.1 ? 1 : 0);
  return `${new Intl.NumberFormat(LOCALE, { minimumFractionDigits: 0, maximumFractionDigits: shown }).format(value * 100)} %`;
}

/// Milliseconds as a length of time.
export function millis(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value < 1) return `${number(value)} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  return seconds(value / 1000);
}

/// Seconds as a length of time.
export function seconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value < 10 ? number(Math.round(value * 10) / 10) : Math.round(value)} s`;
  const minutes = Math.floor(value / 60);
  if (minutes < 60) return two(minutes, "min", Math.round(value % 60), "s");
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return two(hours, "h", minutes % 60, "min");
  return two(Math.floor(hours / 24), "d", hours % 24, "h");
}

const two = (big, unit, small, part) => (small ? `${big} ${unit} ${small} ${part}` : `${big} ${unit}`);

/// Bytes.
export function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  if (value < 1024) return `${count(value)} bytes`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let size = value / 1024;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${number(size)} ${units[unit]}`;
}

/// A time in the reader's words.
export function moment(text, now = Date.now()) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return String(text ?? "–");
  const today = new Date(now).toDateString() === time.toDateString();
  if (today) return clock.format(time);
  return Math.abs(now - time) < 300 * 86_400_000 ? short.format(time) : day.format(time);
}

/// How long ago, or how soon, in one unit.
export function ago(text, now = Date.now()) {
  const apart = (now - new Date(text).getTime()) / 1000;
  if (!Number.isFinite(apart)) return "–";
  const size = Math.abs(apart);
  if (size < 1) return "now";
  const [value, unit] =
    size < 60 ? [size, "s"] : size < 3600 ? [size / 60, "min"] : size < 172_800 ? [size / 3600, "h"] : [size / 86_400, "d"];
  return apart < 0 ? `in ${Math.round(value)} ${unit}` : `${Math.floor(value)} ${unit} ago`;
}

/// A language's name in the reader's language, with its code.
export function language(code) {
  if (code === "und") return "no language found";
  try {
    const name = languages.of(code);
    return name && name !== code ? name : code;
  } catch {
    return code;
  }
}

/// `proof-of-identity` as `Proof of identity`.
export function words(name) {
  const text = String(name ?? "")
    .replaceAll(/[-_]/g, " ")
    .replace(/\bmrz\b/, "MRZ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/// `1 page`, `2 pages`.
export const many = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;
