// What is known of the machine now. `/v1/apps?follow=true` tells all apps and then what changes of them; what never rests is
// not in it: processor and memory come from `/v1/metrics?follow=true` (of the apps that are looked at), and how long an
// instance has been up is counted here. Views look at cells and never ask for the list themselves.
//
// Whoever may not see apps has no such stream: then the daemon is asked who we are, now and then, so that a lost connection
// is told (`pulse`). Views that follow something of their own tell here how it stands (`linked`).
//
// An app's short history, for its sparkline, begins with `/v1/metrics` (asked once for the apps that are in sight) and goes
// on with what is measured.

import {delay, visible} from "./api.js";
import {measured} from "./measured.js";
import {route} from "./route.js";
import {may, reconsider} from "./session.js";
import {stateOf} from "./state.js";
import {cell} from "./view.js";

/** Times and figures are shown anew so often. */
const BEAT = 1000;
/** Changes are shown at once, but not more often than this. */
const GAP = 100;
/** Between two questions whether anybody is there, where nothing can be followed. */
const PULSE = 10_000;
/** How far sparklines look back, in seconds. */
export const SPAN = 300;

/** By name; `null` until the first answer. */
export const apps = cell(null);
/** `{state: "connecting" | "live" | "lost", next, refusal}`. */
export const connection = cell({state: "connecting"});
/** What a screen reader is told. */
export const spoken = cell("");
/** When the stream of apps, the first list and the first change were there, in ms of the page: for measurements. */
export const first = {};

const histories = new Map();
/** What is known; `apps` is a copy of it for views. */
let known = new Map();
let running = null;
/** What is wrong, by stream. */
const troubles = new Map();
let answered = false;

function tell() {
  const [trouble] = troubles.values();
  if (trouble) connection.set({state: "lost", ...trouble});
  else if (answered && connection.get().state !== "live") connection.set({state: "live"});
}

/** Takes what a stream says of itself, under a name; forgets it with `signal`. */
export function linked(api, name, signal) {
  signal.addEventListener("abort", () => {
    if (running?.signal.aborted === false && troubles.delete(name)) tell();
  });
  return ({state, refusal, next, again}) => {
    if (signal.aborted) return;
    if (state === "open") {
      troubles.delete(name);
      // The daemon ends streams when the rights of whoever follows have changed.
      if (again) reconsider(api, signal).catch(() => {});
    } else if (state === "refused" && !refusal.passing) {
      // Somebody has answered: no connection is lost. Where it is forbidden, the rights are others than they were; if they
      // are not, that is all there is to tell.
      troubles.delete(name);
      const tell_ = () => {
        if (signal.aborted) return;
        troubles.set(name, {refusal});
        tell();
      };
      if (refusal.status !== 403) tell_();
      else reconsider(api, signal).then((changed) => changed || tell_(), () => {});
    } else {
      troubles.set(name, {refusal, next});
    }
    tell();
  };
}

export function start(api, who) {
  stop();
  const controller = new AbortController();
  running = controller;
  const {signal} = controller;
  if (!may(who, "apps:read")) {
    void pulse(api, signal);
    return;
  }
  const told = linked(api, "apps", signal);
  void api.follow("v1/apps", {}, {
    signal,
    onEvent: take,
    onState(state) {
      if (state.state === "open") first.open ??= performance.now();
      told(state);
    },
  });
  let beats = 0;
  const timer = setInterval(() => beat((beats += 1)), BEAT);
  signal.addEventListener("abort", () => clearInterval(timer));
  measure(api, signal);
}

export function stop() {
  running?.abort();
  running = null;
  clearTimeout(due);
  due = null;
  known = new Map();
  apps.set(null);
  histories.clear();
  troubles.clear();
  answered = false;
  connection.set({state: "connecting"});
}

/** For those of whom nothing is followed: whether the daemon is there, and what they may do. */
async function pulse(api, signal) {
  const told = linked(api, "pulse", signal);
  let failures = 0;
  while (!signal.aborted) {
    await visible(signal);
    if (signal.aborted) return;
    let pause = PULSE;
    try {
      await reconsider(api, signal);
      failures = 0;
      answered = true;
      told({state: "open"});
    } catch (refusal) {
      if (signal.aborted) return;
      pause = Math.min(PULSE, 500 * 2 ** failures++);
      told({state: "lost", refusal, next: Date.now() + pause});
    }
    await delay(pause, signal);
  }
}

