// Who one is, and tokens. A new token is shown once: the daemon keeps only its sum. Roles are in `roles.js`.

import {html, useEffect, useRef, useState} from "../view.js";
import {whenOf} from "../format.js";
import {may, session} from "../session.js";
import {quoted} from "../format.js";
import {Ask} from "../parts/ask.js";
import {Copy, Trouble, useAsked} from "../parts/small.js";
import {Grants, places, RoleDialog, Roles} from "./roles.js";

const LIVES = [
  ["1 hour", 3600],
  ["1 day", 86_400],
  ["30 days", 30 * 86_400],
  ["90 days", 90 * 86_400],
  ["1 year", 365 * 86_400],
  ["for ever", 0],
];

export function Access({api}) {
  const {who} = session.get();
  const reads = may(who, "access:read");
  const writes = may(who, "access:write");
  const tokens = useAsked((signal) => (reads ? api.get("v1/tokens", {}, {signal}) : Promise.resolve(null)), [api]);
  const roles = useAsked((signal) => (reads ? api.get("v1/roles", {}, {signal}) : Promise.resolve(null)), [api]);
  const [doing, setDoing] = useState(null);
  const [fresh, setFresh] = useState(null);
  const done = () => {
    setDoing(null);
    tokens.again();
    roles.again();
  };
  return html`<section aria-labelledby="access-title">
    <div class="tools"><h1 id="access-title">Access</h1>
      ${writes && html`<button type="button" class="main" onClick=${() => setDoing({make: true})}>New token</button>`}</div>
    <${Me} who=${who} />
    ${!reads && html`<p class="faint">${who.principal} may not see tokens and roles: it takes access:read.</p>`}
    ${fresh && html`<${Shown} created=${fresh} done=${() => setFresh(null)} />`}
    <${Trouble} refusal=${tokens.refusal ?? roles.refusal} again=${tokens.again} />
    ${tokens.value && html`<${Tokens} list=${tokens.value.tokens} writes=${writes} revoke=${(token) => setDoing({revoke: token})} />`}
    ${roles.value && html`<${Roles} list=${roles.value.roles} writes=${writes} act=${(role) => setDoing({role})} />`}
    ${doing?.make && html`<${Make} api=${api} roles=${roles.value?.roles ?? []} cancel=${() => setDoing(null)} done=${(created) => {
      setFresh(created);
      done();
    }} />`}
    ${doing?.role && html`<${RoleDialog} api=${api} doing=${doing.role} cancel=${() => setDoing(null)} done=${done} />`}
    ${doing?.revoke && html`<${Revoke} api=${api} token=${doing.revoke} cancel=${() => setDoing(null)} done=${done} />`}
  </section>`;
}

function Me({who}) {
  return html`<h2>You</h2><p>You are <strong>${who.principal}</strong>${who.roles?.length ? html`, ${who.roles.join(", ")}` : ""}${who.expires_at ? `, until ${whenOf(who.expires_at)}` : ""}.</p>
    <details><summary>What you may do</summary><${Grants} grants=${who.grants ?? []} />${who.bound && html`<p>Nothing beyond ${places(who.bound)}.</p>`}</details>`;
}

function Shown({created, done}) {
  const field = useRef(null);
  useEffect(() => field.current.select(), []);
  return html`<div class="once" role="alert"><p><strong>The token “${created.token.name}”. It is shown now and never again.</strong></p>
    <p><input class="secret" readonly aria-label="New token" value=${created.secret} ref=${field} onFocus=${(event) => event.target.select()} />
      <${Copy} text=${created.secret} label="Copy token" /></p>
    <p><button type="button" onClick=${done}>I have kept it</button></p></div>`;
}

