// What is known of the machine now. One loop asks for the apps every other second; the stream of events makes it ask at
// once when something happens. Views look at cells and never ask for the list themselves. (`/v1/apps?follow=true` would tell
// states alone, twice a second: figures would have to be asked for besides, and a crash would be seen later.)
//
// An app's short history, for its sparkline, begins with `/v1/metrics` (asked for the apps that are in sight) and goes on
// with what each answer says.

import {delay, visible} from "./api.js";
import {cell} from "./view.js";

/** Between two questions for the list, where nothing happens. */
const BEAT = 2000;
/** Between two questions, where much happens; and at least so many times what an answer takes. */
const GAP = 150;
const SHARE = 8;
/** How far sparklines look back, in seconds. */
export const SPAN = 300;
/** How many events are kept for those who look later. */
const RECENT = 500;

/** By name; `null` until the first answer. */
export const apps = cell(null);
/** `{state: "connecting" | "live" | "lost", next, refusal}`. */
export const connection = cell({state: "connecting"});
/** The newest events of this session, oldest first. */
export const recent = cell([]);
/** What a screen reader is told. */
export const spoken = cell("");
/** When the first list, the open stream and the first event were there, in ms of the page: for measurements. */
export const first = {};

const histories = new Map();
let wake = () => {};
let running = null;

export function start(api) {
  stop();
  const controller = new AbortController();
  running = controller;
  const {signal} = controller;
  const lost = {list: null, events: null};
  const tell = () => {
    const trouble = lost.list ?? lost.events;
    if (trouble) connection.set({state: "lost", ...trouble});
    else if (apps.get() !== null) connection.set({state: "live"});
  };
  void loop(api, signal, (trouble) => {
    lost.list = trouble;
    tell();
  });
  void api.follow("v1/events", {}, {
    signal,
    onEvent(event) {
      first.event ??= performance.now();
      recent.change((list) => [...list.slice(1 - RECENT), event]);
      speak(event);
      wake();
    },
    onState({state, refusal, next}) {
      if (state === "open") first.open ??= performance.now();
      lost.events = state === "lost" ? {refusal, next} : null;
      tell();
      wake();
    },
  });
}

export function stop() {
  running?.abort();
  running = null;
  apps.set(null);
  recent.set([]);
  histories.clear();
  connection.set({state: "connecting"});
}

/** Asks for the list now: after an action. */
export function refresh() {
  wake();
}

async function loop(api, signal, tell) {
  let failures = 0;
  while (!signal.aborted) {
    await visible(signal);
    if (signal.aborted) return;
    const begun = performance.now();
    let woken = false;
    let interrupt = () => {};
    wake = () => {
      woken = true;
      interrupt();
    };
    try {
      const answer = await api.get("v1/apps", {}, {signal});
      failures = 0;
      take(answer.apps);
      tell(null);
    } catch (refusal) {
      if (signal.aborted || refusal.status === 401) return;
      const pause = Math.min(10_000, 500 * 2 ** failures++);
      tell({refusal, next: Date.now() + pause});
      await delay(pause, signal);
      continue;
    }
    const took = performance.now() - begun;
    await delay(Math.max(GAP, took * SHARE), signal);
    if (!woken) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, Math.max(BEAT, took * SHARE) - GAP);
        interrupt = () => {
          clearTimeout(timer);
          resolve();
        };
        signal.addEventListener("abort", interrupt, {once: true});
      });
    }
  }
}

function take(list) {
  const now = Date.now() / 1000;
  const before = apps.get();
  apps.set(new Map(list.map((app) => [app.name, app])));
  first.list ??= performance.now();
  for (const app of list) {
    const points = histories.get(app.name) ?? histories.set(app.name, {points: [], asked: false}).get(app.name);
    let cpu = null;
    let memory = null;
    for (const instance of app.instances) {
      if (instance.cpu_percent !== null) cpu = (cpu ?? 0) + instance.cpu_percent;
      if (instance.memory_bytes !== null) memory = (memory ?? 0) + instance.memory_bytes;
    }
    points.points.push([now, cpu, memory]);
    while (points.points.length && points.points[0][0] < now - SPAN) points.points.shift();
  }
  if (before) for (const name of histories.keys()) if (!apps.get().has(name)) histories.delete(name);
}

/** `[time, percent of a core, bytes]` of the last minutes of an app, oldest first. */
export function history(name) {
  return histories.get(name)?.points ?? [];
}

/** Sees to it that the histories of some apps reach back to before the page was opened. */
export async function recall(api, names) {
  const wanted = names.filter((name) => histories.get(name)?.asked === false);
  if (!wanted.length) return;
  for (const name of wanted) histories.get(name).asked = true;
  try {
    const answer = await api.get("v1/metrics", {
      apps: wanted.join(","),
      metrics: "cpu,memory",
      since: -SPAN,
      points: 60,
    });
    const past = new Map();
    for (const series of answer.series) {
      const points = past.get(series.app) ?? past.set(series.app, new Map()).get(series.app);
      series.values.forEach((value, index) => {
        const at = answer.from + (index + 0.5) * answer.step;
        const point = points.get(at) ?? points.set(at, [at, null, null]).get(at);
        if (series.metric === "cpu") point[1] = value === null ? null : value * 100;
        else point[2] = value;
      });
    }
    for (const [name, points] of past) {
      const kept = histories.get(name);
      if (!kept) continue;
      const begins = kept.points[0]?.[0] ?? Infinity;
      kept.points = [...[...points.values()].filter(([at]) => at < begins), ...kept.points];
    }
  } catch {
    // A line that begins later: asked for again when it comes in sight anew.
    for (const name of wanted) if (histories.has(name)) histories.get(name).asked = false;
  }
}

let lastSpoken = 0;

/** What happened, in a sentence for those who do not see it; not more often than can be listened to. */
function speak(event) {
  const told = {
    exited: "ended",
    started: "started",
    gave_up: "gave up",
    unhealthy: "is unhealthy",
    alert: "alert",
  }[event.what];
  if (!told || Date.now() - lastSpoken < 3000) return;
  lastSpoken = Date.now();
  spoken.set(`${event.target || "machine"} ${told}: ${event.result || event.why}`);
}
