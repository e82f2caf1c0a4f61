// The page of the six posts, from a file: filter, groups, places, folding, tabs, themes, keyboard, phone, print; and what it
// asks for, which is nothing.

import {scenario} from "../../../../testkit/browser/harness.mjs";

const same = (seen, wanted, what) => {
  const [a, b] = [JSON.stringify(seen), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}: ${a}, not ${b}`);
};

// What the judge itself makes a browser complain of (it tries an inline script) is not the page's.
const judged = async (faults, {page, console: said}) => {
  const before = said.length;
  const found = await faults(page);
  said.length = before;
  return found;
};

await scenario(async ({input, open, check, until, faults}) => {
  const {page, context, requests, console: said} = await open(input.url);
  const shown = (query) => page.$$eval(query, (list) => list.filter((one) => one.checkVisibility()).map((one) => one.textContent.trim()));
  const opened = () => page.$$eval("details.page[open]", (list) => list.map((one) => one.dataset.anchor));

  // Navigation: links without a group first, then groups; badges are words.
  same(await shown("nav h2"), ["Parcels", "Parcels on their way"], "groups");
  same(
    await page.$$eval("nav li a", (list) => list.map((one) => one.getAttribute("href"))),
    ["#authentication", "#response-status-codes", "#change-parcel", "#create-parcel", "#list-parcels", "#stop-parcel"],
    "links",
  );
  same(await shown("summary .badge"), ["PUT", "POST", "GET", "DELETE"], "badges");
  const colours = await page.$$eval("summary .badge", (list) => list.map((one) => getComputedStyle(one).backgroundColor));
  same(new Set(colours).size, 4, "colours of badges");

  // The filter takes no notice of case, looks into paths, and hides groups that are empty.
  await page.fill("#--filter", "CALL");
  same(await shown("nav li"), ["DELETE Call a parcel back"], "filtered");
  same(await shown("nav h2"), ["Parcels on their way"], "groups of it");
  await page.fill("#--filter", "/parcels/:id");
  same((await shown("nav li")).length, 2, "filtered by path");
  await page.fill("#--filter", "xyz");
  same(await shown("nav li"), [], "filtered away");
  check((await shown("#--none")).length === 1, "nobody says that there is none");
  await page.fill("#--filter", "");
  same((await shown("nav li")).length, 6, "all again");

  // Articles: closed at first, opened one by one, all, none.
  same(await opened(), [], "open at first");
  await page.click("[data-anchor=create-parcel] > summary");
  same(await opened(), ["create-parcel"], "opened");
  check(page.url().endsWith("#create-parcel"), `the address is ${page.url()}`);
  await page.click("#--open");
  same((await opened()).length, 6, "Show all");
  await page.click("#--close");
  same(await opened(), [], "Hide all");

  // A link within a text opens and shows what it leads to.
  await page.click("nav a[href='#stop-parcel']");
  await until("the article", async () => (await opened()).includes("stop-parcel"));
  await page.click("[data-anchor=stop-parcel] a[href='#create-parcel']");
  await until("the other article", async () => (await opened()).includes("create-parcel"));
  await until("it to be seen", () => page.$eval("[data-anchor=create-parcel]", (one) => {
    const {top} = one.getBoundingClientRect();
    return top >= -5 && top < innerHeight / 2;
  }));
  same(await page.$eval("nav a[aria-current]", (one) => one.getAttribute("href")), "#create-parcel", "current");

  // Folding.
  const block = page.locator("[data-anchor=list-parcels] .json").first();
  await page.click("nav a[href='#list-parcels']");
  await until("the article to open", async () => (await opened()).includes("list-parcels"));
  const lines = (await block.locator("code").innerText()).split("\n").length;
  await block.locator(".fold").nth(1).click();
  const folded = await block.locator("code").innerText();
  check(folded.split("\n").length < lines && !folded.includes("sent") && folded.includes("lost"), `folded: ${folded}`);
  same(await block.locator(".fold").nth(1).getAttribute("aria-expanded"), "false", "aria-expanded");
  await block.locator(".fold").nth(1).click();
  same((await block.locator("code").innerText()).split("\n").length, lines, "unfolded");
  check((await block.locator(".k").count()) >= 4, "no keys are coloured");

  // Tabs: by mouse and by keys, and one choice for all.
  const create = page.locator("[data-anchor=create-parcel]");
  await page.click("nav a[href='#create-parcel']");
  same(await create.locator("[role=tab]").allInnerTexts(), ["curl", "JavaScript", "Python"], "tabs");
  same(await create.locator("[role=tabpanel]:visible").count(), 1, "panels");
  check((await create.locator("[role=tabpanel]:visible").innerText()).includes("curl -X POST 'https://parcels.example/parcels'"), "no curl");
  await create.locator("[role=tab]", {hasText: "Python"}).click();
  check((await create.locator("[role=tabpanel]:visible").innerText()).includes("urllib.request"), "no Python");
  await page.keyboard.press("ArrowLeft");
  check((await create.locator("[role=tabpanel]:visible").innerText()).includes("await fetch"), "no JavaScript");
  await page.click("nav a[href='#list-parcels']");
  same(await page.locator("[data-anchor=list-parcels] [aria-selected=true]").innerText(), "JavaScript", "the choice elsewhere");

  // Copying.
  await context.grantPermissions(["clipboard-read", "clipboard-write"]).catch(() => {});
  await page.locator("[data-anchor=create-parcel] .json .copy").first().click();
  await until("a word on it", async () => (await page.textContent("#--said")) === "Copied");

  // No button calls the API, and there is no form.
  same(await page.$$eval("form, iframe, link, img[src^=http]", (list) => list.length), 0, "forms");

  // Themes: as the system has it, then as chosen, and kept.
  const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.emulateMedia({colorScheme: "light"});
  const light = await back();
  await page.emulateMedia({colorScheme: "dark"});
  const dark = await back();
  check(light !== dark, `the same in dark: ${dark}`);
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({colorScheme: scheme});
    await page.click("#--open");
    const found = await judged(faults, {page, console: said});
    check(found.length === 0, () => `${scheme}: ${JSON.stringify(found, null, 1)}`);
  }
  await page.click("#--theme");
  same([await page.innerText("#--theme"), await back()], ["Theme: light", light], "chosen");
  await page.reload();
  same([await page.innerText("#--theme"), await back()], ["Theme: light", light], "kept");

  // Printing shows what is closed.
  await page.click("#--close");
  await page.emulateMedia({media: "print", colorScheme: "light"});
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  same((await opened()).length, 6, "printed");
  same(await shown("nav, .tools, .copy"), [], "not printed");
  await page.evaluate(() => dispatchEvent(new Event("afterprint")));
  same(await opened(), [], "after printing");
  await page.emulateMedia({media: "screen", colorScheme: "light"});

  // A place in the address, also of a heading, also on a page that is new.
  const deep = await open(`${input.url}#change-parcel--response`);
  same(await deep.page.$$eval("details.page[open]", (list) => list.map((one) => one.dataset.anchor)), ["change-parcel"], "deep link");
  await until("the heading to be seen", () => deep.page.$eval("[id='change-parcel--response']", (one) => {
    const {top} = one.getBoundingClientRect();
    return top >= 0 && top < innerHeight;
  }));

  // Keys only: past the sidebar, to the search, to a result, into the article.
  const keys = await open(input.url);
  await keys.page.keyboard.press("Tab");
  same(await keys.page.evaluate(() => document.activeElement.textContent), "Skip to the pages", "first stop");
  await keys.page.keyboard.press("Enter");
  await keys.page.keyboard.press("/");
  same(await keys.page.evaluate(() => document.activeElement.id), "--search", "after /");
  await keys.page.keyboard.type("grace");
  await until("a result", async () => (await keys.page.locator("#--results li").count()) === 1);
  same(await keys.page.locator("#--results mark").first().innerText(), "Grace", "marked");
  for (let tab = 0; tab < 4; tab += 1) await keys.page.keyboard.press("Tab");
  same(await keys.page.evaluate(() => document.activeElement.getAttribute("href")), "#change-parcel", "the result");
  const outline = await keys.page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  check(outline !== "none", "the focus cannot be seen");
  await keys.page.keyboard.press("Enter");
  await until("the article", () => keys.page.$eval("[data-anchor=change-parcel]", (one) => one.open));
  await until("the focus on it", () => keys.page.evaluate(() => document.activeElement.closest("details")?.dataset.anchor === "change-parcel"));
  await keys.page.keyboard.press("Enter");
  await until("it to be closed", () => keys.page.$eval("[data-anchor=change-parcel]", (one) => !one.open));
  await keys.page.keyboard.press("Escape");
  same(await keys.page.locator("#--results li:visible").count(), 0, "Escape");

  // A phone: nothing is wider than it, the menu opens and a choice closes it.
  const phone = await open(input.url, {viewport: {width: 360, height: 700}, hasTouch: true});
  await phone.page.click("#--open");
  const width = await phone.page.evaluate(() => document.documentElement.scrollWidth);
  check(width <= 360, `${width} wide on a phone`);
  check(!(await phone.page.isVisible("nav h1")), "the menu is open");
  await phone.page.click("#--menu");
  check(await phone.page.isVisible("nav h1"), "the menu does not open");
  const found = await judged(faults, phone);
  check(found.length === 0, () => `phone: ${JSON.stringify(found, null, 1)}`);
  await phone.page.click("nav a[href='#stop-parcel']");
  await until("the menu to close", async () => !(await phone.page.isVisible("nav h1")));

  // Nothing but the file was asked for, and nothing was complained of.
  for (const one of [requests, deep.requests, keys.requests, phone.requests]) {
    check(one.every((url) => url.startsWith("file://") && url.includes("index.html")), () => `asked for: ${one.join(" ")}`);
  }
  const complaints = [...said, ...deep.console, ...keys.console, ...phone.console];
  same(complaints, [], "console");

  // The policy holds: what is put into the page from outside neither runs nor asks.
  const heard = await page.evaluate(async () => {
    const refused = [];
    document.addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
    const script = document.createElement("script");
    script.textContent = "window.ran = true";
    document.body.append(script);
    const image = document.createElement("img");
    image.src = "https://elsewhere.example/x.png";
    document.body.append(image);
    await fetch("https://elsewhere.example/").catch(() => {});
    for (let turn = 0; turn < 100 && refused.length < 3; turn += 1) await new Promise((done) => setTimeout(done, 20));
    return {refused: refused.sort(), ran: window.ran ?? false};
  });
  same(heard, {refused: ["connect-src", "img-src", "script-src-elem"], ran: false}, "policy");
  return {done: true};
});