function Tokens({list, writes, revoke}) {
  return html`<h2>Tokens</h2>${list.length === 0
    ? html`<p class="empty">There are none.</p>`
    : html`<div class="scroll" tabindex="0" role="region" aria-label="Tokens"><table><thead><tr><th scope="col">Name</th><th scope="col">Roles</th><th scope="col">Where</th><th scope="col">Made</th>
      <th scope="col">Ends</th><th scope="col">Last used</th>${writes && html`<th scope="col">Actions</th>`}</tr></thead>
      <tbody>${list.map(
        (token) => html`<tr key=${token.id} data-token=${token.name}><th scope="row">${token.name} <span class="faint">${token.id}</span></th>
          <td>${token.roles.join(", ")}</td><td>${places(token.bound)}</td><td>${whenOf(token.created_at)} by ${token.created_by}</td>
          <td>${token.expires_at ? `${token.expired ? "ended " : ""}${whenOf(token.expires_at)}` : "never"}</td>
          <td>${token.last_used_at ? whenOf(token.last_used_at) : "never"}</td>
          ${writes && html`<td><button type="button" class="quiet small" aria-label=${`Revoke ${token.name}`} onClick=${() => revoke(token)}>Revoke</button></td>`}</tr>`,
      )}</tbody></table></div>`}`;
}

function Make({api, roles, cancel, done}) {
  const [name, setName] = useState("");
  const [chosen, setChosen] = useState("viewer");
  const [life, setLife] = useState(30 * 86_400);
  const [where, setWhere] = useState("");
  const [reason, setReason] = useState("");
  const apps = where.split(/[\s,]+/).filter(Boolean);
  const cli = ["upkeep token create", quoted(name || "NAME"), `--role ${quoted(chosen)}`, life ? `--expires ${life % 86_400 ? `${life / 3600}h` : `${life / 86_400}d`}` : "", ...apps.map((app) => `--app ${quoted(app)}`), reason && `--reason ${quoted(reason)}`].filter(Boolean).join(" ");
  const send = async () => {
    const body = {name, roles: [chosen], reason: reason || undefined};
    if (life) body.expires_at = Math.floor(Date.now() / 1000) + life;
    if (apps.length) body.bound = {apps};
    done(await api.post("v1/tokens", body));
  };
  return html`<${Ask} title="New token" word="Create" cli=${cli} send=${send} cancel=${cancel}>
    <label>Name <input name="name" required pattern="[A-Za-z0-9._\\-]+" maxlength="64" autocomplete="off" value=${name} onInput=${(event) => setName(event.target.value)} />
      <span class="faint">events name it token:${name || "NAME"}</span></label>
    <label>Role <select name="role" value=${chosen} onChange=${(event) => setChosen(event.target.value)}>
      ${(roles.length ? roles : [{name: "viewer"}]).map((role) => html`<option key=${role.name} value=${role.name}>${role.name}</option>`)}</select></label>
    <label>Only for apps <input name="apps" value=${where} placeholder="all; or names and patterns: shop api-*" autocomplete="off" onInput=${(event) => setWhere(event.target.value)} /></label>
    <label>Ends after <select name="life" value=${String(life)} onChange=${(event) => setLife(Number(event.target.value))}>
      ${LIVES.map(([word, seconds]) => html`<option key=${word} value=${String(seconds)}>${word}</option>`)}</select></label>
    <label>Reason <input name="reason" value=${reason} placeholder="kept in the event log" onInput=${(event) => setReason(event.target.value)} /></label>
  </${Ask}>`;
}

function Revoke({api, token, cancel, done}) {
  const [reason, setReason] = useState("");
  const cli = ["upkeep token revoke", quoted(token.name), reason && `--reason ${quoted(reason)}`].filter(Boolean).join(" ");
  return html`<${Ask} title=${`Revoke ${token.name}?`} word="Revoke" harsh cli=${cli} cancel=${cancel}
    send=${async () => {
      await api.json("DELETE", `v1/tokens/${encodeURIComponent(token.id)}`, {body: reason ? {reason} : {}});
      done();
    }}>
    <p>Whoever uses it is refused from now on.</p>
    <label>Reason <input name="reason" value=${reason} placeholder="kept in the event log" onInput=${(event) => setReason(event.target.value)} /></label>
  </${Ask}>`;
}
