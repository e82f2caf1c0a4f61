// What scenarios of the web client share.

export {scenario} from "../../testkit/browser/harness.mjs";

/** Opens the client and signs in with a token. */
export async function signIn(open, input, {token = input.token, hash = "#/apps", ...options} = {}) {
  const opened = await open(input.url + hash, options);
  await opened.page.fill("input[name=token]", token);
  await opened.page.click("button[type=submit]");
  await opened.page.waitForSelector("header.top");
  return opened;
}

/** What the list says of the state of an app. */
export const stateOf = (page, app) => page.innerText(`[data-row="${app}"] .c-state`);

/** The process of the only instance of an app, as its page shows it. */
export const pidOf = async (page) => Number(await page.innerText("[data-instance='0'] td:nth-of-type(2)"));

/** What a page may say on its console: browsers tell every refusal, even one that is expected. */
export function complaints(said) {
  return said.filter((line) => !line.startsWith("error: Failed to load resource") && !/^(log|info|debug|warning):/.test(line));
}
