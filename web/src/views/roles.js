// Roles: what each gives and who holds it. Own ones are made, changed and deleted; built-in ones only given and taken. The
// daemon decides what is allowed: nobody gives more than they hold.

import {html, useState} from "../view.js";
import {quoted} from "../format.js";
import {Ask} from "../parts/ask.js";

/** What can be granted, with what it means. */
const VERBS = [
  ["apps:read", "see apps, figures, crashes"],
  ["apps:logs", "read logs"],
  ["apps:operate", "start, stop, restart, reload, scale"],
  ["apps:write", "create, change, delete: that is to run any program"],
  ["apps:inspect", "heap snapshots and profiles: all that a program has in memory"],
  ["events:read", "read the event log"],
  ["alerts:operate", "silence alerts, try channels"],
  ["machine:read", "see the daemon, alerts, the machine's figures"],
  ["machine:control", "upgrade, shut down"],
  ["settings:read", "see the settings"],
  ["settings:write", "change the settings"],
  ["access:read", "see tokens, roles, the audit"],
  ["access:write", "make tokens, change roles"],
  ["config:read", "read the shared configuration; of secrets, that they are there"],
  ["config:reveal", "read secrets of it in clear"],
  ["config:write", "set and delete values of it"],
  ["config:watch", "be told of its changes"],
  ["config:history", "read what it was, who changed it and why"],
  ["config:grant", "say what holds for its places: recipients, schemas, approvals"],
];

export const places = ({apps = ["*"], namespaces = ["*"], paths} = {}) =>
  [
    apps.includes("*") ? "all apps" : apps.length ? `apps ${apps.join(", ")}` : "no apps",
    namespaces.includes("*") ? null : `in ${namespaces.join(", ")}`,
    paths ? `paths ${paths.join(", ")}` : null,
  ]
    .filter(Boolean)
    .join(" ");

export function Grants({grants}) {
  return html`<ul class="plain">${grants.map(
    (grant) => html`<li><code>${grant.verbs.join(" ")}</code> <span class="faint">${places(grant)}</span></li>`,
  )}</ul>`;
}

/** `act` is told what to ask for: `{make}`, `{change: role}`, `{remove: role}`, `{give: role}`, `{take: role, member}`. */
export function Roles({list, writes, act}) {
  return html`<div class="tools"><h2>Roles</h2>${writes && html`<button type="button" onClick=${() => act({make: true})}>New role</button>`}</div>
    <div class="scroll" tabindex="0" role="region" aria-label="Roles"><table><thead><tr><th scope="col">Name</th><th scope="col">Gives</th><th scope="col">Held by, besides tokens</th>${writes && html`<th scope="col">Actions</th>`}</tr></thead>
    <tbody>${list.map(
      (role) => html`<tr key=${role.name} data-role=${role.name}><th scope="row">${role.name}${role.built_in && html` <span class="faint">built in</span>`}</th>
        <td><${Grants} grants=${role.grants} /></td>
        <td>${role.members.length
          ? html`<ul class="plain">${role.members.map(
              (member) => html`<li key=${member} data-member=${member}><code>${member}</code>${writes && html` <button type="button" class="quiet small" aria-label=${`Take ${role.name} from ${member}`}
                onClick=${() => act({take: role, member})}>Take</button>`}</li>`,
            )}</ul>`
          : "–"}</td>
        ${writes &&
        html`<td><span class="buttons"><button type="button" class="quiet small" aria-label=${`Give ${role.name}`} onClick=${() => act({give: role})}>Give</button>
          ${!role.built_in &&
          html`<button type="button" class="quiet small" aria-label=${`Change ${role.name}`} onClick=${() => act({change: role})}>Change</button>
          <button type="button" class="quiet small" aria-label=${`Delete ${role.name}`} onClick=${() => act({remove: role})}>Delete</button>`}</span></td>`}</tr>`,
    )}</tbody></table></div>`;
}

export function RoleDialog({api, doing, cancel, done}) {
  if (doing.give) return html`<${Give} api=${api} role=${doing.give} cancel=${cancel} done=${done} />`;
  if (doing.take) return html`<${Take} api=${api} role=${doing.take} member=${doing.member} cancel=${cancel} done=${done} />`;
  if (doing.remove) return html`<${Remove} api=${api} role=${doing.remove} cancel=${cancel} done=${done} />`;
  return html`<${Edit} api=${api} role=${doing.change ?? null} cancel=${cancel} done=${done} />`;
}

