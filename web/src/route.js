// Where we are: the part of the address behind `#`. `#/apps/shop/logs?since=…` names an app, a tab and a span of time, and
// can be given to somebody else. It never holds a token.

import {cell} from "./view.js";

export function parse(hash) {
  const text = hash.replace(/^#\/?/, "");
  const question = text.indexOf("?");
  const path = question < 0 ? text : text.slice(0, question);
  const parts = path
    .split("/")
    .filter(Boolean)
    .map((part) => {
      try {
        return decodeURIComponent(part);
      } catch {
        return part;
      }
    });
  return {
    view: parts[0] ?? "apps",
    parts: parts.slice(1),
    query: Object.fromEntries(new URLSearchParams(question < 0 ? "" : text.slice(question + 1))),
  };
}

/** The address of a view: `link("apps", "shop", "logs", {since: 3})`. */
export function link(...parts) {
  const last = parts.at(-1);
  const query = last !== null && typeof last === "object" ? parts.pop() : {};
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "" && value !== false) words.set(name, value);
  }
  const text = words.toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export const route = cell(parse(location.hash));
addEventListener("hashchange", () => route.set(parse(location.hash)));

/** The list as it was seen last, with its filter: the way back to it. */
let list = null;
route.watch(() => {
  const {view, parts} = route.get();
  if (view === "apps" && !parts.length) list = location.hash;
});

export const back = () => list ?? link("apps");

export function go(to) {
  location.hash = to;
}

/** Changes the query of the view that is shown, without a step in the history: for filters, as they are typed. */
export function refine(changes) {
  const {view, parts, query} = route.get();
  const next = link(view, ...parts, {...query, ...changes});
  history.replaceState(null, "", next);
  route.set(parse(next));
}
