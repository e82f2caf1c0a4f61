// Doing something: the dialog says what, and which line of a shell does it too; then what came of it, and the event.

import {complaints, pidOf, scenario, signIn} from "./common.mjs";

await scenario(async ({input, open, check, until}) => {
  const {page, console: said} = await signIn(open, input, {hash: "#/apps/steady"});
  const before = await until("its process", () => pidOf(page));

  // Nothing happens before it is confirmed.
  await page.click("header.tools >> text=Restart");
  await page.fill("dialog input[name=reason]", "it's stuck");
  check(
    (await page.innerText("dialog .cli")) === "upkeep restart steady --reason 'it'\\''s stuck'",
    await page.innerText("dialog .cli"),
  );
  await page.click("dialog >> text=What would happen?");
  await until("the plan", async () => /steady would be restarted/.test((await page.innerText("dialog")).replaceAll("\n", " ")));
  await page.click("dialog >> text=Cancel");
  check((await pidOf(page)) === before, "it was restarted without being confirmed");

  await page.click("header.tools >> text=Restart");
  await page.fill("dialog input[name=reason]", "it's stuck");
  await page.click("dialog button[type=submit]");
  await until("what was done", async () => /steady restarted/.test(await page.innerText(".told")));
  const after = await until("another process", async () => {
    const pid = await pidOf(page);
    return pid && pid !== before && pid;
  });

  // The event, with who and why.
  await page.click("header.top >> text=Timeline");
  const event = await until("the event", async () => {
    const found = page.locator(".events li.event", {hasText: "it's stuck"});
    return (await found.count()) === 1 && (await found.innerText()).replace(/\s+/g, " ");
  });
  check(/restart steady/.test(event) && event.includes(input.who), event);

  // Filters of the timeline are in its address.
  await page.fill(".timeline input[name=app]", "nobody");
  await page.press(".timeline input[name=app]", "Enter");
  await until("no event of nobody", async () => /Nothing of this kind/.test(await page.innerText(".timeline")));
  check(page.url().includes("app=nobody"), page.url());

  // Scaling, up and down, and a refusal in the server's words.
  await page.goto(`${input.url}#/apps/steady`);
  await page.click("header.tools >> text=Scale");
  await page.fill("dialog input[name=instances]", "+2");
  check((await page.innerText("dialog .cli")) === "upkeep scale steady +2", await page.innerText("dialog .cli"));
  await page.click("dialog button[type=submit]");
  await until("three instances", async () => (await page.locator("[data-instance]").count()) === 3);
  await until("the dialog to be gone", async () => (await page.locator("dialog").count()) === 0);

  // One instance by itself.
  const second = () => page.innerText("[data-instance='1'] td:nth-of-type(2)");
  const pid = await second();
  await page.click("[aria-label='Restart steady:1']");
  check((await page.innerText("dialog .cli")) === "upkeep restart steady:1", await page.innerText("dialog .cli"));
  await page.click("dialog button[type=submit]");
  await until("another process of the second", async () => {
    const now = await second();
    return /^\d+$/.test(now) && now !== pid;
  });
  await until("the dialog to be gone", async () => (await page.locator("dialog").count()) === 0);

  await page.click("header.tools >> text=Scale");
  await page.fill("dialog input[name=instances]", "-9");
  await page.click("dialog button[type=submit]");
  const refusal = await until("the refusal", () => page.innerText("dialog .trouble"));
  await page.click("dialog >> text=Cancel");

  // A replacement that does not hold: what runs keeps running, and it is told.
  await page.goto(`${input.url}#/apps/fragile`);
  await page.click("header.tools >> text=Reload");
  await page.click("dialog button[type=submit]");
  const failure = await until("why the reload did not hold", async () => (await page.locator("dialog .trouble").count()) && page.innerText("dialog .trouble"), 40_000);
  check(/runs again|nothing was touched/.test(failure), failure);
  await page.click("dialog >> text=Close");
  await until("it to run as before", async () => /running/.test(await page.innerText("[data-instance='0']")));

  // Stopping, and starting again.
  await page.goto(`${input.url}#/apps/steady`);
  await page.click("header.tools >> text=Stop");
  await page.click("dialog button[type=submit]");
  await until("it to be stopped", async () => /stopped/.test(await page.innerText("[data-instance='0']")));
  await page.click("header.tools >> text=Start");
  await page.click("dialog button[type=submit]");
  await until("it to run", async () => /running/.test(await page.innerText("[data-instance='0']")));
  check(complaints(said).length === 0, () => complaints(said).join("\n"));
  return {before, after, event, refusal, failure};
});