let due = null;
let published = 0;

function publish() {
  if (due !== null) return;
  const show = () => {
    due = null;
    published = performance.now();
    apps.set(new Map(known));
  };
  const wait = published + GAP - performance.now();
  if (wait <= 0) show();
  else due = setTimeout(show, wait);
}

/** An event of the stream of apps. */
function take({whole, apps: list, gone}) {
  const now = performance.now();
  if (!whole) first.event ??= now;
  const before = known;
  if (whole) known = new Map();
  for (const app of list) {
    for (const instance of app.instances) {
      instance.since = instance.uptime_ms === null ? null : now - instance.uptime_ms;
    }
    if (!whole) speak(before.get(app.name), app);
    known.set(app.name, app);
    if (!histories.has(app.name)) histories.set(app.name, {points: [], asked: false});
  }
  for (const name of gone) known.delete(name);
  for (const name of histories.keys()) if (!known.has(name)) histories.delete(name);
  answered = true;
  publish();
  first.list ??= performance.now();
  tell();
}

/** What never rests. */
function beat(number) {
  if (document.hidden || apps.get() === null) return;
  const now = performance.now();
  const time = Date.now() / 1000;
  for (const app of known.values()) {
    let cpu = null;
    let memory = null;
    for (const instance of app.instances) {
      if (instance.since !== null) instance.uptime_ms = now - instance.since;
      if (instance.cpu_percent !== null) cpu = (cpu ?? 0) + instance.cpu_percent;
      if (instance.memory_bytes !== null) memory = (memory ?? 0) + instance.memory_bytes;
    }
    if (number % 2) continue;
    const {points} = histories.get(app.name);
    points.push([time, cpu, memory]);
    while (points.length && points[0][0] < time - SPAN) points.shift();
  }
  publish();
}

/** Follows the figures of what is looked at: of all apps in the list, of one on its page, of none elsewhere. */
function measure(api, signal) {
  let now = {of: null, controller: new AbortController()};
  const look = () => {
    const {view, parts} = route.get();
    const list = apps.get();
    let of = null;
    if (view === "apps" && list?.size) of = parts.length ? (list.has(parts[0]) ? parts[0] : null) : "";
    if (of === now.of) return;
    now.controller.abort();
    now = {of, controller: new AbortController()};
    if (of === null) return;
    const asked = {apps: of || undefined, metrics: "cpu,memory", per: "instance", points: 1};
    const both = AbortSignal.any([signal, now.controller.signal]);
    void measured(api, "figures", asked, {
      signal: both,
      take: figures,
      ask: async () => figures(await api.get("v1/metrics", {...asked, since: -3}, {signal: both})),
    });
  };
  const ends = [route.watch(look), apps.watch(look)];
  signal.addEventListener("abort", () => ends.forEach((end) => end()));
}

/** The newest figures; shown with the next beat. */
function figures({series}) {
  for (const {app: name, index, metric, values} of series) {
    const instance = known.get(name)?.instances.find((one) => one.index === index);
    const value = values.findLast((number) => number !== null);
    if (!instance || instance.pid === null || value === undefined) continue;
    if (metric === "cpu") instance.cpu_percent = value * 100;
    else instance.memory_bytes = value;
  }
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

const SAID = new Set(["running", "backing_off", "failed", "gave_up", "stopped", "completed"]);
let lastSpoken = 0;

/** What happened, in a sentence for those who do not see it; not more often than can be listened to. */
function speak(before, app) {
  if (!before || Date.now() - lastSpoken < 3000) return;
  for (const instance of app.instances) {
    const old = before.instances.find((one) => one.index === instance.index);
    if (!old || (old.actual === instance.actual && old.ready === instance.ready) || !SAID.has(instance.actual)) continue;
    lastSpoken = Date.now();
    const whose = app.instances.length > 1 ? `${app.name}:${instance.index}` : app.name;
    spoken.set(`${whose} ${stateOf(instance.actual, instance.ready).word}: ${instance.why}`);
    return;
  }
}
