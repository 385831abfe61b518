// Numbers, times, states and names in words. Sizes are in the units that `thorp ls` shows.

const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
const whole = new Intl.NumberFormat("en");
const dates = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "medium" });
const clocks = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

export const number = (value) => whole.format(value);

export function size(bytes) {
  if (bytes < 1024) return `${number(bytes)} B`;
  let [value, unit] = [bytes / 1024, 0];
  while (value >= 999.5 && unit < UNITS.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

export function count(value, one, many) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

/** How long ago; the time of day or the date when it is longer. */
export function ago(text, now = Date.now()) {
  const at = new Date(text);
  const seconds = (now - at) / 1000;
  if (Number.isNaN(seconds)) return "";
  if (seconds < 45) return "just now";
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 86400 * 0.75) return `${Math.round(seconds / 3600)} h ago`;
  if (seconds < 86400 * 6) return `${Math.round(seconds / 86400) || 1} d ago`;
  return dates.format(at);
}

export const timeOfDay = (text) => (Number.isNaN(Date.parse(text)) ? "" : clocks.format(new Date(text)));
export const fullTime = (text) => (Number.isNaN(Date.parse(text)) ? "" : moments.format(new Date(text)));

// As `cli/escape.rs`: what cannot be seen or turns the reading direction makes a name look like another one.
const UNSEEN = new RegExp(
  "[\\p{Cc}\\u{ad}\\u{34f}\\u{61c}\\u{115f}\\u{1160}\\u{17b4}\\u{17b5}\\u{180b}-\\u{180f}\\u{200b}-\\u{200f}\\u{2028}-\\u{202e}" +
    "\\u{2060}-\\u{206f}\\u{3164}\\u{feff}\\u{ffa0}\\u{fff0}-\\u{fffb}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}]",
  "gu",
);

/** A name or a line from elsewhere, with nothing in it that hides. */
export const visible = (text) => String(text).replace(UNSEEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);

/** A name as part of an address: each part encoded, `/` as it stands. */
export const inPath = (name) => name.split("/").map(encodeURIComponent).join("/");

/** What a file waits for; empty when all is well. */
export function fileState(row) {
  if (row.state === "lost") return "no machine that is up has it";
  if (row.state === "degraded") return "too few machines for more copies";
  if (row.replicas > row.replicas_wanted) return "removing copies";
  if (row.state === "healing" || row.replicas < row.replicas_wanted) return "making copies";
  return "";
}

const NODE_STATES = {
  up: "up",
  suspect: "suspect: silent",
  away: "away: stopped",
  down: "down",
  draining: "draining: being emptied",
};
export const nodeState = (state) => NODE_STATES[state] ?? state;

const ROLES = { proxy: "leads", storage: "stores", client: "client" };
export const role = (name) => ROLES[name] ?? name;
