// A long list of which only what is in sight exists. The height of a row is known before it is drawn, and so where each
// one lies.

import {html, useLayoutEffect, useMemo, useRef, useState} from "../view.js";

/** So many rows are there beyond both edges. */
const BEYOND = 8;

/**
 * `rows`: keys and whatever `row` draws from; `height(item)`: of each, in pixels; `current`: the index that has to exist and be in
 * sight (the one that the keys are on). `row(item, index, style)` draws one.
 */
export function Windowed({rows, height, current, row, onSeen, label, head}) {
  const box = useRef(null);
  const [view, set] = useState({top: 0, high: 800});
  /** Where each row begins; the last is where all end. */
  const tops = useMemo(() => {
    const tops = [0];
    for (const item of rows) tops.push(tops.at(-1) + height(item));
    return tops;
  }, [rows, height]);

  useLayoutEffect(() => {
    const element = box.current;
    let due = 0;
    const look = () => {
      cancelAnimationFrame(due);
      due = requestAnimationFrame(() => set({top: element.scrollTop, high: element.clientHeight}));
    };
    const watcher = new ResizeObserver(look);
    watcher.observe(element);
    element.addEventListener("scroll", look, {passive: true});
    set({top: element.scrollTop, high: element.clientHeight});
    return () => {
      cancelAnimationFrame(due);
      watcher.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, []);

  useLayoutEffect(() => {
    const element = box.current;
    if (current < 0 || current === undefined) return;
    const top = tops[current];
    const end = tops[current + 1];
    const headHigh = element.firstElementChild?.offsetHeight ?? 0;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (end > element.scrollTop + element.clientHeight - headHigh) {
      element.scrollTop = end - element.clientHeight + headHigh;
    }
  }, [current]);

  const begin = Math.max(0, indexAt(tops, view.top) - BEYOND);
  const end = Math.min(rows.length, indexAt(tops, view.top + view.high) + 1 + BEYOND);
  const shown = [];
  for (let index = begin; index < end; index += 1) shown.push(index);
  if (current >= 0 && current < rows.length && (current < begin || current >= end)) shown.push(current);
  useLayoutEffect(() => onSeen?.(rows.slice(begin, end)), [begin, end, rows]);

  return html`<div class="windowed" ref=${box} role="table" aria-label=${label} aria-rowcount=${rows.length + 1}
    tabindex="-1">
    ${head}
    <div class="rows" role="rowgroup" style=${{height: `${tops.at(-1)}px`}}>
      ${shown.map((index) => drawn(rows[index], index, index === current, () => row(rows[index], index, {transform: `translateY(${tops[index]}px)`, height: `${tops[index + 1] - tops[index]}px`})))}
    </div>
  </div>`;
}

const views = new WeakMap();

/** A row that is what it was and where it was is not drawn again: scrolling draws only what comes in sight. */
function drawn(item, index, on, draw) {
  const known = views.get(item);
  if (known && known.index === index && known.on === on) return known.view;
  const view = draw();
  views.set(item, {index, on, view});
  return view;
}

/** Which row lies at a height. */
function indexAt(tops, at) {
  let low = 0;
  let high = tops.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (tops[middle] <= at) low = middle;
    else high = middle - 1;
  }
  return low;
}