const role_ = (name) => `v1/roles/${encodeURIComponent(name)}`;
const member_ = (role, member) => `${role_(role)}/members/${encodeURIComponent(member)}`;
const because = (reason) => (reason ? {reason} : {});
const withReason = (words, reason) => [...words, ...(reason ? ["--reason", quoted(reason)] : [])].join(" ");
const list = (text) => text.split(/[\s,]+/).filter(Boolean);

function Reason({reason, set}) {
  return html`<label>Reason <input name="reason" value=${reason} maxlength="500" placeholder="kept in the event log" onInput=${(event) => set(event.target.value)} /></label>`;
}

function Give({api, role, cancel, done}) {
  const [member, setMember] = useState("");
  const [reason, setReason] = useState("");
  return html`<${Ask} title=${`Give ${role.name} to whom?`} word="Give" cancel=${cancel}
    cli=${withReason(["upkeep role grant", quoted(role.name), quoted(member.trim() || "MEMBER")], reason)}
    send=${async () => {
      await api.json("PUT", member_(role.name, member.trim()), {body: because(reason)});
      done();
    }}>
    <label>Member <input name="member" required pattern="\\s*(uid:[0-9]+|cert:\\S+)\\s*" value=${member} autocomplete="off" spellcheck="false" placeholder="uid:1000 or cert:laptop"
      onInput=${(event) => setMember(event.target.value)} />
      <span class="faint">a local user by number (<code>id -u</code>), or the name in a certificate; tokens get roles when they are made</span></label>
    <${Reason} reason=${reason} set=${setReason} />
  </${Ask}>`;
}

function Take({api, role, member, cancel, done}) {
  const [reason, setReason] = useState("");
  return html`<${Ask} title=${`Take ${role.name} from ${member}?`} word="Take" harsh cancel=${cancel}
    cli=${withReason(["upkeep role revoke", quoted(role.name), quoted(member)], reason)}
    send=${async () => {
      await api.json("DELETE", member_(role.name, member), {body: because(reason)});
      done();
    }}>
    <p>What ${member} does by this role is refused from now on; open streams end.</p>
    <${Reason} reason=${reason} set=${setReason} />
  </${Ask}>`;
}

function Remove({api, role, cancel, done}) {
  const [reason, setReason] = useState("");
  return html`<${Ask} title=${`Delete the role ${role.name}?`} word="Delete" harsh cancel=${cancel}
    cli=${withReason(["upkeep role rm", quoted(role.name)], reason)}
    send=${async () => {
      await api.json("DELETE", role_(role.name), {body: because(reason)});
      done();
    }}>
    <p>A role that somebody holds, or a token, is not deleted.</p>
    <${Reason} reason=${reason} set=${setReason} />
  </${Ask}>`;
}

/** A grant as it is edited: texts of lists stay as they are typed. */
const draft = ({verbs = [], apps = ["*"], namespaces = ["*"], paths = []} = {}) =>
  ({verbs, apps: apps.join(" "), namespaces: namespaces.join(" "), paths: paths.join(" ")});

function grantOf({verbs, apps, namespaces, paths}) {
  return {verbs, apps: list(apps), namespaces: list(namespaces), ...(list(paths).length ? {paths: list(paths)} : {})};
}

/** The line of a shell: of one grant by `upkeep role set`, of several by the API, as that verb knows only one. */
function lineOf(api, name, grants, reason) {
  if (grants.length === 1) {
    const [{verbs, apps, namespaces, paths = []}] = grants;
    const flags = (flag, values) => (values.includes("*") ? [] : values.flatMap((value) => [flag, quoted(value)]));
    return withReason(
      ["upkeep role set", quoted(name), ...verbs.flatMap((verb) => ["--verb", quoted(verb)]), ...flags("--app", apps), ...flags("--namespace", namespaces), ...flags("--path", paths)],
      reason,
    );
  }
  const body = JSON.stringify({grants, ...because(reason)});
  return `curl -X PUT -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d ${quoted(body)} ${api.address(role_(name)).href}`;
}

