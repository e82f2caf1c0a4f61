// One app: figures, logs, crashes, configuration, events.

import {html, useCell} from "../view.js";
import {bytes, exitText, percent, span, whenOf} from "../format.js";
import {apps} from "../live.js";
import {back, link, refine} from "../route.js";
import {may, session} from "../session.js";
import {Buttons, why} from "../parts/act.js";
import {Figures, OF_APPS} from "../parts/figures.js";
import {SpanChoice} from "../parts/span.js";
import {Lacks, State, Trouble, useAsked} from "../parts/small.js";
import {Crashes} from "./crashes.js";
import {Events} from "./events.js";
import {Logs} from "./logs.js";

const TABS = [
  ["figures", "Figures"],
  ["logs", "Logs", "apps:logs", "its logs"],
  ["crashes", "Crashes"],
  ["config", "Configuration"],
  ["events", "Events", "events:read", "its events"],
];

export function App({api, parts, query}) {
  const [name, asked = "figures", id] = parts;
  const list = useCell(apps);
  const {who} = session.get();
  if (list === null) return html`<p class="faint" role="status">Asking for ${name}…</p>`;
  const app = list.get(name);
  if (!app) {
    return html`<div class="trouble" role="alert"><p><strong>There is no app “${name}”.</strong></p>
      <p>It was deleted, or you may not see it. <a href=${link("apps")}>All apps</a></p></div>`;
  }
  const tab = TABS.some(([known]) => known === asked) ? asked : "figures";
  const refused = why(app);
  const [, , verb, what] = TABS.find(([known]) => known === tab);
  const lacks = verb && !may(who, verb, app);
  return html`<article class="one" aria-labelledby="app-title">
    <header class="tools">
      <a href=${back()} class="up"><span aria-hidden="true">‹ </span>All apps</a><h1 id="app-title">${name}</h1>
      ${app.namespace !== "default" && html`<span class="faint">in ${app.namespace}</span>`}
      <${Buttons} app=${app} target=${name} />
      ${refused && html`<span class="faint" title=${refused}>read-only: ${refused}</span>`}
    </header>
    ${app.rollout && html`<p role="status">${app.rollout}</p>`}
    <${Instances} app=${app} />
    <nav class="tabs" aria-label=${`About ${name}`}>${TABS.filter(([, , verb]) => !verb || may(who, verb, app)).map(
      ([known, word]) => html`<a key=${known} href=${link("apps", name, known, query.since || query.span ? {span: query.span, since: query.since, until: query.until} : {})}
        aria-current=${known === tab ? "page" : undefined}>${word}</a>`,
    )}</nav>
    ${lacks && html`<${Lacks} who=${who} what=${what} verb=${verb} />`}
    ${tab === "figures" && html`<${AppFigures} api=${api} app=${app} query=${query} />`}
    ${tab === "logs" && !lacks && html`<${Logs} api=${api} app=${app} query=${query} />`}
    ${tab === "crashes" && html`<${Crashes} api=${api} app=${app} id=${id} />`}
    ${tab === "config" && html`<${Config} api=${api} app=${app} />`}
    ${tab === "events" && !lacks && html`<${Events} api=${api} query=${query} app=${name} />`}
  </article>`;
}

function Instances({app}) {
  if (!app.instances.length) return null;
  return html`<div class="scroll few" tabindex="0" role="region" aria-label="Instances"><table class="instances">
    <thead><tr><th scope="col">Instance</th><th scope="col">State</th><th scope="col">Pid</th><th scope="col">Up</th>
      <th scope="col">Restarts</th><th scope="col">Processor</th><th scope="col">Memory</th><th scope="col">Last exit</th>
      <th scope="col">Why</th>${!why(app) && app.instances.length > 1 && html`<th scope="col">Actions</th>`}</tr></thead>
    <tbody>${app.instances.map(
      (one) => html`<tr key=${one.index} data-instance=${one.index}>
        <th scope="row">${one.index}</th>
        <td><${State} of=${one.actual} ready=${one.ready} />${one.others?.map(
          (copy) => html`<br key=${copy.pid} /><${State} of=${copy.actual} ready=${copy.ready} /> <span class="faint">${copy.leaving ? "leaving" : "coming"}</span>`,
        )}</td>
        <td>${one.pid ?? "–"}</td><td>${one.uptime_ms === null ? "–" : span(one.uptime_ms / 1000)}</td><td>${one.restarts}</td>
        <td>${percent(one.cpu_percent)}</td><td>${bytes(one.memory_bytes)}</td><td>${exitText(one.last_exit) || "–"}</td>
        <td class="why">${one.why}${one.health?.status ? ` “${one.health.status}”` : ""}
          ${one.leaks?.map((leak) => html`<br key=${leak.metric} /><span class="state bad"><span aria-hidden="true">▲</span> ${leak.metric} grows</span>`)}</td>
        ${!why(app) && app.instances.length > 1 && html`<td><${Buttons} app=${app} target=${`${app.name}:${one.index}`} instance=${one} small /></td>`}
      </tr>`,
    )}</tbody></table></div>`;
}

