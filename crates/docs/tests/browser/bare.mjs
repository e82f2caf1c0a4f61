// Without JavaScript: everything is there, articles open, places work, and no control lies about what it can do.

import {scenario} from "../../../../testkit/browser/harness.mjs";

await scenario(async ({input, open, check, until}) => {
  const {page} = await open(`${input.url}`, {javaScriptEnabled: false});
  check((await page.locator("nav li").count()) === 6, "no navigation");
  for (const control of ["#--filter", "#--search", "#--open", "#--theme", ".copy", ".fold", "[role=tab]"]) {
    check((await page.locator(`${control}:visible`).count()) === 0, `${control} is shown and does nothing`);
  }
  await page.click("[data-anchor=create-parcel] > summary");
  const text = await page.locator("[data-anchor=create-parcel]").innerText();
  for (const wanted of ["Sends a parcel on its way.", "curl -X POST", "await fetch", "urllib.request", "Status: 201 Created"]) {
    check(text.includes(wanted), `no "${wanted}" in ${text}`);
  }
  // The browser itself opens what an address names.
  await page.click("[data-anchor=create-parcel] a[href='#response-status-codes']");
  await until("the other article", () => page.locator("[data-anchor=response-status-codes][open]").count());
  return {done: true};
});
