"use strict";

// Columns are sorted by a click on their name: numbers from the largest, names from A.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const first = column === 0 ? "ascending" : "descending";
      const second = column === 0 ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sort(table.tBodies[0], column, order === "ascending" ? 1 : -1);
    });
  });
}

function sort(body, column, sign) {
  const key = (row) => {
    const cell = row.cells[column];
    return column === 0 ? cell.textContent : parseFloat(cell.dataset.value);
  };
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (column === 0) return sign * x.localeCompare(y);
    // What has no number stays below.
    return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y) || 0;
  };
  body.append(...[...body.rows].sort(compare));
}

// A link opens what it leads to.
function reveal() {
  const target = document.getElementById(location.hash.slice(1));
  for (let part = target; part; part = part.parentElement) {
    if (part.tagName === "DETAILS") part.open = true;
  }
  if (target) target.scrollIntoView();
}
window.addEventListener("hashchange", reveal);
reveal();

// The lines of the results file, unpacked when the first of them is opened.
let lines;
async function unpack() {
  const packed = atob(document.getElementById("lines").textContent);
  const bytes = Uint8Array.from(packed, (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return (await new Response(stream).text()).split("\n");
}
for (const part of document.querySelectorAll("details.line")) {
  part.addEventListener("toggle", async () => {
    lines ??= unpack();
    part.querySelector("pre").textContent = (await lines)[Number(part.dataset.line)];
  }, { once: true });
}
