// The machine: who answers, its figures, what fires, what runs by the clock.

import {html} from "../view.js";
import {span, whenOf} from "../format.js";
import {link} from "../route.js";
import {may, session} from "../session.js";
import {Figures, OF_HOST} from "../parts/figures.js";
import {SpanChoice} from "../parts/span.js";
import {Lacks, Trouble, useAsked, useBeat} from "../parts/small.js";

// The daemon, alerts and schedules are asked for every ten seconds: the API has no streams of them.
export function Host({api, query}) {
  useBeat(10);
  const {who} = session.get();
  const beat = Math.floor(Date.now() / 10_000);
  const reads = may(who, "machine:read");
  const daemon = useAsked((signal) => (reads ? api.get("v1/daemon", {}, {signal}) : Promise.resolve(null)), [api, beat]);
  const alerts = useAsked((signal) => (reads ? api.get("v1/alerts", {}, {signal}) : Promise.resolve(null)), [api, beat]);
  const seesApps = may(who, "apps:read");
  const schedules = useAsked((signal) => (seesApps ? api.get("v1/schedules", {}, {signal}) : Promise.resolve(null)), [api, beat]);
  return html`<section aria-labelledby="host-title">
    <div class="tools"><h1 id="host-title">Machine</h1>${reads && seesApps && html`<${SpanChoice} query=${query} />`}</div>
    ${!reads && html`<${Lacks} who=${who} what="the daemon, alerts and the machine's figures" verb="machine:read" />`}
    ${!seesApps && html`<${Lacks} who=${who} what="figures, and apps that run by the clock" verb="apps:read" />`}
    <${Trouble} refusal=${daemon.refusal} again=${daemon.again} />
    ${reads && seesApps && html`<${Figures} api=${api} of=${null} query=${query} charts=${OF_HOST} />`}
    ${alerts.value && html`<${Alerts} alerts=${alerts.value} />`}
    ${schedules.value?.schedules.length > 0 && html`<${Schedules} list=${schedules.value.schedules} />`}
    ${daemon.value && html`<${Daemon} daemon=${daemon.value} />`}
  </section>`;
}

function Alerts({alerts}) {
  return html`<h2>Alerts</h2>
    ${alerts.quiet && html`<p>These are quiet hours: only what is critical is told.</p>`}
    ${alerts.firing.length === 0
      ? html`<p class="empty">Nothing fires. ${alerts.rules.length} rules are watched.</p>`
      : html`<ul class="firing">${alerts.firing.map(
          (alert) => html`<li key=${`${alert.rule} ${alert.subject}`}><span class="state bad"><span aria-hidden="true">▲</span> ${alert.severity}</span>${" "}
            <strong>${alert.subject}</strong>: ${alert.text} <span class="faint">${alert.rule}, since ${whenOf(alert.since)}${alert.told ? "" : ", not told"}</span></li>`,
        )}</ul>`}
    ${alerts.channels.some((channel) => channel.trouble) &&
    html`<ul>${alerts.channels.filter((channel) => channel.trouble).map((channel) => html`<li key=${channel.name}>Channel ${channel.name} (${channel.kind}): ${channel.trouble}</li>`)}</ul>`}
    ${alerts.silences.length > 0 &&
    html`<ul>${alerts.silences.map((silence) => html`<li key=${silence.app}>${silence.app} is silenced until ${whenOf(silence.until)} by ${silence.who}${silence.why && `: ${silence.why}`}</li>`)}</ul>`}`;
}

function Schedules({list}) {
  return html`<h2>By the clock</h2><div class="scroll" tabindex="0" role="region" aria-label="Schedules"><table>
    <thead><tr><th scope="col">App</th><th scope="col">When</th><th scope="col">Next</th><th scope="col">Last</th></tr></thead>
    <tbody>${list.map(
      (one) => html`<tr key=${one.app}><th scope="row"><a href=${link("apps", one.app)}>${one.app}</a></th><td>${one.at} ${one.timezone}</td>
        <td>${one.paused ? "paused" : one.next ? whenOf(one.next) : "–"}</td><td>${one.last ? `${whenOf(one.last.ended_at)}: ${one.last.what}` : "–"}</td></tr>`,
    )}</tbody></table></div>`;
}

function Daemon({daemon}) {
  const rows = [
    ["Version", daemon.version],
    ["Daemon", `pid ${daemon.daemon_pid}, up ${span(Date.now() / 1000 - daemon.started_at)}`],
    ["Keeper", `pid ${daemon.keeper_pid}, version ${daemon.keeper_version}`],
    ["Apps", daemon.apps],
    ["Home", daemon.home],
    ["Process trees", daemon.tracking],
  ];
  return html`<h2>Upkeep</h2>${daemon.upgrade_trouble && html`<div class="trouble"><p>The last upgrade failed: ${daemon.upgrade_trouble}</p></div>`}
    <dl class="facts">${rows.map(([word, text]) => html`<div key=${word}><dt>${word}</dt><dd>${text}</dd></div>`)}</dl>`;
}
