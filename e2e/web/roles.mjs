// Roles: made, changed, given, taken, deleted; the line of a shell does the same; built-in ones stay as they are.

import {complaints, scenario, signIn} from "./common.mjs";

await scenario(async ({input, open, ask, check, until, faults}) => {
  const {page, console: said} = await signIn(open, input, {hash: "#/access"});
  const row = (name) => `[data-role="${name}"]`;
  const cli = () => page.innerText("dialog .cli");
  const send = () => page.click("dialog button[type=submit]");
  const closed = () => until("the dialog to close", async () => (await page.locator("dialog[open]").count()) === 0);
  await page.waitForSelector(row("viewer"));
  for (const name of ["viewer", "operator", "admin"]) {
    check((await page.locator(`${row(name)} >> text=/^(Change|Delete)$/`).count()) === 0, `${name} is built in and can be changed`);
  }

  // Made.
  await page.click("text=New role");
  await page.fill("dialog input[name=name]", "deployer");
  await send();
  check(/no verb/.test(await until("the refusal", () => page.innerText("dialog .trouble"))), "a role of nothing");
  await page.check("dialog input[name='apps:read']");
  await page.check("dialog input[name='apps:operate']");
  await page.fill("dialog input[name=apps]", "shop-* api");
  await page.fill("dialog input[name=namespaces]", "live");
  await page.fill("dialog input[name=reason]", "for CI");
  const before = said.length;
  const found = await faults(page);
  said.length = before;
  check(found.length === 0, () => JSON.stringify(found));
  const made = await cli();
  check(made === "upkeep role set deployer --verb apps:read --verb apps:operate --app 'shop-*' --app api --namespace live --reason 'for CI'", made);
  await send();
  await page.waitForSelector(row("deployer"));
  await closed();
  check(/apps:read apps:operate apps shop-\*, api in live/.test(await page.innerText(row("deployer"))), await page.innerText(row("deployer")));
  // The same by the line.
  await ask("run", made.replace("deployer", "twin"));
  await page.reload();
  await page.waitForSelector(row("twin"));
  const gives = (name) => page.innerText(`${row(name)} td:nth-of-type(1)`);
  check((await gives("twin")) === (await gives("deployer")), `${await gives("twin")}, and ${await gives("deployer")}`);

  // Changed: a second grant, for other places. `role set` knows only one: the line is of the API.
  await page.click('[aria-label="Change deployer"]');
  await page.click("dialog >> text=One more grant");
  await page.check("dialog [data-grant='1'] input[name='events:read']");
  await page.uncheck("dialog [data-grant='0'] input[name='apps:operate']");
  const changed = await cli();
  check(/^curl -X PUT .*\/v1\/roles\/deployer$/.test(changed) && changed.includes('"verbs":["events:read"]'), changed);
  await ask("curl", changed.replaceAll("deployer", "third"));
  await send();
  await closed();
  await until("both grants", async () => /events:read all apps/.test(await gives("deployer")));
  check(!/apps:operate/.test(await gives("deployer")), await gives("deployer"));
  await page.reload();
  await page.waitForSelector(row("third"));
  check((await gives("third")) === (await gives("deployer")), `${await gives("third")}, and ${await gives("deployer")}`);

  // Given, to a user and to a certificate; own and built-in ones.
  for (const [role, member] of [["deployer", "uid:12345"], ["deployer", "cert:laptop"], ["viewer", "uid:12345"]]) {
    await page.click(`[aria-label="Give ${role}"]`);
    await page.fill("dialog input[name=member]", member);
    check((await cli()) === `upkeep role grant ${role} ${member}`, await cli());
    await send();
    await page.waitForSelector(`${row(role)} [data-member="${member}"]`);
    await closed();
  }
  await page.click('[aria-label="Give viewer"]');
  await page.fill("dialog input[name=member]", "somebody");
  await send();
  check((await page.locator("dialog[open]").count()) === 1, "a member that is none was sent");
  await page.click("dialog >> text=Cancel");

  // One that is held is not deleted.
  await page.click('[aria-label="Delete deployer"]');
  check((await cli()) === "upkeep role rm deployer", await cli());
  await send();
  const refusal = await until("the refusal", () => page.innerText("dialog .trouble"));
  await page.click("dialog >> text=Cancel");
  check((await page.locator(row("deployer")).count()) === 1, "it is gone");

  // Taken, and then deleted.
  for (const member of ["uid:12345", "cert:laptop"]) {
    await page.click(`[aria-label="Take deployer from ${member}"]`);
    check((await cli()) === `upkeep role revoke deployer ${member}`, await cli());
    await send();
    await until("it to be taken", async () => (await page.locator(`${row("deployer")} [data-member="${member}"]`).count()) === 0);
    await closed();
  }
  await page.click('[aria-label="Delete deployer"]');
  await send();
  await until("it to be gone", async () => (await page.locator(row("deployer")).count()) === 0);
  await closed();
  check((await page.locator(`${row("viewer")} [data-member="uid:12345"]`).count()) === 1, "another role was taken too");

  // Whoever may only read sees roles without buttons.
  const reader = await signIn(open, input, {token: input.reader, hash: "#/access"});
  await reader.page.waitForSelector(row("twin"));
  check((await reader.page.locator("main button:not(.quiet)").count()) === 0 && (await reader.page.locator(`${row("twin")} button`).count()) === 0, "buttons for a reader");
  check(complaints(said).length === 0, () => complaints(said).join("\n"));
  return {made, changed, refusal};
});
