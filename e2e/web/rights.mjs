// Whoever may see little sees that, and is told what the rest takes: what is forbidden is no lost connection.

import {complaints, scenario, signIn} from "./common.mjs";

await scenario(async ({input, open, ask, check, until, faults}) => {
  const places = (page) => page.locator("header.top nav a").evaluateAll((list) => list.map((one) => one.textContent));
  const live = (page) => until("a connection that lives", async () => /live/.test(await page.innerText(".connection")));
  const calm = async ({page, console: said}, name) => {
    check((await page.locator(".cutoff").count()) === 0, `${name}: a lost connection is told`);
    const before = said.length;
    const found = await faults(page);
    said.length = before;
    check(found.length === 0, () => `${name}: ${JSON.stringify(found)}`);
    check(complaints(said).length === 0, () => `${name}: ${complaints(said).join("\n")}`);
  };
  const lacks = async (page, hash, verb) => {
    await page.goto(`${input.url}${hash}`);
    await until(`word of ${verb}`, async () => (await page.innerText("main")).includes(`It takes ${verb}`));
  };

  // Events alone: no question for apps is ever sent.
  const listener = await signIn(open, input, {token: input.listener, hash: ""});
  await until("the timeline", async () => (await listener.page.locator(".events .event").count()) > 0);
  check(/Timeline,Access,Docs/.test(String(await places(listener.page))), `places: ${await places(listener.page)}`);
  await live(listener.page);
  await ask("restart");
  await until("an event as it happens", async () => /restart/.test(await listener.page.innerText(".events .event:first-of-type, .events")));
  await calm(listener, "events");
  check(!listener.requests.some((url) => /\/v1\/(apps|metrics|daemon|schedules)/.test(url)), `asked for: ${listener.requests}`);
  await lacks(listener.page, "#/apps", "apps:read");
  await lacks(listener.page, "#/apps/steady/logs", "apps:read");
  await lacks(listener.page, "#/host", "machine:read");
  await calm(listener, "what events lack");

  // The machine alone.
  const keeper = await signIn(open, input, {token: input.keeper, hash: ""});
  await until("the daemon", async () => /Process trees/.test(await keeper.page.innerText("main")));
  check(/Machine,Access,Docs/.test(String(await places(keeper.page))), `places: ${await places(keeper.page)}`);
  await live(keeper.page);
  check(/It takes apps:read/.test(await keeper.page.innerText("main")), "it does not say why there are no figures");
  await calm(keeper, "machine");
  await lacks(keeper.page, "#/timeline", "events:read");
  await lacks(keeper.page, "#/apps", "apps:read");
  await calm(keeper, "what the machine lacks");

  // One app, without logs and events.
  const reader = await signIn(open, input, {token: input.reader, hash: "#/apps"});
  await reader.page.waitForSelector('[data-row="steady"]');
  check(/Apps,Machine,Access,Docs/.test(String(await places(reader.page))), `places: ${await places(reader.page)}`);
  await lacks(reader.page, "#/apps/steady/logs", "apps:logs");
  await lacks(reader.page, "#/apps/steady/events", "events:read");
  await lacks(reader.page, "#/host", "machine:read");
  await calm(reader, "one app");

  // Nothing at all but who one is.
  const nobody = await signIn(open, input, {token: input.nobody, hash: ""});
  await until("who it is", async () => /You are token:nobody/.test(await nobody.page.innerText("main")));
  await live(nobody.page);
  await calm(nobody, "nothing");

  // Rights that change are seen without signing in again.
  await keeper.page.goto(`${input.url}#/apps`);
  await ask("widen");
  await keeper.page.waitForSelector('[data-row="steady"]');
  check(/Apps,Machine,Access,Docs/.test(String(await places(keeper.page))), `places: ${await places(keeper.page)}`);
  await ask("narrow");
  await until("what it lacks now", async () => (await keeper.page.innerText("main")).includes("It takes apps:read"));
  check((await keeper.page.locator("[data-row]").count()) === 0, "apps are still shown");
  await live(keeper.page);
  check((await keeper.page.locator(".cutoff").count()) === 0, "a lost connection is told");
  return {places: await places(keeper.page)};
});