function Edit({api, role, cancel, done}) {
  const [name, setName] = useState(role?.name ?? "");
  const [drafts, setDrafts] = useState(role ? role.grants.map(draft) : [draft()]);
  const [reason, setReason] = useState("");
  const grants = drafts.map(grantOf);
  const change = (at, part) => setDrafts(drafts.map((one, index) => (index === at ? {...one, ...part} : one)));
  const send = async () => {
    if (grants.some(({verbs}) => !verbs.length)) throw {message: "a grant has no verb: choose one, or remove the grant"};
    if (grants.some(({apps, namespaces, paths}) => !namespaces.length || !(apps.length || paths))) {
      throw {message: "a grant names no app or no namespace", hint: "`*` stands for all"};
    }
    // What somebody else has changed meanwhile is not changed back.
    const {roles, revision} = await api.get("v1/roles");
    const now = roles.find((one) => one.name === name);
    if (JSON.stringify(now?.grants) !== JSON.stringify(role?.grants)) {
      throw {message: role ? `${name} was changed by somebody else meanwhile` : `there is a role ${name} already`, hint: "close this, and look at it"};
    }
    await api.json("PUT", role_(name), {body: {grants, ...because(reason)}, headers: {"if-match": `"${revision}"`}});
    done();
  };
  return html`<${Ask} title=${role ? `Change the role ${role.name}` : "New role"} word=${role ? "Change" : "Create"} wide cancel=${cancel} send=${send}
    cli=${lineOf(api, name || "NAME", grants, reason)}>
    ${role
      ? html`<p>It holds at once for all who have it: ${role.members.join(", ") || "nobody"}, and tokens with it.</p>`
      : html`<label>Name <input name="name" required pattern="[A-Za-z0-9._\\-]+" maxlength="64" value=${name} autocomplete="off" spellcheck="false"
          onInput=${(event) => setName(event.target.value)} /></label>`}
    ${drafts.map((one, at) => html`<${Grant} key=${at} at=${at} of=${one} change=${(part) => change(at, part)}
      remove=${drafts.length > 1 && (() => setDrafts(drafts.filter((_, index) => index !== at)))} />`)}
    <p><button type="button" class="quiet" onClick=${() => setDrafts([...drafts, draft()])}>One more grant, for other places</button></p>
    <${Reason} reason=${reason} set=${setReason} />
  </${Ask}>`;
}

function Grant({at, of, change, remove}) {
  const known = new Set(VERBS.map(([verb]) => verb));
  const shown = [...of.verbs.filter((verb) => !known.has(verb)).map((verb) => [verb, "all that begins so"]), ...VERBS];
  const toggle = (verb, on) => change({verbs: on ? [...of.verbs, verb] : of.verbs.filter((other) => other !== verb)});
  return html`<fieldset class="grant" data-grant=${at}><legend>Grant ${at + 1}</legend>
    <div class="verbs">${shown.map(
      ([verb, what]) => html`<label class="check" key=${verb}><input type="checkbox" name=${verb} checked=${of.verbs.includes(verb)}
        onChange=${(event) => toggle(verb, event.target.checked)} /> <span><code>${verb}</code> <span class="faint">${what}</span></span></label>`,
    )}</div>
    <label>Only for apps <input name="apps" required=${!list(of.paths).length} value=${of.apps} autocomplete="off" spellcheck="false" onInput=${(event) => change({apps: event.target.value})} /></label>
    <label>Only in namespaces <input name="namespaces" required value=${of.namespaces} autocomplete="off" spellcheck="false" onInput=${(event) => change({namespaces: event.target.value})} />
      <span class="faint">names and patterns; * means all, and is what machine, settings and access take</span></label>
    <label>Only for paths <input name="paths" value=${of.paths} autocomplete="off" spellcheck="false" placeholder="/shop/prod/" onInput=${(event) => change({paths: event.target.value})} />
      <span class="faint">of the shared configuration; none: all of them where all apps and namespaces are meant, else none</span></label>
    ${remove && html`<p><button type="button" class="quiet" onClick=${remove}>Remove grant ${at + 1}</button></p>`}
  </fieldset>`;
}
