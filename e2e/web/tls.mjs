// The same over TLS: many windows share one connection of HTTP/2, so that streams do not take each other's place.
// (That a browser trusts the daemon's own authority is between it and its owner: here it is told not to ask.)

import {complaints, scenario, signIn} from "./common.mjs";

await scenario(async ({input, open, check, until}) => {
  const first = await open(undefined, {ignoreHTTPSErrors: true});
  await until("an answer over TLS", () => first.page.goto(input.url).then(() => true));
  const {page, context, console: said} = await signIn(open, input, {hash: "#/apps/counter/logs", ignoreHTTPSErrors: true});
  // Eight windows of one browser follow logs: with one connection for each stream, the fourth would stand still.
  const kept = await page.evaluate(() => sessionStorage.getItem("upkeep.session"));
  const pages = [page];
  await context.addInitScript((kept) => sessionStorage.setItem("upkeep.session", kept), kept);
  for (let count = 1; count < 8; count += 1) {
    const next = await context.newPage();
    await next.goto(`${input.url}#/apps/counter/logs`);
    pages.push(next);
  }
  const last = (one) => one.evaluate(() => Number(/count (\d+)/.exec([...document.querySelectorAll(".lines .text")].at(-1)?.textContent)?.[1]));
  for (const one of pages) await until("lines in every window", async () => (await last(one)) > 0);
  const before = await Promise.all(pages.map(last));
  for (const [at, one] of pages.entries()) await until("lines to go on in every window", async () => (await last(one)) > before[at] + 5);
  for (const one of pages) check(/live/.test(await one.innerText(".connection")), "a window is not live");
  const protocols = await page.evaluate(() => [...new Set(performance.getEntriesByType("resource").map((entry) => entry.nextHopProtocol))]);
  check(protocols.includes("h2"), `spoken: ${protocols}`);
  check(complaints(said).length === 0, () => complaints(said).join("\n"));
  return {protocols};
});
