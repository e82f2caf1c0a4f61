// Signing in; a program that ends with 1 and is started again, seen without loading the page anew; what that costs.

import {request} from "node:http";

import {complaints, scenario, signIn, stateOf} from "./common.mjs";

await scenario(async ({input, open, ask, check, until, browser}) => {
  await served(input, check);
  // A stranger sees nothing, and a wrong token is told.
  const {page, console: said, requests} = await open(input.url);
  await page.waitForSelector("input[name=token]");
  check((await page.locator("[data-row]").count()) === 0, "a stranger sees apps");
  await page.fill("input[name=token]", "upk_wrong_token");
  await page.click("button[type=submit]");
  const told = await until("the refusal", () => page.innerText(".trouble"));
  check(/token/.test(told), `it does not say that the token is wrong: ${told}`);

  await page.fill("input[name=token]", input.token);
  await page.press("input[name=token]", "Enter");
  await page.waitForSelector('[data-row="crasher"]');
  await until("a running app", async () => /running/.test(await stateOf(page, "crasher")));

  // Nothing of the page is made anew meanwhile: the mark on its window stays.
  await page.evaluate(() => (window.mark = "same page"));
  const seen = [];
  await page.exposeFunction("noted", (state) => seen.at(-1) !== state && seen.push(state));
  await page.evaluate(() => {
    const look = () => window.noted(document.querySelector('[data-row="crasher"] .c-state')?.innerText.trim());
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
    look();
  });
  const asked = Date.now();
  await ask("crash");
  await until("the crash in the list", () => seen.some((state) => /backing off/.test(state ?? "")));
  const crashSeen = Date.now() - asked;
  await until("the app to be back in the list", () => /running/.test(seen.at(-1) ?? ""));
  const restarts = await page.innerText('[data-row="crasher"] .c-restarts');
  check(/1/.test(restarts), `restarts: ${restarts}`);
  check((await page.evaluate(() => window.mark)) === "same page", "the page was loaded anew");

  // Its dossier.
  await page.click('[data-row="crasher"] a');
  await page.click("nav.tabs >> text=Crashes");
  await page.click(".crashes table a");
  await until("its last words", async () => /it ends here/.test(await page.innerText(".dossier")));
  check(/exit code 1/.test(await page.innerText(".dossier h2")), "the dossier does not tell how it ended");

  // The token is in a header and in the tab's own storage, nowhere else.
  check(!requests.some((url) => url.includes(input.token)), "the token is in an address");
  check(!page.url().includes(input.token), "the token is in the page's address");
  const kept = await page.evaluate(() => [JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]);
  check(kept[0].includes(input.token) && !kept[1].includes(input.token) && kept[2] === "", `kept: ${kept}`);
  // All that was asked for came from here.
  const elsewhere = requests.filter((url) => !url.startsWith(input.url));
  check(elsewhere.length === 0, `asked elsewhere: ${elsewhere}`);
  check(complaints(said).length === 0, () => complaints(said).join("\n"));

  // Signing out forgets.
  await page.click("text=Sign out");
  await page.waitForSelector("input[name=token]");
  check(!(await page.evaluate(() => JSON.stringify(sessionStorage))).includes(input.token), "the token is kept");
  await page.reload();
  await page.waitForSelector("input[name=token]");

  // From a cold page, signed in before, to the first live update; what the first paint takes over the wire.
  const cold = await measure(browser, input, ask);
  return {seen, crashSeen, ...cold};
});

/** What comes over the wire, path by path as it is written. */
function asked(url, path, headers = {}) {
  return new Promise((done, failed) => {
    const {hostname, port, host} = new URL(url);
    const sent = request({hostname, port, path, headers: {host, ...headers}}, (given) => {
      given.resume();
      given.on("end", () => done(given));
    });
    sent.on("error", failed);
    sent.end();
  });
}

/** The client is open, in the form that browsers take, under a strict policy; nothing else is. */
async function served({url}, check) {
  const page = await asked(url, "/", {"accept-encoding": "gzip"});
  check(page.statusCode === 200 && page.headers["content-encoding"] === "gzip", `${page.statusCode}`);
  const policy = page.headers["content-security-policy"];
  for (const part of ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]) {
    check(policy.includes(part) && !policy.includes("unsafe"), policy);
  }
  check(page.headers["cache-control"] === "no-cache", page.headers["cache-control"]);
  check(page.headers["x-content-type-options"] === "nosniff", "types are guessed");
  const again = await asked(url, "/", {"if-none-match": page.headers.etag});
  check(again.statusCode === 304, `${again.statusCode} for what is known`);
  for (const path of ["/../Cargo.toml", "/src/../../Cargo.toml", "/src/..%2f..%2fCargo.toml", "/vendor/README.md", "/src/", "//etc/passwd", "/v1/apps"]) {
    const answer = await asked(url, path);
    check(answer.statusCode === 401 || answer.statusCode === 404 || answer.statusCode === 400, `${path}: ${answer.statusCode}`);
  }
}

async function measure(browser, input, ask) {
  const runs = [];
  for (let run = 0; run < 3; run += 1) {
    const context = await browser.newContext();
    await context.addInitScript(
      ([base, token]) => sessionStorage.setItem("upkeep.session", JSON.stringify({base, token})),
      [input.url, input.token],
    );
    const page = await context.newPage();
    const wire = await context.newCDPSession(page);
    await wire.send("Network.enable");
    await wire.send("Network.setCacheDisabled", {cacheDisabled: true});
    let bytes = 0;
    let files = 0;
    const files_ = new Map();
    wire.on("Network.responseReceived", ({requestId, response}) => files_.set(requestId, response.url));
    wire.on("Network.loadingFinished", ({requestId, encodedDataLength}) => {
      if (new URL(files_.get(requestId) ?? input.url).pathname.includes("/v1/")) return;
      bytes += encodedDataLength;
      files += 1;
    });
    await page.goto(input.url);
    await page.waitForSelector("[data-row]");
    const firstBytes = bytes;
    const firstFiles = files;
    // Something changes; the page shows it without being asked.
    const before = await page.innerText('[data-row="steady"] .c-state');
    await ask("toggle");
    const shown = await page.waitForFunction(
      (before) => document.querySelector('[data-row="steady"] .c-state').innerText !== before && performance.now(),
      before,
    );
    const live = await shown.jsonValue();
    const times = await page.evaluate(async () => {
      const paint = performance.getEntriesByName("first-contentful-paint")[0]?.startTime;
      const {first} = await import(new URL("src/live.js", document.baseURI).href);
      return {paint, list: first.list, open: first.open, event: first.event};
    });
    runs.push({...times, live, bytes: firstBytes, files: firstFiles});
    await context.close();
  }
  const middle = (of) => runs.map((run) => run[of]).sort((a, b) => a - b)[1];
  return {
    bytes: Math.max(...runs.map((run) => run.bytes)),
    files: runs[0].files,
    paintMs: Math.round(middle("paint")),
    listMs: Math.round(middle("list")),
    openMs: Math.round(middle("open")),
    liveMs: Math.round(middle("live")),
    runs,
  };
}
