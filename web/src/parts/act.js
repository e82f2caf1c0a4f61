// Doing something: a dialog that says what will be done, to what, and which line of a shell does the same; then what came
// of it. A refusal is told in the server's words.

import {html, cell, useCell, useEffect, useLayoutEffect, useRef, useState} from "../view.js";
import {quoted, span} from "../format.js";
import {may, reconsider, session} from "../session.js";
import {Copy, Trouble} from "./small.js";

const VERBS = {
  start: {title: "Start", done: "started", does: "Starts it; what runs already is left alone."},
  stop: {title: "Stop", done: "stopped", does: "Asks it to end, and ends it by force after its grace.", harsh: true},
  restart: {title: "Restart", done: "restarted", does: "Stops and starts it: there is a gap."},
  reload: {title: "Reload", done: "reloaded", does: "Puts a new copy in the place of each, without a gap."},
  scale: {title: "Scale", done: "scaled", does: "Changes how many instances there are."},
};

const open = cell(null);
// What one session asked about, another does not answer.
let asked = null;
session.watch(() => {
  const {api} = session.get();
  if (asked !== null && asked !== api) open.set(null);
  asked = api ?? null;
});
/** What was done last, for the corner of the page. */
export const told = cell(null);

/** Opens the dialog: `verb` for `target` (`shop`, or `shop:2` for one instance). */
export function act(verb, target, app) {
  open.set({verb, target, app, from: document.activeElement});
}

/** Why somebody may not, or null. */
export function why(app, verb = "apps:operate") {
  const {who} = session.get();
  if (may(who, verb, app)) return null;
  return `${who.principal} (${(who.roles ?? []).join(", ") || "no role"}) may not do this: it takes ${verb}`;
}

/** The buttons of an app or an instance; none for those who may not. */
export function Buttons({app, target, instance, small}) {
  if (why(app)) return null;
  const up = instance
    ? instance.desired === "up"
    : app.desired === "up";
  const verbs = up ? ["restart", ...(instance ? [] : ["reload"]), "stop"] : ["start"];
  if (!instance && !small) verbs.push("scale");
  return html`<span class="buttons">${verbs.map(
    (verb) => html`<button type="button" key=${verb} class=${small ? "quiet small" : ""}
      aria-label=${`${VERBS[verb].title} ${target}`} onClick=${() => act(verb, target, app)}>${VERBS[verb].title}</button>`,
  )}</span>`;
}

function line({verb, target}, {reason, instances}) {
  const words = ["upkeep", verb, quoted(target)];
  if (verb === "scale") words.push(quoted(instances || "N"));
  if (reason) words.push("--reason", quoted(reason));
  return words.join(" ");
}

async function send(api, {verb, target, app}, {reason, instances}, dry) {
  const body = {...(reason ? {reason} : {}), ...(dry ? {dry_run: true} : {})};
  if (verb === "scale") {
    return api.post(`v1/apps/${encodeURIComponent(app.name)}/scale`, {...body, instances: String(instances)});
  }
  if (target !== app.name) return api.post(`v1/selections/${verb}`, {...body, selectors: [target]});
  return api.post(`v1/apps/${encodeURIComponent(app.name)}/${verb}`, body);
}

export function ActDialog() {
  const what = useCell(open);
  return what && html`<${Dialog} what=${what} key=${`${what.verb} ${what.target}`} />`;
}

