// The same files from any static host, under a path of its own: the address of the daemon is asked for, and the daemon lets
// in the origins that its settings list, and no other.

import {PATH, host} from "./host.mjs";
import {complaints, scenario, signIn, stateOf} from "./common.mjs";

await scenario(async ({input, open, check, until}) => {
  await host(input.web, input.port);
  const stranger = await host(input.web, 0);
  const panel = `http://127.0.0.1:${input.port}${PATH}`;

  const {page, console: said, requests} = await open(panel);
  await page.fill("input[name=base]", input.url);
  await page.fill("input[name=token]", input.token);
  await page.click("button[type=submit]");
  await page.waitForSelector('[data-row="steady"]');
  await until("the live connection", async () => /live/.test(await page.innerText(".connection")));
  await page.click('[aria-label="Restart steady"]');
  await page.click("dialog button[type=submit]");
  await until("what was done", async () => /steady restarted/.test(await page.innerText(".told")));
  await page.goto(`${panel}#/apps/steady/logs`);
  await until("its lines", async () => /steady line/.test(await page.innerText(".lines")));
  await page.goto(`${panel}#/apps/steady`);
  await until("charts", async () => (await page.locator(".chart canvas").count()) > 1);
  await page.reload();
  await page.waitForSelector("[data-instance='0']");
  const elsewhere = requests.filter((url) => !url.startsWith(panel) && !url.startsWith(input.url) && !url.startsWith(new URL("v1/", panel).href));
  check(elsewhere.length === 0, `asked elsewhere: ${elsewhere}`);
  check(complaints(said).length === 0, () => complaints(said).join("\n"));

  // A place that the settings do not list.
  const other = await open(`http://127.0.0.1:${stranger.address().port}${PATH}`);
  await other.page.fill("input[name=base]", input.url);
  await other.page.fill("input[name=token]", input.token);
  await other.page.click("button[type=submit]");
  const refusal = await until("the refusal", () => other.page.innerText(".trouble"));
  check(/web\.origins/.test(refusal), refusal);

  // From the daemon itself no address is asked for.
  const own = await signIn(open, input);
  await until("a running app", async () => /running/.test(await stateOf(own.page, "steady")));
  return {refusal};
});
