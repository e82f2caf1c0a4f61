// A viewer sees all and can do nothing; the server refuses whoever tries all the same.

import {scenario, signIn} from "./common.mjs";

await scenario(async ({input, open, check, until}) => {
  const {page} = await signIn(open, input, {token: input.viewer});
  await page.waitForSelector('[data-row="steady"]');
  check(/read-only/.test(await page.innerText("header.top")), "it does not say that nothing can be done");
  check((await page.locator(".windowed button:not(.fold)").count()) === 0, "there are buttons in the list");
  await page.keyboard.press("j");
  await page.keyboard.press("r");
  check((await page.locator("dialog").count()) === 0, "a key opens a dialog");
  const spoken = await until("why not", async () => {
    const text = await page.innerText("p.hidden[role=status]");
    return /apps:operate/.test(text) && text;
  });
  await page.goto(`${input.url}#/apps/steady`);
  await page.waitForSelector("[data-instance='0']");
  check((await page.locator(".one > header button").count()) === 0, "there are buttons on the app's page");
  check(/may not do this/.test(await page.innerText(".one > header")), "it does not say why");
  await page.goto(`${input.url}#/access`);
  await until("who it is", async () => /You are token:watch/.test(await page.innerText("main")));
  check((await page.locator("text=New token").count()) === 0, "a new token is offered");

  // Forced: as a script in the page would.
  const answer = await page.evaluate(async (token) => {
    const response = await fetch("v1/apps/steady/restart", {method: "POST", headers: {authorization: `Bearer ${token}`}});
    return {status: response.status, body: await response.json()};
  }, input.viewer);
  check(answer.status === 403, JSON.stringify(answer));
  check(answer.body.code === "forbidden" && answer.body.message && !/stack|panic/.test(answer.body.message), JSON.stringify(answer));

  // The timeline and the logs can be read.
  await page.goto(`${input.url}#/timeline`);
  await until("events", async () => (await page.locator(".events .event").count()) > 0);

  // An operator of one app sees buttons of that app only.
  const other = await signIn(open, input, {token: input.narrow});
  await other.page.waitForSelector('[data-row="steady"] .c-actions button');
  const rows = await other.page.locator("[data-row]").evaluateAll((rows) => rows.map((row) => row.dataset.row));
  check(rows.length === 1 && rows[0] === "steady", `a token for one app sees ${rows}`);
  return {spoken, refusal: answer.body.message};
});
