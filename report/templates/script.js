"use strict";
// Tables: a click on a title sorts by it, a second one turns the order round; what has no value stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  const titles = [...table.tHead.rows[0].cells];
  titles.forEach((title, column) => title.querySelector("button").addEventListener("click", () => {
    const text = column === 0;
    const first = text ? "ascending" : "descending";
    const now = title.getAttribute("aria-sort");
    const order = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
    titles.forEach((other) => other.setAttribute("aria-sort", other === title ? order : "none"));
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => row.cells[column].dataset.sort;
    const compare = (a, b) => {
      if (text) return sign * key(a).localeCompare(key(b), undefined, { numeric: true });
      if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
      return sign * (key(a) - key(b));
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}
// Light or dark: the system's until the button says otherwise.
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
// Pictures: a click shows them large.
const large = document.getElementById("large");
for (const button of document.querySelectorAll(".zoom")) {
  button.addEventListener("click", () => {
    const picture = button.querySelector("img");
    large.querySelector("img").src = picture.src;
    large.querySelector("img").alt = large.querySelector("p").textContent = picture.alt;
    large.showModal();
  });
}
large.addEventListener("click", () => large.close());
// How it was made: what a number leads to is opened.
const reveal = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", reveal);
reveal();
