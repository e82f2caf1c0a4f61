// The logs of an app: what is there, then what comes. Lines are gathered and drawn once a frame, in blocks that are not
// drawn again. A pause holds back what comes; a search asks the server, so that it finds what is older than what is shown.

import {html, useEffect, useLayoutEffect, useRef, useState} from "../view.js";
import {fromInput, timeOf, toInput, whenOf} from "../format.js";
import {jsonLines} from "../api.js";
import {refine} from "../route.js";
import {pieces, plain} from "../parts/ansi.js";
import {Trouble} from "../parts/small.js";

/** So many lines are shown, and so many are held back while paused. */
const KEEP = 5000;
/** Lines in a block. */
const BLOCK = 100;
/** Lines to begin with. */
const PAST = 500;

function Line({line, find}) {
  if (line.notice) return html`<div class="log notice">— ${line.line}</div>`;
  return html`<div class=${line.stream === "err" ? "log err" : "log"}>
    <time class="at" title=${new Date(line.at * 1000).toISOString()}>${timeOf(line.at)}</time
    ><span class="from">${line.index ?? ""}${line.stream === "err" ? "!" : ""}</span
    ><span class="text">${find ? marked(plain(line.line), find) : pieces(line.line).map(({text, style}) => (style ? html`<span class=${style}>${text}</span>` : text))}</span></div>`;
}

function marked(text, find) {
  const out = [];
  let from = 0;
  for (const match of text.matchAll(find)) {
    if (!match[0]) continue;
    out.push(text.slice(from, match.index), html`<mark>${match[0]}</mark>`);
    from = match.index + match[0].length;
  }
  out.push(text.slice(from));
  return out;
}

/** A block that is full never changes. */
class Block {
  constructor(id, lines) {
    this.id = id;
    this.lines = lines;
  }
}

function Lines({block, find, size}) {
  const drawn = useRef({});
  const now = drawn.current;
  if (now.block !== block || now.size !== size || now.find !== find) {
    now.block = block;
    now.size = size;
    now.find = find;
    now.view = html`<div class="block">${block.lines.map((line) => html`<${Line} key=${line.key} line=${line} find=${find} />`)}</div>`;
  }
  return now.view;
}

function pattern(text) {
  if (!text) return null;
  try {
    return new RegExp(text, "g");
  } catch {
    return null; // the server's pattern language may know more: lines are chosen there, only the marks are missing
  }
}