function Dialog({what}) {
  const {api} = session.get();
  const {verb, target, app} = what;
  const words = VERBS[verb];
  const box = useRef(null);
  const [reason, setReason] = useState("");
  const [instances, setInstances] = useState(String(app.instances.length));
  const [state, set] = useState({});
  const since = useRef(0);

  useLayoutEffect(() => {
    box.current.showModal();
    box.current.querySelector(verb === "scale" ? "input[name=instances]" : "button[value=yes]").focus();
  }, []);

  const close = () => {
    box.current?.close();
    open.set(null);
    // The row may have been drawn anew meanwhile; then the page has the focus.
    what.from?.isConnected && what.from.focus();
  };

  const run = async (dry) => {
    set({working: true, dry});
    since.current = Date.now();
    try {
      const result = await send(api, what, {reason: reason.trim(), instances}, dry);
      if (dry) {
        set({plan: result});
        return;
      }
      if (result.failures?.length || !result.settled) {
        set({result});
        return;
      }
      told.set({text: `${target} ${words.done}`, took: Date.now() - since.current, event: result.event});
      close();
    } catch (refusal) {
      set({refusal});
      if (refusal.status === 403) reconsider(api).catch(() => {});
    }
  };

  const submit = (event) => {
    event.preventDefault();
    if (!state.working) void run(false);
  };

  return html`<dialog ref=${box} class="act" aria-labelledby="act-title" onCancel=${(event) => {
    event.preventDefault();
    close();
  }}>
    <form method="dialog" onSubmit=${submit}>
      <h2 id="act-title">${words.title} <code>${target}</code>?</h2>
      <p>${words.does}${target === app.name && app.instances.length > 1 && verb !== "scale"
        ? ` It has ${app.instances.length} instances.`
        : ""}</p>
      ${verb === "scale" &&
      html`<label>Instances
        <input name="instances" required pattern="[0-9]+|[+][0-9]+|-[0-9]+" value=${instances} autocomplete="off"
          inputmode="numeric" onInput=${(event) => setInstances(event.target.value)} />
        <span class="faint">a number, or +N and -N from the ${app.instances.length} that there are</span></label>`}
      <label>Reason <input name="reason" value=${reason} maxlength="500" placeholder="kept in the event log"
        onInput=${(event) => setReason(event.target.value)} /></label>
      <p class="line"><span class="faint">The same in a shell:</span>
        <code class="cli">${line(what, {reason: reason.trim(), instances})}</code>
        <${Copy} text=${line(what, {reason: reason.trim(), instances})} /></p>
      <div role="status">
        ${state.working && html`<p>${state.dry ? "Asking…" : "Working: waiting until everything has come to rest…"}</p>`}
        ${state.plan && html`<${Plan} plan=${state.plan} />`}
        ${state.result && html`<${Failures} result=${state.result} />`}
      </div>
      <${Trouble} refusal=${state.refusal} />
      <menu>
        <button type="button" onClick=${close}>${state.result ? "Close" : "Cancel"}</button>
        <button type="button" disabled=${state.working} onClick=${() => run(true)}>What would happen?</button>
        <button type="submit" value="yes" class=${words.harsh ? "harsh" : "main"} disabled=${state.working}>${words.title}</button>
      </menu>
    </form>
  </dialog>`;
}

function Plan({plan}) {
  const changes = plan.changes.filter((change) => change.what !== "unchanged");
  if (!changes.length) return html`<p>Nothing: all is as it would be.</p>`;
  return html`<ul>${changes.map(
    (change) => html`<li key=${change.app}><code>${change.app}${change.instances.length ? `:${change.instances.join(",")}` : ""}</code>${" "}
      would be ${change.what}</li>`,
  )}</ul>`;
}

function Failures({result}) {
  if (!result.failures?.length) {
    return html`<p>It has not come to rest yet, and goes on.</p>`;
  }
  const outcome = {refused: "nothing was touched", returned: "what was there before runs again", broken: "the way back failed too"};
  return html`${result.failures.map(
    (failure) => html`<div class="trouble" key=${failure.app}><p><strong>${failure.app}: ${failure.why}</strong></p>
      <p>${outcome[failure.outcome] ?? failure.outcome}</p></div>`,
  )}`;
}

/** In the corner: what was done. */
export function Told() {
  const last = useCell(told);
  useEffect(() => {
    if (!last) return undefined;
    const timer = setTimeout(() => told.set(null), 6000);
    return () => clearTimeout(timer);
  }, [last]);
  return html`<div class="told" role="status">${last &&
  html`<p>${last.text}${last.took === undefined ? "" : ` in ${last.took < 1000 ? `${last.took} ms` : span(last.took / 1000)}`}.
    ${last.event && html` <a href="#/timeline">Event ${last.event}</a>`}</p>`}</div>`;
}
