// One scenario in a real browser: Debian's Chromium, driven by playwright-core, headless.
//
// `testkit::browser` starts a script with Node and gives it one line of JSON on standard input. The script says
//
//     import {scenario} from "…/testkit/browser/harness.mjs";
//     await scenario(async ({input, open}) => { const {page} = await open(input.url); …; return {seen: 3}; });
//
// and the harness answers on standard output with one line of JSON: `{"result": …}` or `{"error": …, "pages": […]}`.
// In between a script may ask the test for something (`await ask("kill_daemon")`): `{"ask": …, "with": …}` goes out, one
// line of JSON comes back.

import {createRequire} from "node:module";
import {createInterface} from "node:readline";
import {mkdirSync, readFileSync, writeFileSync} from "node:fs";
import {dirname} from "node:path";

import {small} from "./png.mjs";

const modules = createRequire(process.env.UPKEEP_BROWSER_MODULES + "/");
const {chromium} = modules("playwright-core");

/** How long a step may take: machines of builds are slow and shared. */
const PATIENCE = 20_000;

const lines = createInterface({input: process.stdin})[Symbol.asyncIterator]();

async function next() {
  const {value, done} = await lines.next();
  if (done) throw new Error("the test has closed standard input");
  return JSON.parse(value);
}

function say(message) {
  process.stdout.write(JSON.stringify(message) + "\n");
}

/** Asks the test for something that only it can do, and waits for its answer. */
export async function ask(what, more = null) {
  say({ask: what, with: more});
  return next();
}

/** Fails with a text. `what` may be a function that says what was seen. */
export function check(holds, what) {
  if (!holds) throw new Error(typeof what === "function" ? what() : what);
}

/** Looks again and again until `look` gives something that holds; says the last that it saw when time is up. */
export async function until(what, look, patience = PATIENCE) {
  const end = Date.now() + patience;
  let last;
  for (;;) {
    try {
      last = await look();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`waited ${patience} ms in vain for ${what}; last seen: ${last}`);
    await new Promise((done) => setTimeout(done, 30));
  }
}

/** Faults that axe-core finds in a page and calls serious or critical. */
export async function faults(page) {
  // Through the debugger: a strict policy of the page lets no script in.
  await page.evaluate(readFileSync(modules.resolve("axe-core/axe.min.js"), "utf8"));
  const found = await page.evaluate(() => window.axe.run(document, {resultTypes: ["violations"]}));
  return found.violations
    .filter(({impact}) => impact === "serious" || impact === "critical")
    .map(({id, impact, help, nodes}) => ({
      id,
      impact,
      help,
      where: nodes.slice(0, 4).map((node) => `${node.target.join(" ")}: ${node.failureSummary}`),
    }));
}

/** Runs one scenario, with a browser that is closed whatever happens. */
export async function scenario(run) {
  const input = await next();
  const pages = [];
  let browser;
  let code = 0;
  try {
    browser = await chromium.launch({
      executablePath: process.env.UPKEEP_BROWSER,
      chromiumSandbox: process.getuid() !== 0,
      // Nothing here may ask the world: names other than loopback's are not found.
      args: ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost", "--force-color-profile=srgb"],
    });
    // A page of its own profile, with everything that it said and asked for.
    const open = async (url, options = {}) => {
      const context = await browser.newContext({
        viewport: {width: 1280, height: 800},
        locale: "en-GB",
        timezoneId: "UTC",
        reducedMotion: "reduce",
        ...options,
      });
      context.setDefaultTimeout(PATIENCE);
      const page = await context.newPage();
      const heard = {page, console: [], requests: [], refused: []};
      page.on("console", (message) => heard.console.push(`${message.type()}: ${message.text()}`));
      page.on("pageerror", (error) => heard.console.push(`uncaught: ${error.stack ?? error}`));
      page.on("request", (request) => heard.requests.push(request.url()));
      page.on("requestfailed", (request) => heard.refused.push(`${request.url()} ${request.failure()?.errorText}`));
      pages.push(heard);
      if (url) await page.goto(url);
      return {context, ...heard};
    };
    const picture = async (page, name, options = {}) => {
      if (!input.pictures) return;
      const path = `${input.pictures}/${name}.png`;
      mkdirSync(dirname(path), {recursive: true});
      writeFileSync(path, small(await page.screenshot({animations: "disabled", caret: "hide", ...options})));
    };
    const result = await run({browser, input, open, picture, ask, check, until, faults});
    say({result: result ?? null});
  } catch (error) {
    code = 1;
    const seen = [];
    for (const {page, console: said, refused} of pages) {
      const text = await page.evaluate(() => document.body?.innerText ?? "").catch((why) => String(why));
      seen.push({url: page.url(), text: text.slice(0, 3000), console: said.slice(-30), refused: refused.slice(-10)});
    }
    say({error: error.stack ?? String(error), pages: seen});
  } finally {
    await browser?.close();
  }
  process.exit(code);
}
