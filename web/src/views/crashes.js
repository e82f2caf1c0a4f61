// Crashes of an app, and the dossier of one.

import {html, useEffect, useRef} from "../view.js";
import {bytes, percent, short, span, timeOf, whenOf} from "../format.js";
import {link} from "../route.js";
import {Chart} from "../parts/chart.js";
import {plain} from "../parts/ansi.js";
import {State, Trouble, useAsked} from "../parts/small.js";

export function Crashes({api, app, id}) {
  const restarts = app.instances.reduce((sum, one) => sum + one.restarts, 0);
  const states = app.instances.map((one) => one.actual).join();
  const {value, refusal, again} = useAsked(
    (signal) => api.get(`v1/apps/${encodeURIComponent(app.name)}/crashes`, {}, {signal}),
    [app.name, restarts, states],
  );
  if (refusal) return html`<${Trouble} refusal=${refusal} again=${again} />`;
  if (!value) return html`<p class="faint" role="status">Asking…</p>`;
  if (!value.crashes.length) return html`<p class="empty">${app.name} has not crashed, as far as is known.</p>`;
  return html`<section class="crashes" aria-label="Crashes">
    <div class="scroll" tabindex="0" role="region" aria-label="List of crashes"><table><thead><tr><th scope="col">When</th><th scope="col">Instance</th><th scope="col">How</th>
      <th scope="col">Ran for</th><th scope="col">What was decided</th></tr></thead>
      <tbody>${value.crashes.map(
        (crash) => html`<tr key=${crash.id} class=${String(crash.id) === id ? "on" : ""}>
          <th scope="row"><a href=${link("apps", app.name, "crashes", String(crash.id))} aria-current=${String(crash.id) === id ? "true" : undefined}>${whenOf(crash.at)}</a></th>
          <td>${crash.index}</td><td>${crash.cause}</td><td>${span(crash.uptime_ms / 1000)}</td><td>${crash.verdict}</td></tr>`,
      )}</tbody></table></div>
    ${id && html`<${Dossier} api=${api} app=${app} id=${id} key=${id} />`}
  </section>`;
}

function Dossier({api, app, id}) {
  const {value: crash, refusal, again} = useAsked(
    (signal) => api.get(`v1/apps/${encodeURIComponent(app.name)}/crashes/${encodeURIComponent(id)}`, {}, {signal}),
    [app.name, id],
  );
  const box = useRef(null);
  const words = useRef(null);
  useEffect(() => {
    if (!crash) return;
    box.current.scrollIntoView({block: "start"});
    if (words.current) words.current.scrollTop = words.current.scrollHeight;
  }, [crash]);
  if (refusal) return html`<${Trouble} refusal=${refusal} again=${again} />`;
  if (!crash) return html`<p class="faint" role="status">Asking for the dossier…</p>`;
  const figure = (metric) => crash.metrics?.series.find((series) => series.metric === metric);
  const charts = [
    ["memory", "Memory before", bytes],
    ["cpu", "Processor before", (value) => percent(value * 100)],
    ["fds", "Open files before", short],
  ].filter(([metric]) => figure(metric));
  return html`<article class="dossier" ref=${box} aria-labelledby="dossier-title">
    <h2 id="dossier-title">${app.name}:${crash.index}: ${crash.cause}</h2>
    <p>${whenOf(crash.at)}, after ${span(crash.uptime_ms / 1000)}${crash.pid ? `, pid ${crash.pid}` : ""}, at most ${bytes(crash.max_rss_bytes)} of memory${crash.memory_limit_bytes ? ` of ${bytes(crash.memory_limit_bytes)}` : ""}.
      ${crash.then && html` Then: <${State} of=${crash.then} />`}
      ${" "}<a href=${link("apps", app.name, "logs", {since: Math.floor(crash.at - 60), until: Math.ceil(crash.at + 5)})}>Logs of that minute</a></p>
    ${crash.findings.length > 0 && html`<h3>What the numbers suggest</h3><ol>${crash.findings.map((text) => html`<li>${text}</li>`)}</ol>`}
    ${crash.core && html`<p>Core dump: <code>${crash.core}</code></p>`}
    <h3>Last words</h3>
    ${crash.logs.length
      ? html`<pre class="words" ref=${words} tabindex="0" aria-label="Last lines">${crash.logs.map((line) => html`<span class=${line.stream === "err" ? "log err" : "log"}><time class="at">${timeOf(line.at)}</time> ${plain(line.line)}
</span>`)}</pre>`
      : html`<p class="faint">It wrote nothing.</p>`}
    ${charts.length > 0 &&
    html`<div class="charts">${charts.map(([metric, title, text]) => {
      const series = figure(metric);
      return html`<${Chart} key=${metric} title=${title} from=${crash.metrics.from} step=${crash.metrics.step}
        lines=${[{label: metric, values: series.values, highs: series.highs}]} text=${text} marks=${[crash.at]} />`;
    })}</div>`}
    ${crash.changes.length > 0 &&
    html`<h3>What was changed before</h3><ul>${crash.changes.map((event) => html`<li key=${event.id}>${whenOf(event.at)}: ${event.who}: ${event.what} ${event.target} ${event.why && `“${event.why}”`} ${event.result}</li>`)}</ul>`}
  </article>`;
}
