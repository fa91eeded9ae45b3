// Runs inside a report, in a frame, and tells the page around it what is wrong, one line each.
"use strict";
const found = [];
const check = (right, what) => right || found.push(what);
addEventListener("error", (event) => found.push(`error: ${event.message}`));
const soon = () => new Promise((resolve) => setTimeout(resolve, 50));

function links() {
  for (const link of document.querySelectorAll("a")) {
    const address = link.getAttribute("href");
    check(address.startsWith("#") && document.getElementById(address.slice(1)), `the link ${address} leads nowhere`);
  }
  const outside = [...document.querySelectorAll("[src], link[href]")].map((e) => e.getAttribute("src") ?? e.getAttribute("href"));
  outside.forEach((address) => check(address === "" || address.startsWith("data:"), `${address} is outside of the page`));
}

function tables() {
  const all = document.querySelectorAll("table.sortable");
  check(all.length >= 3, `only ${all.length} tables`);
  for (const table of all) [...table.tHead.rows[0].cells].forEach((title, column) => {
    const name = title.textContent.trim();
    const button = title.querySelector("button");
    button.focus();
    check(document.activeElement === button, `${name} cannot be reached by keyboard`);
    for (let click = 0; click < 2; click++) {
      button.click();
      const order = title.getAttribute("aria-sort");
      const other = [...table.tHead.rows[0].cells].filter((t) => t !== title);
      check(other.every((t) => t.getAttribute("aria-sort") === "none"), `${name}: two columns claim to be sorted`);
      const keys = [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.sort);
      const given = keys.filter((key) => key !== "");
      check(keys.slice(0, given.length).every((key) => key !== ""), `${name}: missing values are not last`);
      const sorted = given.every((key, i) => {
        if (i === 0) return true;
        const step = column === 0 ? given[i - 1].localeCompare(key, undefined, { numeric: true }) : given[i - 1] - key;
        return order === "ascending" ? step <= 0 : step >= 0;
      });
      check(sorted && order !== "none", `${name} is not sorted (${order}): ${given}`);
    }
  });
}

async function controls() {
  const paper = () => getComputedStyle(document.body).backgroundColor;
  const before = paper();
  document.getElementById("theme").click();
  check(paper() !== before, "the theme does not change");
  document.getElementById("theme").click();
  document.querySelector(".zoom").click();
  const large = document.getElementById("large");
  check(large.open && large.querySelector("img").naturalWidth > 0, "pictures do not open");
  large.click();
  check(!large.open, "pictures do not close");
  const number = document.querySelector("a.value");
  const made = document.getElementById(number.getAttribute("href").slice(1));
  number.click();
  await soon();
  check(made.closest("details").open, "a number does not open how it was made");
}

addEventListener("load", async () => {
  check(innerWidth === WIDTH, `the window is ${innerWidth} wide, not ${WIDTH}`);
  const wide = document.documentElement.scrollWidth;
  check(wide <= innerWidth, `the page is ${wide} wide in a window of ${innerWidth}`);
  for (const picture of document.querySelectorAll("main img")) {
    check(picture.complete && picture.naturalWidth > 0, `${picture.alt} is no picture`);
  }
  links();
  tables();
  await controls();
  parent.postMessage(["checked", ...found].join("\n"), "*");
});
