// The charts of an app or of the machine, from `/v1/metrics`, asked for again as time goes on.

import {html, useEffect, useState} from "../view.js";
import {bytes, percent, short} from "../format.js";
import {refine} from "../route.js";
import {Chart} from "./chart.js";
import {spanOf} from "./span.js";
import {Trouble, useAsked} from "./small.js";

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

/** How often figures are asked for again. */
const again = (span) => (span.fixed ? 0 : span.seconds <= 3600 ? 5 : 60);

export function Figures({api, of, query, charts, per = "app", marks}) {
  const span = spanOf(query);
  const [round, beat] = useState(0);
  useEffect(() => {
    const pause = again(span);
    if (!pause) return undefined;
    const timer = setInterval(() => !document.hidden && beat((count) => count + 1), pause * 1000);
    return () => clearInterval(timer);
  }, [span.key]);
  const {value, refusal, again: retry} = useAsked(
    (signal) =>
      api.get(
        "v1/metrics",
        {apps: of ?? undefined, host: of ? undefined : true, since: span.since, until: span.until, points: 240, per},
        {signal},
      ),
    [of, span.key, per, round],
  );
  if (refusal && !value) return html`<${Trouble} refusal=${refusal} again=${retry} />`;
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
