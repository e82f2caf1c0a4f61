// Signing in with a token, and, where the page does not come from a daemon, with the address of one.

import {html, useEffect, useRef, useState} from "../view.js";
import {ownBase, signIn} from "../session.js";
import {Trouble} from "../parts/small.js";

export function SignIn({of}) {
  const [base, setBase] = useState(of.base ?? (of.served ? ownBase : ""));
  const [token, setToken] = useState("");
  const [remember, setRemember] = useState(false);
  const [state, set] = useState({refusal: of.refusal});
  const field = useRef(null);
  useEffect(() => field.current?.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    set({working: true});
    const refusal = await signIn(base, token.trim(), remember);
    if (refusal) {
      set({refusal});
      field.current?.select();
    }
  };
  return html`<main class="signin" id="main" tabindex="-1"><h1>Upkeep</h1>
    <form onSubmit=${submit}>
      ${!of.served &&
      html`<label>Address of the daemon <input name="base" type="url" required value=${base} placeholder="https://machine:9616/"
        onInput=${(event) => setBase(event.target.value)} /></label>`}
      <label>Token <input name="token" type="password" required value=${token} ref=${field} autocomplete="off" spellcheck="false"
        placeholder="upk_…" onInput=${(event) => setToken(event.target.value)} /></label>
      <label class="check"><input type="checkbox" name="remember" checked=${remember} onChange=${(event) => setRemember(event.target.checked)} />
        remember on this device</label>
      <p><button type="submit" class="main" disabled=${state.working}>${state.working ? "Asking…" : "Sign in"}</button></p>
    </form>
    <${Trouble} refusal=${state.refusal} />
    <p class="faint">No token? On the machine: <code class="cli">upkeep token create me --role operator</code></p>
    <p class="faint">The token stays in this ${remember ? "browser" : "tab"}, and goes nowhere but to this daemon.</p>
  </main>`;
}
