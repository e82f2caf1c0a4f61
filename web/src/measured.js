// Figures as they are measured: `/v1/metrics?follow=true`, each second what is new.
//
// Where they are not followed but asked for: over plain HTTP/1.1 a browser opens six connections to one server, and a
// stream takes one for itself. So of all windows of a browser one follows figures of a kind, and the others ask. Over TLS
// (HTTP/2) streams share a connection, and all follow.

import {delay, visible} from "./api.js";

/** Between two questions of a window that may not follow. */
const PAUSE = 2000;

/** `take` hears each answer; `ask` is called again and again where nothing can be followed. Ends with `signal`. */
export async function measured(api, kind, asked, {signal, take, ask, onState}) {
  const follow = (place) => api.follow("v1/metrics", asked, {signal, onEvent: take, onState, place});
  if (!api.base.startsWith("http:") || !navigator.locks) return follow();
  const place = {};
  while (!signal.aborted) {
    await visible(signal);
    if (signal.aborted) return;
    const followed = await navigator.locks.request(`upkeep ${kind} ${api.base}`, {ifAvailable: true}, async (lock) => {
      // A window that nobody looks at leaves it to another.
      return lock === null ? "taken" : await follow(place);
    });
    if (followed === "hidden") continue;
    // For good: it was refused.
    if (followed !== "taken") return;
    await ask().catch(() => {});
    await delay(PAUSE, signal);
  }
}

/** Puts new answers behind an answer: as many come in front, as many fall off. Values stay means over a step. */
export function extended(value, fresh) {
  const {step} = value;
  const origin = value.origin ?? value.from;
  const length = value.series[0]?.values.length ?? Math.max(2, Math.round(900 / step));
  let first = Math.round((value.from - origin) / step);
  const end = fresh.from + fresh.step * Math.max(0, ...fresh.series.map((one) => one.values.length));
  const newest = Math.floor((end - fresh.step / 2 - origin) / step);
  const shift = Math.max(0, newest - (first + length - 1));
  first += shift;
  const moved = (values) => [...values.slice(shift), ...Array(Math.min(shift, length)).fill(null)];
  const name = (one) => `${one.app} ${one.index} ${one.metric}`;
  const series = new Map(
    value.series.map((one) => [name(one), {...one, values: moved(one.values), highs: moved(one.highs)}]),
  );
  for (const one of fresh.series) {
    const known =
      series.get(name(one)) ??
      series
        .set(name(one), {app: one.app, index: one.index, metric: one.metric, values: Array(length).fill(null), highs: Array(length).fill(null)})
        .get(name(one));
    one.values.forEach((number, index) => {
      if (number === null) return;
      const bin = Math.floor((fresh.from + (index + 0.5) * fresh.step - origin) / step);
      const at = bin - first;
      if (at < 0 || at >= length) return;
      // What the step held before weighs as one value.
      const last = known.last?.bin === bin ? known.last : {bin, sum: known.values[at] ?? 0, count: known.values[at] === null ? 0 : 1};
      known.last = {bin, sum: last.sum + number, count: last.count + 1};
      known.values[at] = known.last.sum / known.last.count;
      known.highs[at] = Math.max(known.highs[at] ?? number, one.highs[index] ?? number);
    });
  }
  return {...value, origin, from: origin + first * step, series: [...series.values()]};
}
