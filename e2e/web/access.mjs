// Tokens: made, shown once, used, revoked.

import {scenario, signIn} from "./common.mjs";

await scenario(async ({input, open, ask, check, until}) => {
  const {page} = await signIn(open, input, {hash: "#/access"});
  await page.click("text=New token");
  await page.fill("dialog input[name=name]", "phone");
  await page.selectOption("dialog select[name=role]", "operator");
  await page.fill("dialog input[name=apps]", "steady");
  const cli = await page.innerText("dialog .cli");
  await page.click("dialog button[type=submit]");
  const secret = await until("the token", () => page.inputValue(".secret"));
  check(/^upk_/.test(secret), secret);
  await page.waitForSelector('[data-token="phone"]');
  await page.click("text=I have kept it");
  check(!(await page.content()).includes(secret), "the token is still in the page");
  await page.reload();
  await page.waitForSelector('[data-token="phone"]');
  check(!(await page.content()).includes(secret), "the token is shown again");

  // The line of a shell that was shown does the same.
  check(cli === "upkeep token create phone --role operator --expires 30d --app steady", cli);
  await ask("run", cli.replace("phone", "tablet"));
  await page.reload();
  const row = (name) => page.innerText(`[data-token="${name}"]`);
  await page.waitForSelector('[data-token="tablet"]');
  check(/operator\s+apps steady/.test(await row("tablet")) && /operator\s+apps steady/.test(await row("phone")), await row("tablet"));

  // It is good for what it says.
  const other = await signIn(open, input, {token: secret});
  await other.page.waitForSelector('[data-row="steady"] .c-actions button');
  check((await other.page.innerText("header.top")).includes("token:phone"), "it has another name");

  // A name that is taken is refused in the dialog.
  await page.click("text=New token");
  await page.fill("dialog input[name=name]", "phone");
  await page.click("dialog button[type=submit]");
  const refusal = await until("the refusal", () => page.innerText("dialog .trouble"));
  await page.click("dialog >> text=Cancel");

  await page.click('[aria-label="Revoke phone"]');
  await page.click("dialog button[type=submit]");
  await until("the token to be gone", async () => (await page.locator('[data-token="phone"]').count()) === 0);
  await until("its session to end", async () => (await other.page.locator("input[name=token]").count()) === 1);
  return {cli, refusal};
});
