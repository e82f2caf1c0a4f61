// The list is followed, not asked for: one stream of apps, one of figures, and no question again and again.

import {complaints, scenario, signIn} from "./common.mjs";

await scenario(async ({input, open, ask, check, until}) => {
  const {page, context, console: said, requests} = await signIn(open, input);
  await page.waitForSelector('[data-row="worker"]');
  const number = async (one, app, column) => Number.parseFloat(await one.innerText(`[data-row="${app}"] .c-${column} .number`));
  await until("its processor", async () => (await number(page, "worker", "cpu")) > 1);
  await until("its memory", async () => (await number(page, "worker", "memory")) > 0);
  const asked = (pattern) => requests.filter((url) => pattern.test(url)).length;
  check(asked(/\/v1\/apps\?follow=true/) === 1, () => `streams of apps: ${requests}`);
  await until("the stream of figures", () => asked(/\/v1\/metrics\?.*follow=true/) === 1);

  await until("the past of the sparklines", () => asked(/\/v1\/metrics\?.*since=-300/) === 1);

  // Times and figures go on, and nothing is asked for meanwhile.
  requests.length = 0;
  const up = () => page.innerText('[data-row="worker"] .c-up');
  const seen = new Set();
  await until("times that go on", async () => seen.add(await up()).size > 4);
  const figures = new Set();
  await until("figures that go on", async () => figures.add(await page.innerText('[data-row="worker"] .c-cpu .number')).size > 2);
  check(requests.length === 0, () => `asked meanwhile: ${requests}`);

  // What is made, scaled and deleted elsewhere comes by itself.
  await ask("more");
  await until("the new app", async () => (await page.locator('[data-row="fresh"]').count()) === 1);
  await until("more instances", async () => /3\/3/.test(await page.innerText('[data-row="worker"] .c-state')));
  await ask("less");
  await until("the app to be gone", async () => (await page.locator('[data-row="fresh"]').count()) === 0);
  check(requests.filter((url) => /\/v1\/apps/.test(url)).length === 0, () => `asked meanwhile: ${requests}`);

  // A second window has the list by its own stream; over plain HTTP it asks for figures, as the first follows them.
  const kept = await page.evaluate(() => sessionStorage.getItem("upkeep.session"));
  const other = await context.newPage();
  const also = [];
  other.on("request", (request) => also.push(request.url()));
  await other.addInitScript((kept) => sessionStorage.setItem("upkeep.session", kept), kept);
  await other.goto(input.url);
  await other.waitForSelector('[data-row="worker"]');
  await until("figures there", async () => (await number(other, "worker", "cpu")) > 1);
  await until("a question for figures", () => also.some((url) => /\/v1\/metrics\?.*since=-3/.test(url)));
  check(!also.some((url) => /\/v1\/metrics\?.*follow=true/.test(url)), () => `two windows follow figures: ${also}`);
  await other.close();

  // Charts: what was, then what is measured; after the first question there is a stream.
  requests.length = 0;
  await page.goto(`${input.url}#/apps/worker/figures`);
  await until("charts", async () => (await page.locator(".chart canvas").count()) > 2);
  const text = () => page.locator(".chart").first().innerText();
  const first = await text();
  await until("a chart that goes on", async () => (await text()) !== first);
  await page.waitForTimeout(6000);
  const whole = requests.filter((url) => /\/v1\/metrics\?/.test(url) && !url.includes("follow=true") && url.includes("points=240"));
  check(whole.length === 1, () => `figures are asked for again and again: ${requests}`);
  check(complaints(said).length === 0, () => complaints(said).join("\n"));
  return {seen: [...seen], figures: [...figures]};
});
