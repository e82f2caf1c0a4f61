// The keys. The same as in `upkeep monit`, where both have them.

import {html, useLayoutEffect, useRef} from "../view.js";

const KEYS = [
  ["?", "these keys"],
  ["1 2 3 4", "apps, timeline, machine, access"],
  ["/", "to the filter or the search"],
  ["j k ↓ ↑", "down and up the list"],
  ["g G", "to its top and its end"],
  ["Enter", "open the app that the keys are on"],
  ["l", "its logs"],
  ["e E", "unfold its instances, all instances"],
  ["s S", "start, stop (asks first)"],
  ["r R", "restart, reload (asks first)"],
  ["=", "scale (asks first)"],
  ["Space", "in logs: pause, go on"],
  ["t", "dark, light, or as the system has it"],
  ["Esc", "close a dialog, leave a field, back to all apps"],
];

export function Help({close}) {
  const box = useRef(null);
  useLayoutEffect(() => box.current.showModal(), []);
  return html`<dialog class="act" ref=${box} aria-labelledby="help-title" onCancel=${(event) => {
    event.preventDefault();
    close();
  }}><form method="dialog" onSubmit=${(event) => {
    event.preventDefault();
    close();
  }}>
    <h2 id="help-title">Keys</h2>
    <dl class="keys">${KEYS.map(([keys, what]) => html`<div key=${keys}><dt>${keys.split(" ").map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${what}</dd></div>`)}</dl>
    <menu><button type="submit" class="main">Close</button></menu></form></dialog>`;
}
