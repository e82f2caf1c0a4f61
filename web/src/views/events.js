// The timeline: what was done, by whom, why, and what came of it. Newest first; what happens now comes on top.

import {delay, pauseAfter} from "../api.js";
import {html, useEffect, useMemo, useState} from "../view.js";
import {dayOf, fromInput, timeOf, toInput} from "../format.js";
import {linked} from "../live.js";
import {link, refine} from "../route.js";
import {Time, Trouble} from "../parts/small.js";

const PAGE = 100;
/** So many are shown at most while new ones come. */
const KEEP = 2000;

/** What went wrong, as `?failed=true` means it: an event does not say it of itself. */
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

export function Events({api, query, app: given}) {
  const app = given ?? query.app ?? "";
  const asked = {app, kind: query.kind, who: query.who, failed: query.failed ? "true" : null, since: query.since, until: query.until};
  const key = JSON.stringify(asked);
  const [past, setPast] = useState({list: null});
  const [kinds, setKinds] = useState(new Set());

  useEffect(() => {
    const controller = new AbortController();
    const {signal} = controller;
    const told = linked(api, "events", signal);
    const ask = async () => {
      const {events} = await api.get("v1/events", {...asked, limit: PAGE}, {signal});
      if (!signal.aborted) setPast({list: events, more: events.length === PAGE});
      return events;
    };
    const follow = async () => {
      const events = await ask();
      if (query.until || signal.aborted) return false;
      // Some are gone for good: all is asked for anew, and followed from there.
      const gap = new AbortController();
      // From the last one on: none is missed between the two.
      await api.follow("v1/events", {...asked, after: events.at(-1)?.id ?? 0}, {
        signal: AbortSignal.any([signal, gap.signal]),
        onEvent(event) {
          if (event.what === "gap") gap.abort();
          else setPast((past) => (past.list?.some((one) => one.id === event.id) ? past : {...past, list: [...(past.list ?? []), event].slice(-KEEP)}));
        },
        onState: told,
      });
      return gap.signal.aborted;
    };
    setPast({list: null});
    void (async () => {
      for (let failures = 0; ; failures += 1) {
        try {
          if (!(await follow())) return undefined;
        } catch (refusal) {
          if (signal.aborted) return undefined;
          const pause = pauseAfter(failures);
          told({state: refusal.passing ? "lost" : "refused", refusal, next: Date.now() + pause});
          setPast({list: [], refusal});
          if (!refusal.passing) return undefined;
          await delay(pause, signal);
        }
      }
    })();
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

  const shown = useMemo(() => [...(past.list ?? [])].reverse(), [past]);

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
