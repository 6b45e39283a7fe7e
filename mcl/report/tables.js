"use strict";
// Tables are sorted by a click, Enter or Space on a heading, and filtered by words that are typed above them.
(() => {
  const FEWEST = 3, FILTERED = 8; // rows from which a table is sorted, and filtered
  const ABSENT = /^(|n\/a|–|—|too short|not said)$/;
  const NUMBER = /^[★+\s]*(-?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?:\s*%|\s+[a-z]+)?(?:\s*\[.*\])?$/i;
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  // The number of a cell with all its digits, where it has one.
  const number = (cell) => {
    for (const exact of [cell.dataset.value, cell.title]) if (exact && Number.isFinite(Number(exact))) return Number(exact);
    const seen = cell.textContent.trim().match(NUMBER);
    return seen ? Number(seen[1].replaceAll(",", "")) : undefined;
  };
  const absent = (cell) => !cell || ABSENT.test(cell.textContent.trim());

  // A number, or a word where any cell of the column holds one.
  const keys = (rows, column) => {
    const cells = rows.map((row) => row.cells[column]), given = cells.filter((cell) => !absent(cell));
    const counted = given.every((cell) => number(cell) !== undefined);
    return { counted, values: new Map(rows.map((row, i) => [row, absent(cells[i]) ? null : counted ? number(cells[i]) : cells[i].textContent.trim()])) };
  };

  const sort = (table, head, original) => {
    const body = table.tBodies[0], column = head.cellIndex, { counted, values } = keys(original, column);
    const order = counted ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"]; // the largest number first
    const next = order[(order.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
    for (const other of table.tHead.rows[0].cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", next);
    const sign = next === "descending" ? -1 : 1, place = new Map(original.map((row, i) => [row, i]));
    const compare = (a, b) => {
      const [x, y] = [values.get(a), values.get(b)];
      if (x === null || y === null) return (x === null) - (y === null) || place.get(a) - place.get(b); // what is absent stands last
      return sign * (counted ? x - y : words.compare(x, y)) || place.get(a) - place.get(b);
    };
    body.append(...(next === "none" ? original : [...original].sort(compare)));
  };

  const sortable = (table) => {
    const original = [...table.tBodies[0].rows];
    for (const head of table.tHead.rows[0].querySelectorAll("th")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => sort(table, head, original));
    }
  };

  const filterable = (table) => {
    const rows = [...table.tBodies[0].rows], line = document.createElement("p"), label = document.createElement("label");
    const input = document.createElement("input"), count = document.createElement("output");
    line.className = "picker filter";
    input.type = "search";
    label.append("Filter ", input);
    input.setAttribute("aria-label", `Filter ${table.getAttribute("aria-label") || "the table"}`);
    line.append(label, count);
    (table.closest(".scroll") || table).before(line);
    input.addEventListener("input", () => {
      const typed = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) row.hidden = !typed.every((word) => row.textContent.toLowerCase().includes(word));
      const left = rows.filter((row) => !row.hidden).length;
      count.textContent = !typed.length ? "" : left ? `${left.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows` : "No row has these words. Type fewer.";
    });
  };

  for (const table of document.querySelectorAll("table:not(.months, .facts, .funnel)")) {
    const rows = table.tHead && table.tBodies[0] ? table.tBodies[0].rows : [];
    if (rows.length >= FEWEST) sortable(table);
    if (rows.length >= FILTERED) filterable(table);
  }
})();
