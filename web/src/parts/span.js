// Which span of time a view shows: one of a few up to now, or a fixed one that was drawn or given by a link.

import {html} from "../view.js";
import {whenOf} from "../format.js";
import {refine} from "../route.js";

export const SPANS = [
  ["15m", "15 min", 900],
  ["1h", "1 h", 3600],
  ["6h", "6 h", 6 * 3600],
  ["24h", "24 h", 86_400],
  ["7d", "7 d", 7 * 86_400],
  ["30d", "30 d", 30 * 86_400],
  ["90d", "90 d", 90 * 86_400],
];

/** What a query of the address means: `{since, until, seconds, fixed}`; `since` and `until` as `/v1` takes them. */
export function spanOf(query) {
  const since = Number(query.since);
  const until = Number(query.until);
  if (query.since && query.until && until > since) {
    return {since, until, seconds: until - since, fixed: true, key: `${since}-${until}`};
  }
  const [name, , seconds] = SPANS.find(([name]) => name === query.span) ?? SPANS[0];
  return {since: -seconds, seconds, fixed: false, key: name};
}

export function SpanChoice({query}) {
  const span = spanOf(query);
  return html`<div class="spans" role="group" aria-label="Span of time">
    ${SPANS.map(
      ([name, label]) => html`<button type="button" key=${name} class="quiet" aria-pressed=${!span.fixed && span.key === name}
        onClick=${() => refine({span: name, since: null, until: null})}>${label}</button>`,
    )}
    ${span.fixed &&
    html`<span class="fixed">${whenOf(span.since)} – ${whenOf(span.until)}
      <button type="button" class="quiet" onClick=${() => refine({since: null, until: null})}>Back to now</button></span>`}
  </div>`;
}
