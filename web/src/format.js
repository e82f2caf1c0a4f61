// Numbers and times for people. Times are those of the person who reads, in the form that the machine's lists have.

const UNITS = ["B", "K", "M", "G", "T", "P"];

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  let unit = 0;
  let rest = value;
  while (rest >= 1024 && unit < UNITS.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  return `${unit > 0 && rest < 10 ? rest.toFixed(1) : rest.toFixed(0)}${UNITS[unit]}`;
}

export function percent(value) {
  if (value === null || value === undefined) return "–";
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)}%`;
}

/** A count or a rate, short. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(0)}k`;
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  return size >= 1 ? value.toFixed(1) : value.toPrecision(2);
}

/** A span in its largest units: `3 d 4 h`. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds > 0 && seconds < 1) return `${Math.ceil(seconds * 1000)} ms`;
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 && hours < 6 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 && days < 4 ? `${days} d ${hours % 24} h` : `${days} d`;
}

const clock = new Intl.DateTimeFormat("en-GB", {hour: "2-digit", minute: "2-digit", second: "2-digit"});
const day = new Intl.DateTimeFormat("en-GB", {weekday: "short", day: "numeric", month: "short", year: "numeric"});

export const timeOf = (at) => clock.format(at * 1000);
export const dayOf = (at) => day.format(at * 1000);

/** Day and time; the day only where it is not today. */
export function whenOf(at) {
  const today = dayOf(Date.now() / 1000);
  return dayOf(at) === today ? timeOf(at) : `${dayOf(at)}, ${timeOf(at)}`;
}

/** For `<input type="datetime-local">`, and back. */
export function toInput(at) {
  if (!at) return "";
  const date = new Date(at * 1000);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

export function fromInput(text) {
  return text ? Math.floor(new Date(text).getTime() / 1000) : null;
}

export function exitText(exit) {
  if (exit === null || exit === undefined) return "";
  if (exit === "out_of_memory") return "out of memory";
  if (exit === "unknown") return "unknown exit status";
  if (exit.code !== undefined) return `exit code ${exit.code}`;
  if (exit.signal) return `signal ${exit.signal.number}${exit.signal.core ? " (core dumped)" : ""}`;
  return JSON.stringify(exit);
}

/** A word as a shell reads it. */
export function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
