(() => {
  "use strict";
  const key = "docs-open";
  const pages = () => [...document.querySelectorAll("details.page")];
  for (const id of JSON.parse(sessionStorage.getItem(key) ?? "[]")) {
    const page = document.getElementById(id)?.closest("details");
    if (page) page.open = true;
  }
  let first = null;
  new EventSource("/_live").onmessage = (event) => {
    first ??= event.data;
    if (event.data === first) return;
    sessionStorage.setItem(key, JSON.stringify(pages().filter((page) => page.open).map((page) => page.dataset.anchor)));
    location.reload();
  };
})();
