// A thousand instances without stutter. The machine of the test cannot run a thousand programs for this, so here alone the
// answers of `/v1` are made by the script itself, in the shape of real ones (`input.example`, taken from the daemon);
// all else is the client as the daemon serves it.

import {scenario} from "./common.mjs";

await scenario(async ({input, open, check, until, browser}) => {
  const example = input.example;
  const apps = [];
  for (let number = 0; number < 250; number += 1) {
    const name = `app-${String(number).padStart(3, "0")}`;
    const instances = [0, 1, 2, 3].map((index) => ({...example.instances[0], id: number * 4 + index, index, pid: 1000 + number * 4 + index}));
    apps.push({...example, name, namespace: `space-${number % 5}`, instances});
  }
  const {page} = await open();
  await page.addInitScript(
    ([base, token]) => sessionStorage.setItem("upkeep.session", JSON.stringify({base, token})),
    [input.url, input.token],
  );
  const bytes = Buffer.byteLength(JSON.stringify(apps));
  await page.route("**/v1/metrics?*", (route) => route.fulfill({contentType: "application/json", body: '{"from":0,"step":1,"series":[]}'}));
  // Every 100 ms an app changes, and each second the figures of all: the busiest that a list can be.
  await page.addInitScript((apps) => {
    const ask = window.fetch;
    window.changes = 0;
    const stream = (every, next) => {
      let id = 0;
      let timer;
      const body = new ReadableStream({
        start(controller) {
          const event = () => {
            id += 1;
            controller.enqueue(new TextEncoder().encode(`id: ${id}\ndata: ${JSON.stringify(next(id))}\n\n`));
          };
          event();
          timer = setInterval(event, every);
        },
        cancel: () => clearInterval(timer),
      });
      return Promise.resolve(new Response(body, {status: 200}));
    };
    const change = (id) => {
      window.changes += 1;
      if (id === 1) return {whole: true, apps, gone: []};
      const app = structuredClone(apps[id % apps.length]);
      app.instances[id % 4].actual = id % 2 ? "backing_off" : "running";
      app.instances[id % 4].restarts = id;
      return {whole: false, apps: [app], gone: []};
    };
    const figures = () => {
      const series = [];
      for (const app of apps) {
        for (const {index} of app.instances) {
          for (const [metric, value] of [["cpu", Math.random() * 0.4], ["memory", 5e7 + Math.random() * 1e7]]) {
            series.push({app: app.name, index, metric, values: [value], highs: [value]});
          }
        }
      }
      return {from: Math.floor(Date.now() / 1000), step: 1, series};
    };
    window.fetch = (url, options) => {
      const asked = String(url);
      if (!asked.includes("follow=true")) return ask(url, options);
      return asked.includes("/v1/apps") ? stream(100, change) : stream(1000, figures);
    };
    window.tasks = [];
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.tasks.push(Math.round(entry.duration));
    }).observe({entryTypes: ["longtask"]});
  }, apps);
  await page.goto(input.url);
  await page.waitForSelector('[data-row="app-000"]');
  check(/1000 instances/.test(await page.innerText(".list .tools")), await page.innerText(".list .tools"));
  const rows = await page.locator(".rows > .row").count();
  check(rows < 80, `${rows} rows exist`);

  // Unfolded: a thousand and two hundred and fifty rows.
  await page.keyboard.press("E");
  await until("all instances", async () => Number(await page.getAttribute(".windowed", "aria-rowcount")) > 1250);
  await page.evaluate(() => (window.tasks.length = 0));

  // Six seconds of scrolling while the list changes: how long each frame took, and which tasks were long.
  const frames = await page.evaluate(
    () =>
      new Promise((done) => {
        const box = document.querySelector(".windowed");
        const frames = [];
        const begun = performance.now();
        let last = begun;
        const step = (now) => {
          frames.push(now - last);
          last = now;
          const part = (now - begun) / 6000;
          box.scrollTop = (box.scrollHeight - box.clientHeight) * (0.5 - 0.5 * Math.cos(part * Math.PI * 4));
          if (part < 1) requestAnimationFrame(step);
          else done(frames.slice(1));
        };
        requestAnimationFrame(step);
      }),
  );
  const tasks = await page.evaluate(() => window.tasks);
  frames.sort((a, b) => a - b);
  const at = (share) => Math.round(frames[Math.min(frames.length - 1, Math.floor(frames.length * share))] * 10) / 10;

  // Typing into the filter: from the key to what is drawn.
  await page.focus("input[name=filter]");
  const typed = [];
  for (const key of "app-24") {
    const begun = await page.evaluate(() => performance.now());
    await page.keyboard.press(key);
    typed.push((await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => done(performance.now()))))) - begun);
  }
  await until("the rows that match", async () => /10 of 250 apps/.test(await page.innerText(".list .tools")));

  const cpu = new Set();
  await until("figures that go on", async () => cpu.add(await page.locator(".c-cpu .number").first().innerText()).size > 2);

  const result = {
    bytes,
    changes: await page.evaluate(() => window.changes),
    rows,
    frames: frames.length,
    frameMedianMs: at(0.5),
    frame99Ms: at(0.99),
    frameWorstMs: at(1),
    longTasks: tasks.length,
    longestTaskMs: Math.max(0, ...tasks),
    keyMs: Math.round(Math.max(...typed)),
  };
  check(result.changes >= 40, () => `the list did not live: ${JSON.stringify(result)}`);
  return result;
});
