// The client: what is around the views, and which of them is shown.
//
// Start reading here; then `live.js` (what is known now), `api.js` (how it is asked), `route.js` (where we are) and
// `views/`. The client is static files and uses `/v1` alone: whatever it does, a script can do.

import {html, render, useCell, useEffect, useState} from "./view.js";
import {apps, connection, spoken, start, stop} from "./live.js";
import {back, go, link, route} from "./route.js";
import {begin, may, session, signOut} from "./session.js";
import {nextTheme, theme} from "./theme.js";
import {summary} from "./state.js";
import {ActDialog, Told} from "./parts/act.js";
import {Lacks, Trouble} from "./parts/small.js";
import {Apps} from "./views/apps.js";
import {Help} from "./views/help.js";
import {SignIn} from "./views/signin.js";

/** Views that are fetched when they are first shown. */
const LATER = {
  app: () => import("./views/app.js").then((module) => module.App),
  timeline: () => import("./views/events.js").then((module) => module.Events),
  host: () => import("./views/host.js").then((module) => module.Host),
  access: () => import("./views/access.js").then((module) => module.Access),
};
const here = {};

/** Name, word, what is seen there, and the verbs of which one opens it. */
const PLACES = [
  ["apps", "Apps", "apps", ["apps:read"]],
  ["timeline", "Timeline", "events", ["events:read"]],
  ["host", "Machine", "the machine", ["machine:read", "apps:read"]],
  ["access", "Access", "", []],
];

const opens = (who, [, , , verbs]) => !verbs.length || verbs.some((verb) => may(who, verb));

function Later({name, ...rest}) {
  const [, again] = useState(0);
  const [failed, setFailed] = useState(null);
  useEffect(() => {
    if (here[name]) return;
    LATER[name]().then(
      (view) => {
        here[name] = view;
        again((count) => count + 1);
      },
      () => setFailed({message: "a part of the client could not be fetched", hint: "reload the page"}),
    );
  }, [name]);
  if (failed) return html`<${Trouble} refusal=${failed} />`;
  const View = here[name];
  return View ? html`<${View} ...${rest} />` : html`<p class="faint" role="status">…</p>`;
}

function View({api, who, at}) {
  const {view, parts, query} = at;
  const place = PLACES.find(([name]) => name === view);
  if (place && !opens(who, place)) {
    const [, word, what, [verb]] = place;
    return html`<h1 class="title">${word}</h1><${Lacks} who=${who} what=${what} verb=${verb} />`;
  }
  if (view === "apps" && parts.length) return html`<${Later} name="app" key=${parts[0]} api=${api} parts=${parts} query=${query} />`;
  if (view === "apps") return html`<${Apps} api=${api} query=${query} />`;
  if (view === "timeline") {
    return html`<h1 class="title">Timeline</h1><${Later} name="timeline" api=${api} query=${query} />`;
  }
  if (LATER[view] && view !== "app") return html`<${Later} name=${view} key=${view} api=${api} parts=${parts} query=${query} />`;
  return html`<div class="trouble"><p><strong>There is no view “${view}”.</strong></p><p><a href=${link("apps")}>All apps</a></p></div>`;
}

/** How the connection is: a word always, a line above everything while it is lost. */
function Connection() {
  const {state} = useCell(connection);
  const words = {connecting: ["◔", "connecting"], live: ["●", "live"], lost: ["✕", "offline"]};
  const [sign, word] = words[state];
  return html`<span class=${`connection ${state}`}><span aria-hidden="true">${sign}</span> ${word}</span>`;
}

function Lost() {
  const {state, refusal, next} = useCell(connection);
  const [, beat] = useState(0);
  useEffect(() => {
    if (state !== "lost") return undefined;
    const timer = setInterval(() => beat((count) => count + 1), 1000);
    return () => clearInterval(timer);
  }, [state]);
  const seconds = Math.max(0, Math.ceil((next - Date.now()) / 1000));
  return html`<div role="status">${state === "lost" &&
  html`<div class="cutoff"><p><strong>Connection lost, trying again</strong>${seconds > 1 ? ` in ${seconds} s` : ""}.
      <span class="faint"> What is shown is as it was. ${refusal?.message}</span>
      <button type="button" class="quiet" onClick=${() => dispatchEvent(new Event("upkeep-try-now"))}>Try now</button></p></div>`}</div>`;
}

