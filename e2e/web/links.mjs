// Deep links: to an app, a tab, a span of time; from another path; and a way back.

import {scenario, signIn} from "./common.mjs";

await scenario(async ({input, open, check, until}) => {
  const {page, requests} = await signIn(open, input, {hash: "#/apps/steady/figures?span=24h"});
  await page.waitForSelector("[data-instance='0']");
  check((await page.getAttribute("button:has-text('24 h')", "aria-pressed")) === "true", "24 h is not chosen");
  await until("a question for a day", () => requests.some((url) => /\/v1\/metrics\?apps=steady&since=-86400&/.test(url)));

  // A span in the past, as somebody else was given it.
  // A span ends with a whole second: one that has all that was written by now.
  const until_ = Math.ceil(Date.now() / 1000);
  await until("the end of the span", () => Date.now() > until_ * 1000);
  const since = until_ - 120;
  await page.goto(`${input.url}#/apps/steady/figures?since=${since}&until=${until_}`);
  await until("a question for that span", () => requests.some((url) => url.includes(`since=${since}&until=${until_}`)));
  await page.click("text=Logs of this span");
  await until("the lines of that span", async () => /steady line/.test(await page.innerText(".lines")));
  check(requests.some((url) => url.includes("/v1/logs") && url.includes(`until=${until_}`) && !url.includes("follow")), "logs are not asked for that span");

  // A span that is drawn with the mouse is in the address.
  await page.goto(`${input.url}#/apps/steady`);
  await until("charts", async () => (await page.locator(".chart canvas").count()) > 1);
  const chart = page.locator(".chart .u-over").first();
  await chart.waitFor();
  const box = await chart.boundingBox();
  await page.mouse.move(box.x + box.width * 0.5, box.y + 40);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.8, box.y + 60, {steps: 5});
  await page.mouse.up();
  await until("the drawn span in the address", () => /since=\d+&until=\d+/.test(page.url()));

  // A place without a view, and an app that is not there, are told.
  await page.goto(`${input.url}#/nonsense`);
  await until("that there is no such view", async () => /no view/.test(await page.innerText("main")));
  await page.goto(`${input.url}#/apps/nobody`);
  await until("that there is no such app", async () => /no app/.test(await page.innerText("main")));
  await page.goBack();
  await until("the step before", async () => /no view/.test(await page.innerText("main")));

  // Filter and sort of the list are in its address.
  await page.goto(`${input.url}#/apps?filter=stead&sort=memory`);
  await page.waitForSelector('[data-row="steady"]');
  check((await page.inputValue("input[name=filter]")) === "stead", "the filter is not that of the link");
  check((await page.inputValue("select[name=sort]")) === "memory", "the order is not that of the link");
  check((await page.locator("[data-row]").count()) === 1, "the filter does not filter");
  return {};
});
