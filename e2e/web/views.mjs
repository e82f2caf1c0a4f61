// Every view in one look (light, dark, on a phone): axe-core finds nothing serious, nothing is wider than the screen, the
// console is silent. With `input.pictures` they are drawn for the guide.

import {complaints, scenario, signIn} from "./common.mjs";

const LOOKS = {
  light: {colorScheme: "light"},
  dark: {colorScheme: "dark"},
  phone: {viewport: {width: 390, height: 844}, hasTouch: true, isMobile: true},
};

/** What is drawn for the guide: every view in light, some in the other looks. */
const DRAWN = {dark: ["apps", "figures", "logs"], phone: ["apps", "figures", "logs", "timeline"]};

await scenario(async ({input, open, check, until, faults, picture}) => {
  const found = [];
  let judged = 0;
  const {look} = input;
  const {page, console: said} = await open(input.url, LOOKS[look]);
  const judge = async (name) => {
    for (const fault of await faults(page)) found.push({look, name, ...fault});
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (wide > 0) found.push({look, name, wide});
    judged += 1;
    if (look === "light" || DRAWN[look].includes(name)) await picture(page, `web-${name}-${look}`);
  };
  await page.waitForSelector("input[name=token]");
  await judge("signin");
  await page.fill("input[name=token]", input.token);
  await page.click("button[type=submit]");
  await page.waitForSelector('[data-row="shop"]');
  await page.click('[aria-label="Instances of shop"]');
  await page.waitForSelector('[data-row="shop:1"]');
  // Sparklines have a past.
  if (look !== "phone") {
    const points = () => page.locator('[data-row="shop"] .spark polyline').evaluateAll((lines) => lines.map((line) => line.points.numberOfItems));
    await until("sparklines", async () => {
      const seen = await points();
      return seen.length === 2 && seen.every((count) => count > (input.pictures ? 6 : 2));
    });
  }
  await judge("apps");

  await page.goto(`${input.url}#/apps/shop/figures`);
  await until("charts", async () => (await page.locator(".chart canvas").count()) > 2);
  await judge("figures");
  await page.goto(`${input.url}#/apps/shop/logs`);
  await until("lines", async () => (await page.locator(".lines .log").count()) > 5);
  await judge("logs");
  await page.goto(`${input.url}#/apps/crasher/crashes`);
  await page.click(".crashes table a");
  await page.waitForSelector(".dossier");
  await judge("crash");
  await page.goto(`${input.url}#/apps/shop/config`);
  await page.waitForSelector(".config pre");
  await judge("config");
  await page.goto(`${input.url}#/apps/shop/events`);
  await until("events of it", async () => (await page.locator(".events .event").count()) > 0);
  await judge("events");
  await page.goto(`${input.url}#/timeline`);
  await until("events", async () => (await page.locator(".events .event").count()) > 0);
  await judge("timeline");
  await page.goto(`${input.url}#/host`);
  await until("charts of the machine", async () => (await page.locator(".chart canvas").count()) > 2);
  await judge("host");
  await page.goto(`${input.url}#/access`);
  await until("roles", async () => /operator/.test(await page.innerText("main")));
  await judge("access");
  await page.click("text=New token");
  await page.waitForSelector("dialog[open]");
  await judge("token");
  await page.click("dialog >> text=Cancel");
  await page.click("text=New role");
  await page.waitForSelector("dialog[open]");
  await page.check("dialog input[name='apps:read']");
  await judge("role");
  await page.click("dialog >> text=Cancel");
  await page.goto(`${input.url}#/apps/shop`);
  await page.click(".one > header >> text=Restart");
  await page.waitForSelector("dialog[open]");
  await page.fill("dialog input[name=reason]", "new certificate");
  await judge("restart");
  await page.click("dialog >> text=Cancel");
  await page.keyboard.press("?");
  await page.waitForSelector("dialog[open]");
  await judge("keys");
  await page.keyboard.press("Escape");

  // The switch overrides the system, and stays.
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const before = await ground();
  await page.keyboard.press("t");
  await page.keyboard.press("t");
  const dark = await ground();
  await page.reload();
  await page.waitForSelector("header.top");
  check((await ground()) === dark, "the choice of colours is forgotten");
  check((look === "dark") === (dark === before), `${look}: ${before}, and chosen dark ${dark}`);
  check(complaints(said).length === 0, () => `${look}: ${complaints(said).join("\n")}`);
  check(found.length === 0, () => JSON.stringify(found, null, 1));
  return {judged};
});
