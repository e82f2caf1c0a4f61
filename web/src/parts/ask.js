// A dialog that asks before something about access is changed: what, the line of a shell that does the same, what came of it.

import {html, useLayoutEffect, useRef, useState} from "../view.js";
import {Copy, Trouble} from "./small.js";

/** A dialog with a form; `send` gives a promise. */
export function Ask({title, children, word, harsh, wide, cli, send, cancel}) {
  const box = useRef(null);
  const [state, set] = useState({});
  useLayoutEffect(() => box.current.showModal(), []);
  const submit = async (event) => {
    event.preventDefault();
    if (state.working) return;
    set({working: true});
    try {
      await send();
    } catch (refusal) {
      set({refusal});
    }
  };
  return html`<dialog class=${wide ? "act wide" : "act"} ref=${box} aria-labelledby="ask-title" onCancel=${(event) => {
    event.preventDefault();
    cancel();
  }}><form method="dialog" onSubmit=${submit}><h2 id="ask-title">${title}</h2>${children}
    <p class="line"><span class="faint">The same in a shell:</span> <code class="cli">${cli}</code> <${Copy} text=${cli} /></p>
    <${Trouble} refusal=${state.refusal} />
    <menu><button type="button" onClick=${cancel}>Cancel</button><button type="submit" class=${harsh ? "harsh" : "main"} disabled=${state.working}>${word}</button></menu>
  </form></dialog>`;
}
