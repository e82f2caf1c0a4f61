// Pages that are called as parts of the page are: each is opened by its name, found by a word, and the parts work.

import {scenario} from "../../../../testkit/browser/harness.mjs";

await scenario(async ({input, open, check, until, faults}) => {
  const {page, console: said} = await open(input.url);
  const twice = await page.$$eval("[id]", (list) => {
    const ids = list.map((one) => one.id);
    return ids.filter((id, at) => ids.indexOf(id) !== at);
  });
  check(twice.length === 0, `ids that are there twice: ${twice}`);
  for (const name of input.names) {
    await page.click("#--close");
    await page.fill("#--search", `w${name}`);
    await until(`a result for ${name}`, async () => (await page.locator("#--results li").count()) === 1);
    await page.click("#--results a");
    await until(`the page ${name}`, () => page.locator(`details[open] > .body[id='${name}']`).count());
    check((await page.locator("details[open]").count()) === 1, `${name} opens another page`);
  }
  await page.fill("#--search", "");
  await page.fill("#--filter", "on menu");
  await until("the filter", async () => (await page.locator("#--nav li:visible").count()) === 1);
  await page.fill("#--filter", "");
  await page.keyboard.press("Home");
  await page.evaluate(() => document.querySelector(".skip").click());
  check(page.url().endsWith("#--content"), page.url());
  const before = said.length;
  const found = await faults(page);
  check(found.length === 0, JSON.stringify(found));
  check(before === 0, `the console says ${said.slice(0, before)}`);
  return {done: true};
});
