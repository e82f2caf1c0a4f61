// What belongs to an old session writes nothing any more: neither its wait for a daemon that is away, nor a refusal that
// comes late. The files come from a host of their own, so that they are there while the daemon is not.

import {host} from "./host.mjs";
import {complaints, scenario} from "./common.mjs";

await scenario(async ({input, open, ask, check, until}) => {
  await host(input.web, input.port);
  const panel = `http://127.0.0.1:${input.port}/panel/client/`;
  const who = (page) => page.innerText("header.top .who");
  const signIn = async (page, token) => {
    await page.fill("input[name=base]", input.url);
    await page.fill("input[name=token]", token);
    await page.click("button[type=submit]");
    await page.waitForSelector("header.top");
  };

  // A kept session, and a daemon that is away: it is waited for.
  await ask("shut_down");
  const {page, console: said} = await open();
  const asked = [];
  page.on("request", (request) => asked.push(request.headers().authorization ?? ""));
  // For the first page only: the tab's storage stays.
  await page.goto(panel);
  await page.evaluate(
    ([base, token]) => sessionStorage.setItem("upkeep.session", JSON.stringify({base, token})),
    [input.url, input.old],
  );
  await page.reload();
  await until("word that the daemon is away", async () => /trying again/.test(await page.innerText("main")));
  await page.click("text=Sign out");
  await page.waitForSelector("input[name=token]");
  await ask("come_back");
  await signIn(page, input.token);
  check(/token:boss/.test(await who(page)), await who(page));
  // The wait of before ends now, if it is still there.
  asked.length = 0;
  await page.evaluate(() => dispatchEvent(new Event("online")));
  await until("some questions of the new session", async () => asked.filter((header) => header.includes(input.token)).length > 0 || page.goto(`${panel}#/access`));
  await page.waitForTimeout(2500);
  check(/token:boss/.test(await who(page)), `the old session came back: ${await who(page)}`);
  check(!asked.some((header) => header.includes(input.old)), "the old token is still sent");
  check((await page.evaluate(() => sessionStorage.getItem("upkeep.session"))).includes(input.token), "another token is kept");

  // Signing out while the daemon is away stays so, too.
  await ask("shut_down");
  await page.reload();
  await until("word that the daemon is away again", async () => /trying again/.test(await page.innerText("main")));
  await page.click("text=Sign out");
  await page.waitForSelector("input[name=token]");
  await ask("come_back");
  await page.evaluate(() => dispatchEvent(new Event("online")));
  await page.waitForTimeout(1500);
  check((await page.locator("input[name=token]").count()) === 1, "signing out was undone");

  // A refusal of the old session that comes when there is a new one.
  await page.goto(`${panel}#/apps`);
  await signIn(page, input.old);
  check(/token:old/.test(await who(page)), await who(page));
  let release;
  let held = 0;
  const gate = new Promise((done) => (release = done));
  await page.route("**/v1/tokens", async (route) => {
    if (!route.request().headers().authorization?.includes(input.old)) return route.continue();
    held += 1;
    await gate;
    return route.continue().catch(() => {});
  });
  await page.goto(`${panel}#/access`);
  await until("a question that waits", () => held > 0);
  await page.click("header >> text=Sign out");
  await page.waitForSelector("input[name=token]");
  await ask("revoke_old");
  await signIn(page, input.token);
  release();
  await page.waitForTimeout(1000);
  check(/token:boss/.test(await who(page)), "a late refusal has ended the new session");
  check(complaints(said).length === 0, () => complaints(said).join("\n"));
  return {asked: asked.length};
});
