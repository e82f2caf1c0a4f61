// Without a mouse: Tab, Enter and the keys that `?` lists; to the restart of an app and back.

import {scenario} from "./common.mjs";

await scenario(async ({input, open, check, until}) => {
  const {page} = await open(input.url);
  const focused = () =>
    page.evaluate(() => {
      const on = document.activeElement;
      const style = getComputedStyle(on);
      return {
        tag: on.tagName.toLowerCase(),
        text: (on.getAttribute("aria-label") ?? on.innerText ?? "").trim(),
        name: on.getAttribute("name"),
        id: on.id,
        outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
      };
    });
  // Signing in: the field has the focus.
  await until("the field to have the focus", async () => (await focused()).name === "token");
  await page.keyboard.type(input.token);
  await page.keyboard.press("Enter");
  await page.waitForSelector('[data-row="steady"]');

  // The first stop is the way past the header; every stop can be seen.
  await page.evaluate(() => document.activeElement.blur());
  const stops = [];
  for (let stop = 0; stop < 16; stop += 1) {
    await page.keyboard.press("Tab");
    const on = await focused();
    stops.push(on.text || on.name);
    check(on.outline, `the focus cannot be seen on ${JSON.stringify(on)}`);
  }
  check(stops[0] === "To the content", `first stop: ${stops[0]}`);
  for (const wanted of ["Apps", "Timeline", "Machine", "Sign out"]) check(stops.includes(wanted), `no stop at ${wanted}: ${stops}`);
  await page.focus(".skip");
  await page.keyboard.press("Enter");
  check((await focused()).id === "main", "the way to the content leads elsewhere");

  // `?` lists the keys; Esc closes.
  await page.keyboard.press("?");
  check(/restart, reload/.test(await page.innerText("dialog")), "the keys are not listed");
  await page.keyboard.press("Escape");
  await until("the list of keys to be closed", async () => (await page.locator("dialog").count()) === 0);

  // `/` goes to the filter, Esc out of it; j goes down the list.
  await page.keyboard.press("/");
  check((await focused()).name === "filter", "`/` leads elsewhere");
  await page.keyboard.type("steady");
  await until("one row", async () => (await page.locator("[data-row]").count()) === 1);
  await page.keyboard.press("Escape");
  await page.keyboard.press("j");
  await until("the row to have the focus", async () => (await focused()).text === "steady");

  // Enter opens it; Esc leads back; r asks; Enter confirms.
  await page.keyboard.press("Enter");
  await page.waitForSelector("[data-instance='0']");
  const before = await page.innerText("[data-instance='0'] td:nth-of-type(2)");
  await page.keyboard.press("Escape");
  await until("to be back on the row", async () => (await focused()).text === "steady");
  check((await page.inputValue("input[name=filter]")) === "steady", "the filter is forgotten");
  await page.keyboard.press("r");
  await page.waitForSelector("dialog[open]");
  check((await focused()).text === "Restart", `the dialog begins at ${(await focused()).text}`);
  // The focus stays inside.
  for (let stop = 0; stop < 8; stop += 1) {
    await page.keyboard.press("Tab");
    check(await page.evaluate(() => document.activeElement === document.body || document.querySelector("dialog").contains(document.activeElement)), "Tab leaves the dialog");
  }
  await page.keyboard.press("Escape");
  await until("the dialog to be closed", async () => (await page.locator("dialog").count()) === 0);
  await page.keyboard.press("r");
  await page.waitForSelector("dialog[open]");
  await page.keyboard.press("Enter");
  await until("what was done", async () => /steady restarted/.test(await page.innerText(".told")));
  check((await focused()).text === "steady", `afterwards the focus is on ${JSON.stringify(await focused())}`);
  await page.keyboard.press("Enter");
  await until("another process", async () => {
    const now = await page.innerText("[data-instance='0'] td:nth-of-type(2)").catch(() => "");
    return /^\d+$/.test(now) && now !== before;
  });
  // Numbers lead to the views.
  for (const [key, heading] of [["2", "Timeline"], ["3", "Machine"], ["4", "Access"], ["1", "Apps"]]) {
    await page.keyboard.press(key);
    await until(heading, async () => (await page.innerText("h1")) === heading);
  }
  return {stops};
});
