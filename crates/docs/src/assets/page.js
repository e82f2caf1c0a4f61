(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  // The page's own parts; anchors of pages never start so.
  const own = (name) => $(`--${name}`);
  const all = (query, within = document) => [...within.querySelectorAll(query)];
  const make = (name, properties, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  // A page from a file may have no storage.
  const kept = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
  const keep = (key, value) => { try { localStorage.setItem(key, value); } catch { /* forgotten, then */ } };
  const say = (text) => { own("said").textContent = text; };
  const root = document.documentElement;
  const pages = all("details.page");
  root.classList.add("scripted");
  own("search").closest(".tools").hidden = false;
  own("filter").parentElement.hidden = false;

  // Words, as the maker of the index takes them.
  const words = (text) => text.toLowerCase().split(/[^\p{Alphabetic}\p{N}]+/u).filter(Boolean).map((word) => word.slice(0, 32));

  // The filter of the sidebar.
  const entries = all("#--nav li").map((element) => {
    const link = element.querySelector("a");
    return { element, text: `${link.textContent} ${link.dataset.path}`.toLowerCase() };
  });
  own("filter").addEventListener("input", () => {
    const wanted = own("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { element, text } of entries) {
      element.hidden = !wanted.every((word) => text.includes(word));
      shown += element.hidden ? 0 : 1;
    }
    for (const group of all("#--nav .group")) group.hidden = all("li", group).every((element) => element.hidden);
    own("none").hidden = shown > 0;
    say(`${shown} of ${entries.length} pages`);
  });

  // Places: `#anchor` opens what it names.
  const menu = (open) => {
    own("nav").classList.toggle("open", open);
    own("menu").setAttribute("aria-expanded", String(open));
  };
  const go = () => {
    let id = location.hash.slice(1);
    try { id = decodeURIComponent(id); } catch { /* as it is */ }
    const target = id ? $(id) : null;
    const page = target?.closest("details.page");
    if (!page) return;
    page.open = true;
    menu(false);
    for (const link of all("#--nav li a")) {
      if (link.getAttribute("href") === `#${page.dataset.anchor}`) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    const whole = target.id === page.dataset.anchor;
    (whole ? page : target).scrollIntoView();
    if (whole) page.querySelector("summary").focus({ preventScroll: true });
  };
  addEventListener("hashchange", go);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    // The same place again changes nothing that the browser would tell.
    if (link && link.getAttribute("href") === location.hash) setTimeout(go);
    const summary = event.target.closest?.("details.page > summary");
    if (summary && !summary.parentElement.open) {
      try { history.replaceState(null, "", `#${summary.parentElement.dataset.anchor}`); } catch { /* from a file */ }
    }
  });
  own("menu").addEventListener("click", () => {
    const open = !own("nav").classList.contains("open");
    menu(open);
    if (open) own("filter").focus();
  });
  own("open").addEventListener("click", () => { for (const page of pages) page.open = true; });
  own("close").addEventListener("click", () => { for (const page of pages) page.open = false; });

  // Print all of it.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = pages.filter((page) => !page.open);
    for (const page of closed) page.open = true;
  });
  addEventListener("afterprint", () => { for (const page of closed) page.open = false; });

  // Light, dark, or as the system has it.
  const themes = ["auto", "light", "dark"];
  const paint = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    own("theme").textContent = `Theme: ${theme}`;
  };
  let theme = themes.includes(kept("docs-theme")) ? kept("docs-theme") : "auto";
  paint(theme);
  own("theme").addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    paint(theme);
    keep("docs-theme", theme);
  });

  // Code: copy, fold.
  for (const figure of all("figure.code")) {
    const code = figure.querySelector("code");
    const text = code.textContent;
    figure.append(make("button", {
      type: "button",
      className: "copy",
      textContent: "Copy",
      onclick: async () => {
        try {
          await navigator.clipboard.writeText(text);
        } catch {
          const area = make("textarea", { value: text });
          figure.append(area);
          area.select();
          document.execCommand("copy");
          area.remove();
        }
        say("Copied");
      },
    }));
    for (const part of all(".f", code)) {
      const lines = part.textContent.trim().split("\n").length;
      const button = make("button", { type: "button", className: "fold", ariaExpanded: "true" });
      button.setAttribute("aria-label", `Fold ${lines} lines`);
      button.addEventListener("click", () => {
        part.hidden = !part.hidden;
        button.setAttribute("aria-expanded", String(!part.hidden));
        button.setAttribute("aria-label", `${part.hidden ? "Unfold" : "Fold"} ${lines} lines`);
      });
      part.before(button);
    }
  }

  // Samples as tabs; one choice holds for all pages.
  const choose = (name) => {
    for (const tab of all("[role=tab]")) {
      const on = tab.textContent === name;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
      $(tab.getAttribute("aria-controls")).hidden = !on;
    }
    keep("docs-language", name);
  };
  const names = [];
  for (const group of all(".samples")) {
    const list = make("div", { role: "tablist" });
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", "Language");
    for (const figure of all("figure", group)) {
      const caption = figure.querySelector("figcaption");
      const tab = make("button", { type: "button", id: `${figure.id}-tab`, textContent: caption.textContent });
      if (!names.includes(tab.textContent)) names.push(tab.textContent);
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", figure.id);
      tab.addEventListener("click", () => choose(tab.textContent));
      figure.setAttribute("role", "tabpanel");
      figure.setAttribute("aria-labelledby", tab.id);
      caption.remove();
      list.append(tab);
    }
    list.addEventListener("keydown", (event) => {
      const tabs = [...list.children];
      const at = tabs.indexOf(document.activeElement);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[event.key];
      if (at < 0 || to === undefined) return;
      event.preventDefault();
      const tab = tabs[to % tabs.length];
      tab.focus();
      choose(tab.textContent);
    });
    group.prepend(list);
  }
  if (names.length) choose(names.includes(kept("docs-language")) ? kept("docs-language") : names[0]);

  // Search in the index that was made with the page.
  const index = JSON.parse(own("index").textContent);
  const find = (wanted) => {
    let found = null;
    for (const word of wanted.slice(0, 16)) {
      const best = new Map();
      index.w.forEach((known, number) => {
        if (!known.startsWith(word)) return;
        const factor = known === word ? 1 : 0.6;
        const list = index.p[number];
        for (let at = 0; at < list.length; at += 2) {
          best.set(list[at], Math.max(best.get(list[at]) ?? 0, list[at + 1] * factor));
        }
      });
      const rare = Math.log1p((index.n - best.size + 0.5) / (best.size + 0.5));
      const before = found;
      found = new Map([...best].filter(([page]) => !before || before.has(page))
        .map(([page, score]) => [page, score * rare + (before?.get(page) ?? 0)]));
    }
    return [...(found ?? [])].sort((a, b) => Math.round(b[1]) - Math.round(a[1]) || a[0] - b[0]).map(([page]) => page);
  };
  const texts = new Map();
  const textOf = (page) => {
    if (!texts.has(page)) {
      const copy = page.querySelector(".body").cloneNode(true);
      for (const part of all(".samples, .copy, [role=tablist]", copy)) part.remove();
      // What stands in cells and blocks of its own is no one word.
      for (const part of all("p, li, th, td, pre, figcaption, h3, h4, h5, h6", copy)) part.append(" ");
      texts.set(page, copy.textContent.replace(/\s+/g, " ").trim());
    }
    return texts.get(page);
  };
  const excerpt = (page, wanted) => {
    const text = textOf(page);
    const escaped = wanted.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    // At the start of a word, as the index finds them.
    const found = new RegExp(`(?<![\\p{Alphabetic}\\p{N}])(${escaped.join("|")})`, "giu");
    const start = Math.max(0, text.search(found) - 60);
    const piece = text.slice(start, start + 180);
    const out = make("p", {}, start > 0 ? "…" : "");
    for (const part of piece.split(found)) {
      out.append(wanted.includes(part.toLowerCase()) ? make("mark", {}, part) : part);
    }
    if (start + 180 < text.length) out.append("…");
    return out;
  };
  const search = () => {
    const wanted = words(own("search").value);
    const results = own("results");
    results.replaceChildren();
    results.hidden = wanted.length === 0;
    if (!wanted.length) return;
    const hits = find(wanted);
    const told = hits.length === 1 ? "1 page" : `${hits.length} pages`;
    say(told);
    const list = make("ol", {});
    for (const number of hits.slice(0, 20)) {
      const page = pages[number];
      const head = page.querySelector("summary");
      const badge = head.querySelector(".badge")?.cloneNode(true) ?? "";
      const title = head.querySelector("h2, h3").textContent;
      list.append(make("li", {}, make("a", { href: `#${page.dataset.anchor}` }, badge, " ", title), excerpt(page, wanted)));
    }
    results.append(make("h2", {}, told), list);
  };
  own("search").addEventListener("input", search);
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName ?? "");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      own("search").focus();
    } else if (event.key === "Escape") {
      menu(false);
      if (own("search").value) {
        own("search").value = "";
        search();
      }
    }
  });
  search();
  go();
})();
