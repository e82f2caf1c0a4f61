// Our own reference: every page opens, nothing is wider than it should be, no serious fault of accessibility, a call is found.

import {scenario} from "../../../../testkit/browser/harness.mjs";

await scenario(async ({input, open, check, until, faults, picture}) => {
  const {page, requests, console: said} = await open(`${input.url}`);
  const pages = await page.locator("details.page").count();
  check(pages > 20, `${pages} pages`);
  await picture(page, "docs");
  await page.fill("#--search", "restart an app");
  await until("results", async () => (await page.locator("#--results li").count()) > 0);
  await picture(page, "docs-search");
  const first = await page.locator("#--results a").first().getAttribute("href");
  await page.locator("#--results a").first().click();
  await until("the article", () => page.locator(`details[open] > ${first}`).count());
  await page.fill("#--search", "");
  await page.locator(first).scrollIntoViewIfNeeded();
  await picture(page, "docs-page");
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({colorScheme});
    await page.click("#--open");
    const before = said.length;
    const found = await faults(page);
    // The judge tries an inline script, and the browser says so.
    said.length = before;
    check(found.length === 0, () => JSON.stringify(found, null, 1));
  }
  const dead = await page.$$eval("a[href^='#']", (list) =>
    list.map((one) => one.getAttribute("href").slice(1)).filter((id) => !document.getElementById(decodeURIComponent(id))));
  check(dead.length === 0, `dead: ${dead}`);
  await page.setViewportSize({width: 360, height: 700});
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  check(width <= 360, `${width} wide on a phone`);
  check(requests.every((url) => url.startsWith("file://")), `asked for ${requests}`);
  check(said.length === 0, `said: ${said}`);
  return {done: true};
});
