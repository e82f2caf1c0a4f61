// The daemon is killed and comes back: the client says so, and goes on where it was.

import {scenario, signIn} from "./common.mjs";

await scenario(async ({input, open, ask, check, until}) => {
  const {page} = await signIn(open, input, {hash: "#/apps/counter/logs"});
  await until("lines", async () => (await page.locator(".lines .log").count()) > 3);
  await page.evaluate(() => (window.mark = "same page"));
  // Every state that the page has shown.
  const seen = [];
  await page.exposeFunction("noted", (text) => seen.at(-1) !== text && seen.push(text));
  await page.evaluate(() => {
    const look = () =>
      window.noted(`${document.querySelector(".connection")?.innerText.trim()} ${document.querySelector(".cutoff")?.innerText.slice(0, 40) ?? ""}`);
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
    look();
  });
  await ask("kill_daemon");
  await until("word of the lost connection", () => seen.some((text) => /offline Connection lost, trying again/.test(text.replace(/\s+/g, " "))));
  await until("the connection to be back", () => /^. ?live/.test(seen.at(-1)?.replace(/\s+/g, " ") ?? ""));
  // Lines go on: none missing, none twice.
  const numbers = () =>
    page.evaluate(() => [...document.querySelectorAll(".lines .text")].map((line) => Number(/count (\d+)/.exec(line.textContent)?.[1])).filter(Number.isInteger));
  const before = (await numbers()).at(-1);
  await until("lines of after", async () => (await numbers()).at(-1) > before + 20);
  const all = await numbers();
  check(all.every((number, index) => index === 0 || number === all[index - 1] + 1), () => `lines are missing or twice: ${all}`);
  check((await page.evaluate(() => window.mark)) === "same page", "the page was loaded anew");

  // Events too: what happens now comes without being asked for.
  await page.goto(`${input.url}#/timeline`);
  await ask("restart");
  await until("the event of after", async () => /restart/.test(await page.innerText(".events")));

  // A token that is revoked meanwhile ends the session, with a word.
  await ask("revoke");
  await until("to be asked for a token", async () => (await page.locator("input[name=token]").count()) === 1);
  const told = await page.innerText(".trouble");
  check(/token/.test(told), told);
  return {seen: seen.slice(0, 20), told, lines: all.length};
});
