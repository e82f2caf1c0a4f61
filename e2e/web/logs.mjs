// Logs: what was there, what comes, a search that the server does, a pause that holds back.

import {complaints, scenario, signIn} from "./common.mjs";

await scenario(async ({input, open, ask, check, until}) => {
  const {page, console: said} = await signIn(open, input, {hash: "#/apps/talker/logs"});
  const text = () => page.innerText(".lines");
  await until("lines of before", async () => /filler 599\b/.test(await text()));
  await ask("say", "first wave");
  await until("a line that came", async () => /first wave/.test(await text()));
  check(!(await text()).includes("\u001b"), "escape sequences are shown");
  check((await page.locator(".lines .ansi-1").count()) > 0, "red is not red");

  // A pause: what comes waits and is counted.
  await page.click("button:has-text('Pause')");
  await ask("say", "while paused");
  await until("the count of what waits", async () => /Paused: \d+ new line/.test(await page.innerText(".logs .status")));
  check(!/while paused/.test(await text()), "the pause does not pause");
  await page.click("button:has-text('Go on')");
  await until("what has waited", async () => /while paused/.test(await text()));

  // A search is asked of the server: it finds what is older than what is shown.
  await page.fill("input[name=find]", "needle-[0-9]+");
  await until("the needle only", async () => {
    const shown = await text();
    return /needle-42/.test(shown) && !/first wave/.test(shown);
  });
  check((await page.innerText(".lines mark")) === "needle-42", "what was searched for is not marked");
  check(page.url().includes("find=needle"), `the search is not in the address: ${page.url()}`);
  await ask("say", "needle-77");
  await until("a needle that came", async () => /needle-77/.test(await text()));
  await page.fill("input[name=find]", "(");
  const refusal = await until("the refusal of a bad pattern", () => page.innerText(".logs .trouble"));
  check(/pattern/.test(refusal), refusal);
  await page.fill("input[name=find]", "");
  await until("all lines again", async () => /first wave/.test(await text()));

  // Only what went to standard error.
  await page.selectOption("select[name=stream]", "err");
  await until("standard error only", async () => {
    const shown = await text();
    return /to stderr/.test(shown) && !/first wave/.test(shown);
  });
  await page.selectOption("select[name=stream]", "");
  await until("both again, followed", async () => /first wave/.test(await text()) && /following/.test(await page.innerText(".logs .status")));

  // Many lines at once: all are there, in order, and only so many are kept.
  await ask("flood", 7000);
  await until("the last of many", async () => /flood 6999\b/.test(await page.innerText(".lines .block:last-of-type")));
  const numbers = await page.evaluate(() =>
    [...document.querySelectorAll(".lines .text")].map((line) => /flood (\d+)/.exec(line.textContent)?.[1]).filter(Boolean).map(Number),
  );
  check(numbers.length >= 4800 && numbers.length <= 5100, `${numbers.length} lines are kept`);
  check(numbers.every((number, index) => index === 0 || number === numbers[index - 1] + 1), "lines are missing or twice");
  check(complaints(said).length === 0, () => complaints(said).join("\n"));
  return {kept: numbers.length};
});
