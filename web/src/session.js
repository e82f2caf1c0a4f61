// Who uses the client, and against which server. The token is kept in the tab's own storage, or in the browser's where
// "remember" is ticked, and nowhere else.

import {Api, delay} from "./api.js";
import {device, tab} from "./shelf.js";
import {cell} from "./view.js";

const KEY = "upkeep.session";

/** `{phase: "starting" | "out" | "in", api, who, refusal, served}`. `served`: the page comes from a daemon. While starting,
 * a refusal tells why that takes long. */
export const session = cell({phase: "starting"});

/** Where the page's own server has `/v1`, if it has. */
const own = new URL("./", document.baseURI).href;

function stored() {
  for (const shelf of [tab, device]) {
    try {
      const kept = JSON.parse(shelf.read(KEY));
      if (kept && typeof kept.base === "string") return kept;
    } catch {
      // Somebody else's, or broken: as good as none.
    }
  }
  return null;
}

function forget() {
  tab.drop(KEY);
  device.drop(KEY);
}

/** Ends with the session that is, or is being begun. Whatever belongs to an older one writes nothing any more: its answers
 * are not waited for, and each writer here asks its own `ended` first. */
let current = new AbortController();

/** Ends what is, and gives the signal of what begins. */
function next() {
  current.abort();
  current = new AbortController();
  return current.signal;
}

function api(base, token, ended) {
  return new Api(
    base,
    token,
    (refusal) => {
      if (ended.aborted || session.get().phase !== "in") return;
      next();
      forget();
      session.set({...session.get(), phase: "out", base, api: null, who: null, refusal});
    },
    ended,
  );
}

/** Takes up a kept session, or asks who we are without a token: a client certificate may say it. */
export async function begin() {
  const ended = next();
  const kept = stored();
  const base = kept?.base ?? own;
  const with_ = api(base, kept?.token ?? null, ended);
  let refusal;
  let pause = 500;
  for (;;) {
    try {
      const who = await with_.get("v1/whoami");
      if (ended.aborted) return;
      if (who?.principal) {
        session.set({phase: "in", api: with_, who, served: base === own});
        return;
      }
      break;
    } catch (error) {
      if (ended.aborted) return;
      refusal = error;
    }
    // A daemon that is away does not end a session.
    if (!kept || !refusal.passing) break;
    session.set({phase: "starting", refusal});
    await delay((pause = Math.min(10_000, pause * 2)), ended);
    if (ended.aborted) return;
  }
  if (refusal?.status === 401) forget();
  // A daemon refuses strangers in a form of its own; a server of files does not.
  const served = base === own && Boolean(refusal?.requestId);
  session.set({phase: "out", served, base: kept?.base, refusal: kept ? refusal : undefined});
}

/** Signs in; gives the refusal, or null. */
export async function signIn(base, token, remember) {
  let where;
  try {
    where = new URL(base);
  } catch {
    return {message: `\`${base}\` is no address`, hint: "it begins with `https://`"};
  }
  if (!where.pathname.endsWith("/")) where.pathname += "/";
  where.hash = "";
  where.search = "";
  if (where.protocol !== "https:" && where.protocol !== "http:") {
    return {message: `\`${base}\` is no address of a web server`, hint: "it begins with `https://`"};
  }
  const {served} = session.get();
  const ended = next();
  const with_ = api(where.href, token, ended);
  try {
    const who = await with_.get("v1/whoami");
    if (ended.aborted) return null;
    forget();
    (remember ? device : tab).write(KEY, JSON.stringify({base: where.href, token}));
    session.set({phase: "in", api: with_, who, served});
    return null;
  } catch (refusal) {
    return ended.aborted ? null : refusal;
  }
}

/** Asks again what the one who signed in may do: something was refused that was allowed before, or the other way round.
 * Tells whether it is something else than before. */
export async function reconsider(api, signal) {
  const who = await api.get("v1/whoami", {}, {signal});
  const now = session.get();
  if (!who?.principal || now.api !== api || JSON.stringify(who) === JSON.stringify(now.who)) return false;
  session.set({...now, who});
  return true;
}

export function signOut() {
  const {served, api: last} = session.get();
  next();
  forget();
  session.set({phase: "out", served, base: last?.base});
}

export const ownBase = own;

/** Whether a pattern of a grant (`*`, `shop`, `shop-*`) means a name. */
function means(pattern, name) {
  if (pattern === "*" || pattern === name) return true;
  const parts = pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`).test(name);
}

/**
 * Whether the one who signed in may do something, as far as the grants tell. The server decides; this only keeps buttons
 * away that it would refuse.
 */
export function may(who, verb, app = null) {
  const within = ({apps, namespaces} = {}) =>
    app
      ? (apps ?? ["*"]).some((pattern) => means(pattern, app.name)) &&
        (namespaces ?? ["*"]).some((pattern) => means(pattern, app.namespace))
      : // What is about the machine is given by a grant for everything only.
        OF_APPS.has(verb) || [apps, namespaces].every((places) => (places ?? ["*"]).includes("*"));
  if (who?.bound && !within(who.bound)) return false;
  return (who?.grants ?? []).some((grant) => {
    const gives = (granted) => (granted.endsWith("*") ? verb.startsWith(granted.slice(0, -1)) : granted === verb);
    return (grant.verbs ?? []).some(gives) && within(grant);
  });
}

/** Verbs about single apps: a grant may give them for some. */
const OF_APPS = new Set(["apps:read", "apps:logs", "apps:operate", "apps:write", "apps:inspect", "events:read", "alerts:operate"]);