function Title() {
  const list = useCell(apps);
  const at = useCell(route);
  let bad = 0;
  for (const app of list?.values() ?? []) if (summary(app).kind === "bad") bad += 1;
  useEffect(() => {
    const place = at.view === "apps" && at.parts.length ? at.parts.join(" ") : at.view;
    document.title = `${bad ? `(${bad}) ` : ""}${place} · Upkeep`;
  });
  return null;
}

function Frame({of}) {
  const at = useCell(route);
  const mode = useCell(theme);
  const [help, setHelp] = useState(false);
  const {who, api, served} = of;

  useEffect(() => {
    const onKey = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("dialog")) return;
      if (event.key === "Escape") {
        if (event.target.closest("input, select, textarea")) event.target.blur();
        else if (route.get().view === "apps" && route.get().parts.length) go(back());
        return;
      }
      if (event.target.closest("input, select, textarea")) return;
      const place = PLACES[Number(event.key) - 1];
      if (place) go(link(place[0]));
      else if (event.key === "?") setHelp(true);
      else if (event.key === "t") nextTheme();
      else if (event.key === "/") document.querySelector("[data-shortcut='/']")?.focus();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);

  useEffect(() => {
    start(api, who);
    return stop;
  }, [api, JSON.stringify(who)]);

  // Whoever comes without an address of a view is shown one that is open.
  useEffect(() => {
    const {view, parts} = route.get();
    const place = PLACES.find(([name]) => name === view);
    if (view === "apps" && !parts.length && !opens(who, place)) {
      location.replace(link(PLACES.find((other) => opens(who, other))[0]));
    }
  }, [api]);

  // Where the page goes, the focus goes; a reader is told by the heading.
  const place = `${at.view}/${at.parts.join("/")}`;
  const [first, setFirst] = useState(place);
  useEffect(() => {
    if (place === first) return;
    setFirst(null);
    scrollTo(0, 0);
    if (!document.querySelector("dialog[open]")) document.getElementById("main")?.focus({preventScroll: true});
  }, [place]);

  const readOnly = !may(who, "apps:operate");
  return html`<a class="skip" href="#main" onClick=${(event) => {
    event.preventDefault();
    document.getElementById("main").focus();
  }}>To the content</a>
    <header class="top">
      <a class="brand" href=${link("apps")}>Upkeep</a>
      <nav aria-label="Views">${PLACES.filter((place) => opens(who, place)).map(
        ([name, word]) => html`<a key=${name} href=${link(name)} aria-current=${at.view === name ? "page" : undefined}>${word}</a>`,
      )}<a href=${new URL("docs/", api.base).href}>Docs</a></nav>
      <${Connection} />
      <span class="who" title=${(who.roles ?? []).join(", ")}>${who.principal}${readOnly && html` <span class="badge" title="apps:operate is not granted: nothing can be started, stopped or changed here">read-only</span>`}</span>
      <button type="button" class="quiet" onClick=${nextTheme} title="Change the colours: as the system has them, light, dark">${{system: html`<span aria-hidden="true">◐</span> auto`, light: html`<span aria-hidden="true">○</span> light`, dark: html`<span aria-hidden="true">●</span> dark`}[mode]}<span class="hidden"> colours</span></button>
      <button type="button" class="quiet" onClick=${() => setHelp(true)} title="Keys"><span aria-hidden="true">?</span><span class="hidden">Keys</span></button>
      <button type="button" class="quiet" onClick=${signOut}>Sign out</button>
    </header>
    <${Lost} />
    <main id="main" tabindex="-1"><${View} api=${api} who=${who} at=${at} /></main>
    <${ActDialog} /><${Told} /><${Title} /><${Spoken} />
    ${help && html`<${Help} close=${() => setHelp(false)} />`}`;
}

function Spoken() {
  return html`<p class="hidden" role="status" aria-live="polite">${useCell(spoken)}</p>`;
}

function Client() {
  const of = useCell(session);
  if (of.phase === "starting") {
    if (!of.refusal) return html`<p class="faint" role="status">…</p>`;
    return html`<main class="signin"><h1>Upkeep</h1><div class="trouble" role="status"><p><strong>${of.refusal.message}: trying again</strong></p>
      ${of.refusal.hint && html`<p>${of.refusal.hint}</p>`}</div><p><button type="button" onClick=${signOut}>Sign out</button></p></main>`;
  }
  if (of.phase === "out") return html`<${SignIn} of=${of} key=${of.base} />`;
  return html`<${Frame} of=${of} key=${of.api.base} />`;
}

render(html`<${Client} />`, document.getElementById("client"));
void begin();
