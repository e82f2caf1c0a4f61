// The list: groups, apps, and the instances of those that were unfolded. What is not in sight does not exist, so a
// thousand rows cost as much as forty.

import {html, useCallback, useEffect, useMemo, useRef, useState} from "../view.js";
import {bytes, percent, span} from "../format.js";
import {apps, history, recall, spoken} from "../live.js";
import {go, link, refine} from "../route.js";
import {stateOf, summary, totals} from "../state.js";
import {useCell} from "../view.js";
import {act, Buttons, why} from "../parts/act.js";
import {Spark, State} from "../parts/small.js";
import {Windowed} from "../parts/windowed.js";

const names = new Intl.Collator(undefined, {numeric: true});

const SORTS = {
  name: ["name", (a, b) => names.compare(a.app.name, b.app.name)],
  state: ["state", (a, b) => a.summary.rank - b.summary.rank],
  cpu: ["processor", (a, b) => (b.totals.cpu ?? -1) - (a.totals.cpu ?? -1)],
  memory: ["memory", (a, b) => (b.totals.memory ?? -1) - (a.totals.memory ?? -1)],
  restarts: ["restarts", (a, b) => b.totals.restarts - a.totals.restarts],
  uptime: ["uptime", (a, b) => (a.totals.uptime ?? Infinity) - (b.totals.uptime ?? Infinity)],
};

/** Whether an app has all words in its names, states and reasons. */
function hit(entry, words) {
  if (!words.length) return true;
  const text = [
    entry.app.name,
    entry.app.namespace,
    entry.summary.word,
    ...entry.app.instances.map((one) => `${stateOf(one.actual, one.ready).word} ${one.why} ${one.pid ?? ""}`),
  ]
    .join(" ")
    .toLowerCase();
  return words.every((word) => text.includes(word));
}

