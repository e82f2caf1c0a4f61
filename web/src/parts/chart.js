// Figures over time, drawn by uPlot, which is fetched when the first chart is shown. Beneath each chart stands what it
// says in numbers.

import {html, useEffect, useLayoutEffect, useRef, useState} from "../view.js";

const VENDOR = new URL("../../vendor/uplot/", import.meta.url);
let library = null;

function load() {
  library ??= new Promise((resolve, reject) => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("uPlot.min.css", VENDOR).href;
    const script = document.createElement("script");
    script.src = new URL("uPlot.iife.min.js", VENDOR).href;
    script.onload = () => resolve(window.uPlot);
    script.onerror = () => {
      library = null;
      reject(new Error("the charts could not be fetched"));
    };
    document.head.append(style, script);
  });
  return library;
}

/** Lines that are told apart by more than colour: by dashes too. */
const DASHES = [[], [8, 3], [2, 3], [10, 3, 2, 3], [5, 5], [1, 5]];

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  const probe = document.createElement("span");
  document.body.append(probe);
  const resolve = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color || of(name);
  };
  const found = {
    text: resolve("--faint"),
    grid: resolve("--edge"),
    lines: [0, 1, 2, 3, 4, 5].map((index) => resolve(`--line-${index}`)),
  };
  probe.remove();
  return found;
}

/** Times under a chart: as fine as the steps are; the day where one begins. */
function ticks(_, at, axis, space, step) {
  let day = "";
  return at.map((second) => {
    const date = new Date(second * 1000);
    const today = date.toLocaleDateString("en-GB", {day: "numeric", month: "short"});
    const fresh = today !== day;
    day = today;
    if (step >= 86_400) return today;
    const time = date.toLocaleTimeString("en-GB", {hour: "2-digit", minute: "2-digit", ...(step < 60 ? {second: "2-digit"} : {})});
    return fresh ? `${time}\n${today}` : time;
  });
}

/** Told when the colours of the page change. */
function useTheme() {
  const [theme, set] = useState(0);
  useEffect(() => {
    const again = () => set((count) => count + 1);
    const media = matchMedia("(prefers-color-scheme: dark)");
    media.addEventListener("change", again);
    addEventListener("upkeep-theme", again);
    return () => {
      media.removeEventListener("change", again);
      removeEventListener("upkeep-theme", again);
    };
  }, []);
  return theme;
}

/**
 * `lines`: `[{label, values}]`, all from `from` in steps of `step` seconds; `text` makes a number readable; `onSpan` is
 * told of a span that somebody drew with the mouse.
 */
export function Chart({title, from, step, lines, text, onSpan, top, marks = []}) {
  const box = useRef(null);
  const plot = useRef(null);
  const [trouble, setTrouble] = useState(null);
  const theme = useTheme();
  const labels = lines.map((line) => line.label).join("\n");
  const count = lines[0]?.values.length ?? 0;

  const data = () => [
    Array.from({length: count}, (_, index) => from + index * step),
    ...lines.map((line) => line.values),
  ];

  useLayoutEffect(() => {
    let gone = false;
    let watcher;
    load().then(
      (UPlot) => {
        if (gone || !box.current) return;
        const {text: ink, grid, lines: inks} = colours();
        const axis = {stroke: ink, grid: {stroke: grid, width: 1}, ticks: {stroke: grid, width: 1}, font: "12px system-ui, sans-serif"};
        plot.current = new UPlot(
          {
            width: box.current.clientWidth,
            height: 170,
            cursor: {drag: {x: Boolean(onSpan), y: false, setScale: false}, sync: {key: "upkeep"}},
            legend: {show: false},
            scales: {x: {time: true}, y: {range: (_, low, high) => [Math.min(0, low ?? 0), Math.max((high ?? 1) * 1.1, top ?? 0) || 1]}},
            axes: [{...axis, values: ticks}, {...axis, size: 58, values: (_, ticks) => ticks.map((tick) => text(tick))}],
            series: [
              {},
              ...lines.map((line, index) => ({
                label: line.label,
                stroke: inks[index % inks.length],
                dash: DASHES[Math.floor(index) % DASHES.length],
                width: 1.5,
                points: {show: false},
                spanGaps: false,
              })),
            ],
            hooks: {
              setSelect: [
                (self) => {
                  if (!onSpan || self.select.width < 6) return;
                  const begin = self.posToVal(self.select.left, "x");
                  const end = self.posToVal(self.select.left + self.select.width, "x");
                  self.setSelect({left: 0, width: 0, top: 0, height: 0}, false);
                  onSpan(Math.floor(begin), Math.ceil(end));
                },
              ],
              draw: [
                (self) => {
                  const context = self.ctx;
                  context.save();
                  context.strokeStyle = inks[3];
                  context.setLineDash([3, 3]);
                  for (const at of marks) {
                    const x = self.valToPos(at, "x", true);
                    if (x < self.bbox.left || x > self.bbox.left + self.bbox.width) continue;
                    context.beginPath();
                    context.moveTo(x, self.bbox.top);
                    context.lineTo(x, self.bbox.top + self.bbox.height);
                    context.stroke();
                  }
                  context.restore();
                },
              ],
            },
          },
          data(),
          box.current,
        );
        watcher = new ResizeObserver(() => plot.current?.setSize({width: box.current.clientWidth, height: 170}));
        watcher.observe(box.current);
      },
      (error) => setTrouble(error.message),
    );
    return () => {
      gone = true;
      watcher?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [labels, theme, Boolean(onSpan)]);

  useEffect(() => plot.current?.setData(data()), [lines, from, step]);

  return html`<figure class="chart">
    <figcaption>${title}</figcaption>
    ${trouble ? html`<p class="faint">${trouble}</p>` : html`<div class="plot" ref=${box} aria-hidden="true"></div>`}
    <${Numbers} lines=${lines} text=${text} />
  </figure>`;
}

/** What the lines say, in numbers: the key of the chart, and the chart for those who do not see it. */
function Numbers({lines, text}) {
  return html`<table class="numbers"><thead><tr><th scope="col"><span class="hidden">Line</span></th><th scope="col">now</th>
      <th scope="col">mean</th><th scope="col">highest</th></tr></thead>
    <tbody>${lines.map((line, index) => {
      const seen = line.values.filter((value) => value !== null);
      const high = (line.highs ?? seen).reduce((most, value) => (value !== null && value > most ? value : most), -Infinity);
      const mean = seen.reduce((sum, value) => sum + value, 0) / seen.length;
      return html`<tr key=${line.label}>
        <th scope="row"><span class=${`key key-${index % 6}`} aria-hidden="true"></span> ${line.label}</th>
        <td>${seen.length ? text(seen.at(-1)) : "–"}</td><td>${seen.length ? text(mean) : "–"}</td>
        <td>${seen.length ? text(high) : "–"}</td></tr>`;
    })}</tbody></table>`;
}
