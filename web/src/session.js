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

function api(base, token) {
  return new Api(base, token, (refusal) => {
    if (session.get().phase !== "in") return;
    forget();
    session.set({...session.get(), phase: "out", api: null, who: null, refusal});
  });
}

/** Takes up a kept session, or asks who we are without a token: a client certificate may say it. */
export async function begin() {
  const kept = stored();
  const base = kept?.base ?? own;
  const with_ = api(base, kept?.token ?? null);
  let refusal;
  let pause = 500;
  for (;;) {
    try {
      const who = await with_.get("v1/whoami");
      if (who?.principal) {
        session.set({phase: "in", api: with_, who, served: base === own});
        return;
      }
      break;
    } catch (error) {
      refusal = error;
    }
    // A daemon that is away does not end a session.
    if (!kept || !refusal.passing || stored() === null) break;
    session.set({phase: "starting", refusal});
    await delay((pause = Math.min(10_000, pause * 2)));
  }
  if (refusal?.status === 401) forget();
  // A daemon refuses strangers in a form of its own; a server of files does not.
  const served = base === own && Boolean(refusal?.requestId);
  session.set({phase: "out", served, base: kept?.base, refusal: kept ? refusal : undefined});
}

/** Signs in; gives the refusal, or null. */
export async function signIn(base, token, remember) {
  const {served} = session.get();
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
  const with_ = api(where.href, token);
  try {
    const who = await with_.get("v1/whoami");
    forget();
    (remember ? device : tab).write(KEY, JSON.stringify({base: where.href, token}));
    session.set({phase: "in", api: with_, who, served});
    return null;
  } catch (refusal) {
    return refusal;
  }
}

export function signOut() {
  const {served, api: last} = session.get();
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
    (apps ?? ["*"]).some((pattern) => means(pattern, app.name)) &&
    (namespaces ?? ["*"]).some((pattern) => means(pattern, app.namespace));
  if (app && who?.bound && !within(who.bound)) return false;
  return (who?.grants ?? []).some((grant) => {
    const [family] = verb.split(":");
    const verbs = grant.verbs ?? [];
    if (!verbs.some((granted) => granted === "*" || granted === verb || granted === `${family}:*`)) return false;
    return !app || within(grant);
  });
}
