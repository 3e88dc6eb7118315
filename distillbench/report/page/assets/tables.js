// Tables: sort by a column, filter rows, fold the columns of single categories.

/** Values of a column for sorting: numbers where there are any, missing ones last. */
function sortKey(row, place) {
  const cell = row.cells[place];
  const text = cell.textContent.trim();
  const value = cell.dataset.value ?? text;
  if (text === "--" || text === "") return null;
  return value !== "" && Number.isFinite(Number(value)) ? Number(value) : text.toLowerCase();
}

function compareKeys(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === typeof b) return (a < b ? -1 : a > b ? 1 : 0) * sign;
  return typeof a === "number" ? -1 : 1;
}

function sortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const lines = original.filter((row) => !row.classList.contains("group"));
  const heads = [...table.tHead.rows].at(-1).cells;
  for (const [place, head] of [...heads].entries()) {
    const button = el("button", { type: "button", class: "sort" });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(place));
  }

  /** First click: best first. Second: the other way. Third: as it was. */
  function sort(place) {
    const head = heads[place];
    const best = head.dataset.direction === "up" ? "descending" : "ascending";
    const other = best === "ascending" ? "descending" : "ascending";
    const now = head.getAttribute("aria-sort");
    const next = now === null ? best : now === best ? other : null;
    for (const one of heads) one.removeAttribute("aria-sort");
    table.classList.toggle("sorted", next !== null);
    if (next === null) {
      body.append(...original);
      return;
    }
    head.setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const keyed = lines.map((row) => [sortKey(row, place), row]);
    body.append(...keyed.sort((a, b) => compareKeys(a[0], b[0], sign)).map(([, row]) => row));
  }
}

/** Of a long table the first rows stand there, in whatever order it has, until all are asked for. */
function unclip(table) {
  const count = table.querySelectorAll("tbody tr:not(.group)").length;
  const button = el("button", { type: "button", on: { click: () => clip(!table.classList.contains("clipped")) } });
  const clip = (on) => {
    table.classList.toggle("clipped", on);
    button.textContent = on ? `Show all ${count} rows` : "Show the first rows";
  };
  clip(true);
  table.parentNode.after(el("div", { class: "bar" }, button));
}

/** Hide rows that lack any of the words, and headings of groups that are left without rows. */
function filterRows(table, text, count) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = new Set();
  let number = 0;
  table.classList.toggle("filtered", words.length > 0);
  for (const row of table.tBodies[0].rows) {
    if (row.classList.contains("group")) continue;
    const own = `${row.dataset.group ?? ""} ${row.textContent}`.toLowerCase();
    row.hidden = !words.every((word) => own.includes(word));
    if (!row.hidden) {
      shown.add(row.dataset.group);
      number += 1;
    }
  }
  for (const row of table.querySelectorAll("tr.group")) row.hidden = !shown.has(row.dataset.group);
  count.textContent = words.length ? `${number} rows` : "";
}

function fold(table, folded) {
  table.classList.toggle("folded", folded);
  for (const span of table.querySelectorAll("th.span[data-kept]")) {
    span.colSpan = Number(folded ? span.dataset.kept : span.dataset.all);
  }
}

function enhanceTable(table) {
  const bar = el("div", { class: "bar" });
  if (table.tBodies[0].rows.length > 5) {
    const count = el("output", { class: "note" });
    const input = el("input", {
      type: "search", placeholder: "words to find", on: {
        input: () => filterRows(table, input.value, count),
      },
    });
    bar.append(el("label", {}, el("span", {}, "Filter rows"), input), count);
  }
  if (table.querySelector(".part")) {
    bar.append(checkbox("columns of each category", false, (on) => fold(table, !on)).field);
    fold(table, true);
  }
  if (table.classList.contains("clipped")) unclip(table);
  if (bar.children.length) table.parentNode.before(bar);
  sortable(table);
}
