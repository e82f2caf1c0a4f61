// The charts of an app or of the machine, from `/v1/metrics`: what was, then what is measured.

import {delay, pauseAfter, visible} from "../api.js";
import {html, useEffect, useState} from "../view.js";
import {bytes, percent, short} from "../format.js";
import {linked} from "../live.js";
import {extended, measured} from "../measured.js";
import {refine} from "../route.js";
import {Chart} from "./chart.js";
import {spanOf} from "./span.js";
import {Trouble} from "./small.js";

const cores = (value) => percent(value * 100);
const rate = (value) => `${bytes(value)}/s`;
const seconds = (value) => (value < 1 ? `${short(value * 1000)} ms` : `${short(value)} s`);

/** What stands together in one chart: title, how numbers are written, metrics with their labels. */
export const OF_APPS = [
  ["Processor", cores, {cpu: "of a core"}],
  ["Memory", bytes, {memory: "resident", pss: "shared pages divided", heap_used: "V8 heap used", heap_total: "V8 heap"}],
  ["Event loop of Node", seconds, {event_loop_delay: "mean delay"}],
  ["Disk", rate, {io_read: "read", io_write: "written"}],
  ["Open files, threads, processes", short, {fds: "open files", threads: "threads", processes: "processes", sockets: "sockets"}],
  ["Log lines in a second", short, {log_lines: "lines"}],
  ["Starts so far", short, {restarts: "starts"}],
];

export const OF_HOST = [
  ["Processor", cores, {cpu: "of all cores"}],
  ["Memory", bytes, {memory: "in use", memory_total: "there is", swap: "swap"}],
  ["Load", short, {load: "over one minute"}],
  ["Disk", rate, {io_read: "read", io_write: "written"}],
  ["Network", rate, {net_in: "received", net_out: "sent"}],
  ["Free space", bytes, {disk_free: "where the state lies"}],
];

/** Longer spans are asked for again as a whole, in seconds: one of their values stands for minutes. */
const LIVE = 3600;
const AGAIN = 60;

export function Figures({api, of, query, charts, per = "app", marks}) {
  const span = spanOf(query);
  const [{value, refusal}, set] = useState({});
  const [round, again] = useState(0);
  useEffect(() => {
    const controller = new AbortController();
    const {signal} = controller;
    const told = linked(api, "charts", signal);
    const asked = {apps: of ?? undefined, host: of ? undefined : true};
    let shown = null;
    const show = (next) => {
      if (signal.aborted) return;
      shown = next;
      set({value: next});
    };
    const whole = async () =>
      show(await api.get("v1/metrics", {...asked, since: span.since, until: span.until, points: 240, per}, {signal}));
    const live = async () => {
      await whole();
      if (span.fixed) return;
      if (span.seconds <= LIVE) {
        const take = (fresh) => show(extended(shown, fresh));
        await measured(api, "charts", {...asked, points: 1, per}, {signal, take, ask: whole, onState: told});
        return;
      }
      while (!signal.aborted) {
        await delay(AGAIN * 1000, signal);
        await visible(signal);
        if (!signal.aborted) await whole();
      }
    };
    set({});
    void (async () => {
      for (let failures = 0; ; failures += 1) {
        try {
          return await live();
        } catch (refusal) {
          if (signal.aborted) return undefined;
          set((before) => ({...before, refusal}));
          if (!refusal.passing) return undefined;
          await delay(pauseAfter(failures), signal);
        }
      }
    })();
    return () => controller.abort();
  }, [api, of, span.key, per, round]);
  if (refusal && !value) return html`<${Trouble} refusal=${refusal} again=${() => again((count) => count + 1)} />`;
  if (!value) return html`<p class="faint" role="status">Asking for figures…</p>`;
  const series = value.series.filter((one) => (of ? one.app === of : one.app === null));
  if (!series.length) return html`<p class="empty">There are no figures in this span.</p>`;
  const onSpan = (since, until) => refine({since, until, span: null});
  return html`<div class="charts">${charts.map(([title, text, labels]) => {
    const lines = [];
    for (const [metric, label] of Object.entries(labels)) {
      for (const one of series.filter((candidate) => candidate.metric === metric)) {
        const whose = one.index === undefined || one.index === null ? label : `${label}, instance ${one.index}`;
        lines.push({label: whose, values: one.values, highs: one.highs});
      }
    }
    if (!lines.some((line) => line.values.some((number) => number !== null))) return null;
    return html`<${Chart} key=${title} title=${title} from=${value.from} step=${value.step} lines=${lines.slice(0, 12)}
      text=${text} onSpan=${onSpan} marks=${marks} />`;
  })}</div>`;
}