export function Logs({api, app, query}) {
  const grep = query.find ?? "";
  const stream = ["out", "err"].includes(query.stream) ? query.stream : "";
  const instance = query.instance ?? "";
  const since = query.since ? Number(query.since) : null;
  const until = query.until ? Number(query.until) : null;
  const [typed, setTyped] = useState(grep);
  const [state, setState] = useState({state: "connecting"});
  const [paused, setPaused] = useState(false);
  const [, draw] = useState(0);
  const log = useRef(null);
  const box = useRef(null);
  const stick = useRef(true);
  log.current ??= {blocks: [], count: 0, next: 0, held: [], missed: 0, paused: false, due: 0};
  log.current.paused = paused;

  useEffect(() => setTyped(grep), [grep]);

  // A search is asked for when nobody has typed for a moment.
  useEffect(() => {
    if (typed === grep) return undefined;
    const timer = setTimeout(() => refine({find: typed}), 400);
    return () => clearTimeout(timer);
  }, [typed]);

  useEffect(() => {
    const controller = new AbortController();
    const {signal} = controller;
    const kept = log.current;
    Object.assign(kept, {blocks: [], count: 0, held: [], missed: 0});
    setState({state: "connecting"});
    draw((count) => count + 1);
    const apps = instance === "" ? app.name : `${app.name}:${instance}`;
    const asked = {apps, grep, stream, ...(since ? {since} : {lines: PAST}), ...(until ? {until} : {})};
    const frame = () => {
      if (kept.due || signal.aborted) return;
      kept.due = requestAnimationFrame(() => {
        kept.due = 0;
        draw((count) => count + 1);
      });
    };
    const take = (line) => {
      if (kept.paused) {
        kept.held.push(line);
        if (kept.held.length > KEEP) {
          kept.held.shift();
          kept.missed += 1;
        }
      } else {
        add(kept, line);
      }
      frame();
    };
    if (until) {
      void (async () => {
        try {
          const response = await api.ask("GET", "v1/logs", {query: asked, signal, patience: 120_000});
          for await (const line of jsonLines(response.body)) {
            take(line);
          }
          setState({state: "ended"});
        } catch (refusal) {
          if (!signal.aborted) setState({state: "refused", refusal});
        }
      })();
    } else {
      void api.follow("v1/logs", asked, {
        signal,
        onEvent: take,
        onState(told) {
          if (told.state === "open" && !told.resumed) Object.assign(kept, {blocks: [], count: 0});
          setState(told);
        },
      });
    }
    return () => {
      controller.abort();
      cancelAnimationFrame(kept.due);
      kept.due = 0;
    };
  }, [app.name, grep, stream, instance, since, until]);

  const resume = () => {
    const kept = log.current;
    if (kept.missed) add(kept, {notice: true, line: `${kept.missed} lines came while paused and are not shown`});
    for (const line of kept.held) add(kept, line);
    Object.assign(kept, {held: [], missed: 0});
    stick.current = true;
    setPaused(false);
  };
  const toggle = () => (paused ? resume() : setPaused(true));

  useEffect(() => {
    const onKey = (event) => {
      if (event.target.closest("input, select, textarea, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === " " && !event.target.closest("button, a")) {
        event.preventDefault();
        toggle();
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });

  useLayoutEffect(() => {
    if (stick.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  });
  const onScroll = () => {
    if (!box.current) return;
    const {scrollTop, scrollHeight, clientHeight} = box.current;
    stick.current = scrollHeight - scrollTop - clientHeight < 24;
  };

  const kept = log.current;
  const find = pattern(grep);
  const words = {
    connecting: "connecting…",
    open: "following",
    lost: "connection lost, trying again",
    ended: "this span has ended",
    refused: "refused",
  };
  return html`<section class="logs" aria-label="Logs">
    <form class="tools" onSubmit=${(event) => {
      event.preventDefault();
      refine({find: typed});
    }}>
      <label>Search <input type="search" name="find" value=${typed} placeholder="regular expression" autocomplete="off"
        spellcheck="false" data-shortcut="/" onInput=${(event) => setTyped(event.target.value)} /></label>
      <label>Output <select name="stream" value=${stream} onChange=${(event) => refine({stream: event.target.value})}>
        <option value="">both</option><option value="out">standard output</option><option value="err">standard error</option>
      </select></label>
      ${app.instances.length > 1 &&
      html`<label>Instance <select name="instance" value=${instance} onChange=${(event) => refine({instance: event.target.value})}>
        <option value="">all</option>
        ${app.instances.map(({index}) => html`<option key=${index} value=${String(index)}>${index}</option>`)}
      </select></label>`}
      <details class="more" open=${Boolean(since || until)}><summary>Span of time</summary><label>From <input type="datetime-local" value=${toInput(since)}
        onChange=${(event) => refine({since: fromInput(event.target.value)})} /></label>
      <label>until <input type="datetime-local" value=${toInput(until)}
        onChange=${(event) => refine({until: fromInput(event.target.value)})} /></label></details>
      ${!until &&
      html`<button type="button" class=${paused ? "main" : ""} aria-pressed=${paused} onClick=${toggle}>
        ${paused ? "Go on" : "Pause"}</button>`}
    </form>
    <p class="status" role="status">${paused
      ? html`<strong>Paused</strong>${kept.held.length + kept.missed ? `: ${kept.held.length + kept.missed} new lines wait` : ""}`
      : words[state.state]}${grep && !paused ? `, lines with “${grep}”` : ""}${since || until
      ? `, ${since ? `from ${whenOf(since)}` : ""} ${until ? `until ${whenOf(until)}` : ""}`
      : ""}</p>
    ${state.state === "refused" && html`<${Trouble} refusal=${state.refusal} />`}
    <div class="lines" role="log" aria-live="off" aria-label=${`Lines of ${app.name}`} tabindex="0" ref=${box} onScroll=${onScroll}>
      ${kept.blocks.map((block) => html`<${Lines} key=${block.id} block=${block} size=${block.lines.length} find=${find} />`)}
      ${kept.count === 0 &&
      state.state !== "connecting" &&
      html`<p class="empty">${grep ? "No line matches so far." : "Nothing was written so far."}</p>`}
    </div>
  </section>`;
}

function add(kept, line) {
  line.key = kept.next++;
  const last = kept.blocks.at(-1);
  if (last && last.lines.length < BLOCK) last.lines.push(line);
  else kept.blocks.push(new Block(line.key, [line]));
  kept.count += 1;
  if (kept.count > KEEP && kept.blocks.length > 1) kept.count -= kept.blocks.shift().lines.length;
}