function rowsOf(list, query, unfolded) {
  const words = (query.filter ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const entries = [...list.values()]
    .map((app) => ({app, summary: summary(app), totals: totals(app)}))
    .filter((entry) => hit(entry, words));
  const [, order] = SORTS[query.sort] ?? SORTS.name;
  entries.sort((a, b) => order(a, b) || SORTS.name[1](a, b));
  const grouped = query.groups !== "no";
  const spaces = new Map();
  for (const entry of entries) {
    const space = grouped ? entry.app.namespace : "";
    (spaces.get(space) ?? spaces.set(space, []).get(space)).push(entry);
  }
  const rows = [];
  const heads = grouped && spaces.size > 1;
  for (const [space, members] of [...spaces].sort(([a], [b]) => names.compare(a, b))) {
    if (heads) rows.push({key: `/${space}`, space, count: members.length});
    for (const entry of members) {
      rows.push({key: entry.app.name, ...entry});
      if (unfolded.has(entry.app.name)) {
        for (const instance of entry.app.instances) {
          rows.push({key: `${entry.app.name}:${instance.index}`, app: entry.app, instance});
        }
      }
    }
  }
  return {rows, count: entries.length};
}

/** Pixels. */
const wideRow = (row) => (row.space === undefined ? 44 : 36);
const narrowRow = (row) => (row.space === undefined ? 84 : 36);

/** Two lines for each row on a phone. */
function useNarrow() {
  const media = useMemo(() => matchMedia("(max-width: 45rem)"), []);
  const [narrow, set] = useState(media.matches);
  useEffect(() => {
    const look = () => set(media.matches);
    media.addEventListener("change", look);
    return () => media.removeEventListener("change", look);
  }, []);
  return narrow;
}

/** Where the keys were when the list was shown last: whoever comes back goes on there. */
const last = {key: null};

export function Apps({api, query}) {
  const list = useCell(apps);
  const [unfolded, setUnfolded] = useState(new Set());
  const [key, setKey] = useState(last.key);
  const narrow = useNarrow();
  const follow = useRef(last.key !== null);
  const timer = useRef(0);

  const {rows, count} = useMemo(() => rowsOf(list ?? new Map(), query, unfolded), [list, query, unfolded]);
  const current = rows.findIndex((row) => row.key === key);
  const now = useRef({});
  now.current = {rows, key};

  const fold = (name) => {
    const next = new Set(unfolded);
    if (!next.delete(name)) next.add(name);
    setUnfolded(next);
  };

  const onSeen = useCallback(
    (seen) => {
      clearTimeout(timer.current);
      timer.current = setTimeout(() => {
        const names = seen.filter((row) => row.totals).map((row) => row.key);
        void recall(api, names);
      }, 200);
    },
    [api],
  );

  // Keys as in `upkeep monit`.
  useEffect(() => {
    const onKey = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
      // Keys may come faster than views are drawn.
      const {rows} = now.current;
      const current = rows.findIndex((row) => row.key === now.current.key);
      const to = (index) => {
        const step = index < current ? -1 : 1;
        let at = Math.max(0, Math.min(rows.length - 1, index));
        while (rows[at] && rows[at].space !== undefined && rows[at + step]) at += step;
        if (!rows[at] || rows[at].space !== undefined) return;
        follow.current = true;
        now.current.key = rows[at].key;
        last.key = rows[at].key;
        setKey(rows[at].key);
      };
      const row = rows[current];
      const acts = {s: "start", S: "stop", r: "restart", R: "reload", "=": "scale"};
      if (event.key === "j" || event.key === "ArrowDown") to(current + 1);
      else if (event.key === "k" || event.key === "ArrowUp") to(current < 0 ? 0 : current - 1);
      else if (event.key === "g" || event.key === "Home") to(0);
      else if (event.key === "G" || event.key === "End") to(rows.length - 1);
      else if (event.key === "PageDown") to(current + 15);
      else if (event.key === "PageUp") to(current - 15);
      else if (event.key === "l" && row?.app) go(link("apps", row.app.name, "logs", row.instance ? {instance: row.instance.index} : {}));
      else if (event.key === "e" && row?.app && row.app.instances.length) fold(row.app.name);
      else if (event.key === "E") setUnfolded(unfolded.size ? new Set() : new Set(rows.filter((one) => one.totals && one.app.instances.length > 1).map((one) => one.key)));
      else if (acts[event.key] && row?.app) {
        if (event.key === "=" && row.instance) return;
        const reason = why(row.app);
        if (reason) spoken.set(reason);
        else act(acts[event.key], row.key, row.app);
      } else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [unfolded]);

  // The focus follows the keys, so that Tab and Enter go on from there.
  useEffect(() => {
    if (!follow.current || current < 0) return;
    follow.current = false;
    requestAnimationFrame(() =>
      document.querySelector(`[data-row="${CSS.escape(key)}"] a, [data-row="${CSS.escape(key)}"] button`)?.focus({preventScroll: true}),
    );
  }, [key, current]);

  if (list === null) return html`<p class="faint" role="status">Asking for the apps…</p>`;
  if (!list.size) {
    return html`<div class="empty"><p>There are no apps yet.</p><p>Start one: <code class="cli">upkeep start server.js</code></p></div>`;
  }
  const sort = SORTS[query.sort] ? query.sort : "name";
  const instances = [...list.values()].reduce((sum, app) => sum + app.instances.length, 0);
  return html`<section class="list" aria-labelledby="apps-title">
    <div class="tools">
      <h1 id="apps-title">Apps</h1>
      <label>Filter <input type="search" name="filter" value=${query.filter ?? ""} autocomplete="off" spellcheck="false"
        placeholder="name, state, reason" data-shortcut="/" onInput=${(event) => refine({filter: event.target.value})} /></label>
      <label>Sort by <select name="sort" value=${sort} onChange=${(event) => refine({sort: event.target.value})}>
        ${Object.entries(SORTS).map(([name, [word]]) => html`<option key=${name} value=${name}>${word}</option>`)}</select></label>
      <label class="check"><input type="checkbox" checked=${query.groups !== "no"}
        onChange=${(event) => refine({groups: event.target.checked ? null : "no"})} /> groups</label>
      <span class="faint" role="status">${count === list.size ? "" : `${count} of `}${plural(list.size, "app")}, ${plural(instances, "instance")}</span>
    </div>
    <${Windowed} rows=${rows} height=${narrow ? narrowRow : wideRow} current=${current} onSeen=${onSeen} label="Apps and instances"
      head=${html`<div class="head" role="rowgroup"><div class="row" role="row">
        ${["Name", "State", "Up", "Restarts", "CPU", "Memory", "Why", "Actions"].map(
          (word) => html`<span role="columnheader" class=${`c-${word.toLowerCase()}`}>${word}</span>`,
        )}</div></div>`}
      row=${(row, index, style) =>
        row.space !== undefined
          ? html`<div class="row group" role="row" aria-rowindex=${index + 2} key=${row.key} style=${style}>
              <span role="cell" class="c-group"><strong>${row.space}</strong> <span class="faint">${row.count === 1 ? "1 app" : `${row.count} apps`}</span></span></div>`
          : row.instance
            ? html`<${InstanceRow} key=${row.key} row=${row} index=${index} style=${style} on=${index === current} />`
            : html`<${AppRow} key=${row.key} row=${row} index=${index} style=${style} on=${index === current}
                unfolded=${unfolded.has(row.key)} fold=${fold} />`} />
  </section>`;
}

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function AppRow({row, index, style, on, unfolded, fold}) {
  const {app, summary: sum, totals: all} = row;
  const points = history(app.name);
  const many = app.instances.length > 1;
  const reason = app.rollout ?? app.instances.find((one) => one.actual !== "running")?.why ?? app.instances[0]?.why ?? "";
  return html`<div class=${`row app ${sum.kind}${on ? " on" : ""}`} role="row" aria-rowindex=${index + 2} data-row=${app.name} style=${style}>
    <span role="cell" class="c-name">
      ${many
        ? html`<button type="button" class="fold" aria-expanded=${unfolded} aria-label=${`Instances of ${app.name}`}
            onClick=${() => fold(app.name)}>${unfolded ? "▾" : "▸"}</button>`
        : html`<span class="fold" aria-hidden="true"></span>`}
      <a href=${link("apps", app.name)}>${app.name}</a></span>
    <span role="cell" class="c-state"><span class=${`state ${sum.kind}`}><span aria-hidden="true">${sum.sign}</span> ${sum.word}</span>
      ${many && html` <span class="faint">${sum.running}/${sum.all}</span>`}</span>
    <span role="cell" class="c-up">${all.uptime === null ? "–" : span(all.uptime / 1000)}</span>
    <span role="cell" class="c-restarts"><span class="unit">restarts </span>${all.restarts}</span>
    <span role="cell" class="c-cpu"><${Spark} points=${points} at=${1} label=${`Processor of ${app.name} over five minutes`} />
      <span class="number">${percent(all.cpu)}</span></span>
    <span role="cell" class="c-memory"><${Spark} points=${points} at=${2} label=${`Memory of ${app.name} over five minutes`} />
      <span class="number">${bytes(all.memory)}</span></span>
    <span role="cell" class="c-why" title=${reason}>${reason}</span>
    <span role="cell" class="c-actions"><${Buttons} app=${app} target=${app.name} small /></span>
  </div>`;
}

function InstanceRow({row, index, style, on}) {
  const {app, instance} = row;
  return html`<div class=${`row instance${on ? " on" : ""}`} role="row" aria-rowindex=${index + 2} data-row=${row.key} style=${style}>
    <span role="cell" class="c-name"><span class="fold" aria-hidden="true"></span>
      <a href=${link("apps", app.name, "logs", {instance: instance.index})} aria-label=${`Logs of ${row.key}`}>:${instance.index}</a>
      <span class="faint">${instance.pid ? ` pid ${instance.pid}` : ""}</span></span>
    <span role="cell" class="c-state"><${State} of=${instance.actual} ready=${instance.ready} /></span>
    <span role="cell" class="c-up">${instance.uptime_ms === null ? "–" : span(instance.uptime_ms / 1000)}</span>
    <span role="cell" class="c-restarts"><span class="unit">restarts </span>${instance.restarts}</span>
    <span role="cell" class="c-cpu"><span class="number">${percent(instance.cpu_percent)}</span></span>
    <span role="cell" class="c-memory"><span class="number">${bytes(instance.memory_bytes)}</span></span>
    <span role="cell" class="c-why" title=${instance.why}>${instance.why}</span>
    <span role="cell" class="c-actions"><${Buttons} app=${app} target=${row.key} instance=${instance} small /></span>
  </div>`;
}
