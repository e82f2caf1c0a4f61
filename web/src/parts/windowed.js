// A long list of which only what is in sight exists. Rows are of one height, so that where each one lies is known.

import {html, useLayoutEffect, useRef, useState} from "../view.js";

/** So many rows are there beyond both edges. */
const BEYOND = 8;

/**
 * `rows`: keys and whatever `row` draws from; `height`: of each, in pixels; `current`: the index that has to exist and be in
 * sight (the one that the keys are on). `row(item, index, style)` draws one.
 */
export function Windowed({rows, height, current, row, onSeen, label, head}) {
  const box = useRef(null);
  const [view, set] = useState({top: 0, high: 800});

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
    const top = current * height;
    const headHigh = element.firstElementChild?.offsetHeight ?? 0;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + height > element.scrollTop + element.clientHeight - headHigh) {
      element.scrollTop = top + height - element.clientHeight + headHigh;
    }
  }, [current, height]);

  const begin = Math.max(0, Math.floor(view.top / height) - BEYOND);
  const end = Math.min(rows.length, Math.ceil((view.top + view.high) / height) + BEYOND);
  const shown = [];
  for (let index = begin; index < end; index += 1) shown.push(index);
  if (current >= 0 && current < rows.length && (current < begin || current >= end)) shown.push(current);
  useLayoutEffect(() => onSeen?.(rows.slice(begin, end)), [begin, end, rows]);

  return html`<div class="windowed" ref=${box} role="table" aria-label=${label} aria-rowcount=${rows.length + 1}
    tabindex="-1">
    ${head}
    <div class="rows" role="rowgroup" style=${{height: `${rows.length * height}px`}}>
      ${shown.map((index) => row(rows[index], index, {transform: `translateY(${index * height}px)`, height: `${height}px`}))}
    </div>
  </div>`;
}
