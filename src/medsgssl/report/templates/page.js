"use strict";
(() => {
  const root = document.documentElement;
  const button = document.querySelector(".theme");
  const store = {
    // A page opened from a disk may have no storage: the choice then lasts as long as the page.
    get() { try { return localStorage.getItem("medsgssl-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("medsgssl-theme", value); } catch { /* see above */ } },
  };
  const system = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const show = (theme) => {
    root.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light theme" : "Dark theme";
  };
  const asked = location.hash.slice(1);
  show(["dark", "light"].includes(asked) ? asked : store.get() || system());
  button.hidden = false;
  button.addEventListener("click", () => {
    show(root.dataset.theme === "dark" ? "light" : "dark");
    store.set(root.dataset.theme);
  });

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const text = column === 0;
        const before = head.getAttribute("aria-sort");
        const up = before ? before === "descending" : text;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => row.cells[column].dataset.value;
        const rows = [...body.rows].sort((a, b) => {
          const x = value(a), y = value(b);
          if (x === "" || y === "") return (x === "") - (y === "");
          const order = text ? x.localeCompare(y) : x - y;
          return up ? order : -order;
        });
        body.append(...rows);
      });
    });
  }

  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });
})();
