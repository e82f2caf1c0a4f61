// Small parts that many views use.

import {html, useEffect, useState} from "../view.js";
import {stateOf} from "../state.js";

/** A state: sign and word, with a colour besides. */
export function State({of, ready = true, word}) {
  const state = stateOf(of, ready);
  return html`<span class=${`state ${state.kind}`}>
    <span aria-hidden="true">${state.sign}</span> ${word ?? state.word}
  </span>`;
}

/** What went wrong, with what can be done. */
export function Trouble({refusal, again}) {
  if (!refusal) return null;
  return html`<div class="trouble" role="alert">
    <p><strong>${refusal.message}</strong></p>
    ${refusal.hint && html`<p>${refusal.hint}</p>`}
    ${refusal.requestId &&
    html`<p class="faint">The daemon's log tells more under <code>${refusal.requestId}</code>.</p>`}
    ${again && html`<p><button type="button" onClick=${again}>Try again</button></p>`}
  </div>`;
}

/** What somebody may not see, and what it takes. */
export function Lacks({who, what, verb, children}) {
  return html`<div class="lacks"><p><strong>${who.principal} may not see ${what}.</strong></p>
    <p>It takes <code>${verb}</code>; whoever runs this machine gives it by a role. What you may do stands in <a href="#/access">Access</a>.</p>${children}</div>`;
}

/** The short history of an app as a line; what it says stands beside it as a number. */
export function Spark({points, at, width = 90, height = 22, label}) {
  const now = Date.now() / 1000;
  const seen = points.filter((point) => point[at] !== null);
  if (seen.length < 2) return html`<svg class="spark" width=${width} height=${height} aria-hidden="true"></svg>`;
  let top = 0;
  for (const point of seen) top = Math.max(top, point[at]);
  top = top * 1.1 || 1;
  const x = (time) => Math.max(0, (1 - (now - time) / 300) * width).toFixed(1);
  const y = (value) => (height - 1 - (value / top) * (height - 3)).toFixed(1);
  const text = seen.map((point) => `${x(point[0])},${y(point[at])}`).join(" ");
  return html`<svg class="spark" width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`}
    role="img" aria-label=${label}><polyline points=${text} /></svg>`;
}

/** Loads something when a view opens and when what it depends on changes; `again` asks anew. */
export function useAsked(ask, depends) {
  const [state, set] = useState({value: null, refusal: null, loading: true});
  const [round, again] = useState(0);
  useEffect(() => {
    const controller = new AbortController();
    set((before) => ({...before, loading: true}));
    ask(controller.signal).then(
      (value) => !controller.signal.aborted && set({value, refusal: null, loading: false}),
      (refusal) =>
        !controller.signal.aborted && set((before) => ({value: before.value, refusal, loading: false})),
    );
    return () => controller.abort();
  }, [...depends, round]);
  return {...state, again: () => again((count) => count + 1)};
}

/** A button that copies, and says that it did. */
export function Copy({text, label = "Copy"}) {
  const [done, set] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      set("Copied");
    } catch {
      // Plain HTTP off loopback has no clipboard: select, so that the keys copy.
      set("Not allowed here: select it and copy");
    }
    setTimeout(() => set(""), 2500);
  };
  return html`<button type="button" class="quiet" onClick=${copy}>${label}</button>
    <span role="status" class="faint">${done}</span>`;
}

/** A time of which the whole is told when it is asked for. */
export function Time({at, text}) {
  return html`<time datetime=${new Date(at * 1000).toISOString()} title=${new Date(at * 1000).toISOString()}>${text}</time>`;
}

/** Draws the view again every `seconds`, for texts such as "3 s ago". */
export function useBeat(seconds) {
  const [, beat] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => beat((count) => count + 1), seconds * 1000);
    return () => clearInterval(timer);
  }, [seconds]);
}
