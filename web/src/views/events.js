// The timeline: what was done, by whom, why, and what came of it. Newest first; what happens now comes on top.

import {html, useCell, useEffect, useMemo, useState} from "../view.js";
import {dayOf, fromInput, timeOf, toInput} from "../format.js";
import {recent} from "../live.js";
import {link, refine} from "../route.js";
import {Time, Trouble} from "../parts/small.js";

const PAGE = 100;

/** What went wrong, as `?failed=true` means it; the stream of all events says it of none. */
const FAILURES = new Set(
  ("start_failed unhealthy unready refused returned broken killed leak log_trouble otlp_trouble otlp_refused listen_refused " +
    "hook_failed run_missed run_late run_timeout alert_undelivered").split(" "),
);

export function isFailure(event) {
  if (event.what === "exited") return event.details?.abnormal === true;
  if (event.what === "run_ended") return event.result.startsWith("failed");
  if (event.what === "alert") return event.result === "firing";
  return FAILURES.has(event.what);
}

function wanted(event, query, app) {
  if (app && !event.target?.split(" ").some((target) => target === app || target.startsWith(`${app}:`))) return false;
  if (query.kind && !query.kind.split(",").includes(event.what)) return false;
  if (query.who && !event.who.includes(query.who)) return false;
  if (query.failed && !isFailure(event)) return false;
  if (query.since && event.at < Number(query.since)) return false;
  return true;
}

export function Events({api, query, app: given}) {
  const app = given ?? query.app ?? "";
  const asked = {app, kind: query.kind, who: query.who, failed: query.failed ? "true" : null, since: query.since, until: query.until};
  const key = JSON.stringify(asked);
  const [past, setPast] = useState({list: null});
  const live = useCell(recent);
  const [kinds, setKinds] = useState(new Set());

  useEffect(() => {
    const controller = new AbortController();
    setPast({list: null});
    api.get("v1/events", {...asked, limit: PAGE}, {signal: controller.signal}).then(
      ({events}) => !controller.signal.aborted && setPast({list: events, more: events.length === PAGE}),
      (refusal) => !controller.signal.aborted && setPast({list: [], refusal}),
    );
    return () => controller.abort();
  }, [api, key]);

  const older = async () => {
    const oldest = past.list[0];
    setPast({...past, loading: true});
    try {
      const {events} = await api.get("v1/events", {...asked, until: oldest.at, limit: PAGE + 20});
      const known = new Set(past.list.map((event) => event.id));
      const fresh = events.filter((event) => !known.has(event.id) && event.id < oldest.id);
      setPast({list: [...fresh, ...past.list], more: fresh.length > 0 && events.length >= PAGE});
    } catch (refusal) {
      setPast({...past, refusal});
    }
  };

  const shown = useMemo(() => {
    if (!past.list) return [];
    const last = past.list.at(-1)?.id ?? 0;
    const fresh = query.until ? [] : live.filter((event) => event.id > last && wanted(event, query, app));
    return [...past.list, ...fresh].reverse();
  }, [past, live, key]);

  useEffect(() => {
    const missing = shown.filter((event) => !kinds.has(event.what));
    if (missing.length) setKinds(new Set([...kinds, ...missing.map((event) => event.what)].sort()));
  }, [shown]);

  let day = "";
  const set = (name) => (event) => refine({[name]: event.target.value || null});
  return html`<section class="timeline" aria-label="Events">
    <form class="tools" onSubmit=${(event) => event.preventDefault()}>
      ${given === undefined && html`<label>App <input type="search" name="app" value=${query.app ?? ""} onChange=${set("app")} autocomplete="off" data-shortcut="/" /></label>`}
      <label>What <select name="kind" value=${query.kind ?? ""} onChange=${set("kind")}>
        <option value="">everything</option>
        ${[...new Set([...kinds, ...(query.kind ? [query.kind] : [])])].map((kind) => html`<option key=${kind} value=${kind}>${kind.replaceAll("_", " ")}</option>`)}
      </select></label>
      <label>By whom <input type="search" name="who" value=${query.who ?? ""} onChange=${set("who")} autocomplete="off" /></label>
      <details class="more" open=${Boolean(query.since || query.until)}><summary>Span of time</summary><label>From <input type="datetime-local" value=${toInput(Number(query.since) || null)}
        onChange=${(event) => refine({since: fromInput(event.target.value)})} /></label>
      <label>until <input type="datetime-local" value=${toInput(Number(query.until) || null)}
        onChange=${(event) => refine({until: fromInput(event.target.value)})} /></label></details>
      <label class="check"><input type="checkbox" checked=${Boolean(query.failed)}
        onChange=${(event) => refine({failed: event.target.checked ? "1" : null})} /> only what went wrong</label>
    </form>
    <${Trouble} refusal=${past.refusal} />
    ${past.list === null && html`<p class="faint" role="status">Asking for events…</p>`}
    ${past.list !== null && !shown.length && !past.refusal && html`<p class="empty">Nothing of this kind happened.</p>`}
    <ol class="events">${shown.map((event) => {
      const head = dayOf(event.at);
      const first = head !== day;
      day = head;
      return html`${first && html`<li class="day" key=${head}><h2>${head}</h2></li>`}<${One} key=${event.id} event=${event} />`;
    })}</ol>
    ${past.more && html`<p><button type="button" disabled=${past.loading} onClick=${older}>Older</button></p>`}
  </section>`;
}

function One({event}) {
  const bad = isFailure(event);
  const names = event.target ? event.target.split(" ") : [];
  return html`<li class=${bad ? "event bad" : "event"} data-event=${event.id}>
    <${Time} at=${event.at} text=${timeOf(event.at)} />
    <span class="what">${bad && html`<span aria-hidden="true">✕ </span><span class="hidden">failure: </span>`}${event.what.replaceAll("_", " ")}</span>
    <span class="target">${names.map((name) => html`<a key=${name} href=${link("apps", name.split(":")[0], "events")}>${name}</a> `)}</span>
    <span class="result">${event.result}${event.why && event.why !== event.result ? html` <span class="faint">— ${event.why}</span>` : ""}</span>
    <span class="who faint">${event.who}</span>
  </li>`;
}