function AppFigures({api, app, query}) {
  const per = query.per === "instance" ? "instance" : "app";
  return html`<section aria-label="Figures">
    <div class="tools"><${SpanChoice} query=${query} />
      ${app.instances.length > 1 &&
      html`<label class="check"><input type="checkbox" checked=${per === "instance"}
        onChange=${(event) => refine({per: event.target.checked ? "instance" : null})} /> each instance by itself</label>`}
      ${query.since && query.until && html`<a href=${link("apps", app.name, "logs", {since: query.since, until: query.until})}>Logs of this span</a>`}
    </div>
    <${Figures} api=${api} of=${app.name} query=${query} charts=${OF_APPS} per=${per} />
  </section>`;
}

/** Of what was inherited only the names are there: in a line. */
const inherited = (key, value) => (key === "inherited_env" ? Object.keys(value).join(" ") : value);

function Config({api, app}) {
  const {value, refusal, again} = useAsked(
    (signal) => api.get(`v1/apps/${encodeURIComponent(app.name)}`, {}, {signal}),
    [app.name, app.revision],
  );
  const exposure = useAsked(
    (signal) => api.get(`v1/apps/${encodeURIComponent(app.name)}/exposure`, {}, {signal}),
    [app.name, app.revision],
  );
  if (refusal) return html`<${Trouble} refusal=${refusal} again=${again} />`;
  if (!value) return html`<p class="faint" role="status">Asking…</p>`;
  return html`<section class="config" aria-label="Configuration">
    <p>Revision ${value.revision}. Values of variables are not shown.
      ${value.schedule && html` Runs ${value.schedule.at} (${value.schedule.timezone})${value.schedule.next ? `, next ${whenOf(value.schedule.next)}` : ""}.`}</p>
    <pre tabindex="0" aria-label="Specification"><code>${JSON.stringify(value.spec, inherited, 2)}</code></pre>
    ${value.logs?.length > 0 &&
    html`<h2>Logs on disk</h2><div class="scroll" tabindex="0" role="region" aria-label="Logs on disk"><table><thead><tr><th scope="col">File</th><th scope="col">Takes</th><th scope="col">Rotated</th>
      <th scope="col">Dropped lines</th><th scope="col">Lost lines</th></tr></thead>
      <tbody>${value.logs.map(
        (log) => html`<tr key=${log.path}><th scope="row"><code>${log.path}</code>${log.trouble && html`<br /><span class="state bad">${log.trouble}</span>`}</th>
          <td>${bytes(log.disk_bytes)}</td><td>${log.rotated}</td><td>${log.dropped_lines}</td><td>${log.lost_lines}</td></tr>`,
      )}</tbody></table></div>`}
    ${value.limits?.length > 0 &&
    html`<h2>Limits</h2><div class="scroll" tabindex="0" role="region" aria-label="Limits"><table><thead><tr><th scope="col">Resource</th><th scope="col">Limit</th><th scope="col">Held by</th><th scope="col">Remarks</th></tr></thead>
      <tbody>${value.limits.map(
        (limit) => html`<tr key=${limit.resource}><th scope="row">${limit.resource}</th><td>${limit.limit ?? "none"}</td><td>${limit.by}</td>
          <td>${[limit.why, limit.events].filter(Boolean).join("; ")}</td></tr>`,
      )}</tbody></table></div>`}
    ${exposure.value &&
    html`<h2>Exposure: ${exposure.value.score.toFixed(1)} of 10, ${exposure.value.verdict}</h2>
      <details><summary>What it is made of</summary><div class="scroll" tabindex="0" role="region" aria-label="Exposure"><table><thead><tr><th scope="col">Property</th><th scope="col">Found</th><th scope="col">What closes it</th></tr></thead>
        <tbody>${exposure.value.items.map((item) => html`<tr key=${item.what}><th scope="row">${item.what}</th><td>${item.found}</td><td>${item.advice ?? ""}</td></tr>`)}</tbody></table></div></details>`}
  </section>`;
}
