"use strict";
(() => {
  const table = document.getElementById("images");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const keys = [];
  let texts = null;

  // What a column is sorted by: the number that a cell has, or else its text.
  const keysOf = (column) => keys[column] ??= new Map(rows.map((row) => {
    const cell = row.cells[column];
    const number = cell.dataset.s;
    return [row, number === undefined ? cell.textContent : Number(number)];
  }));
  const compare = (one, other) => one < other ? -1 : one > other ? 1 : 0;

  const sort = (column, isDescending) => {
    const of = keysOf(column);
    const sign = isDescending ? -1 : 1;
    // Equal ones stay in the order of the plan.
    const sorted = rows.slice().sort((one, other) => sign * compare(of.get(one), of.get(other)));
    const all = document.createDocumentFragment();
    all.append(...sorted);
    body.append(all);
    heads.forEach((head, place) => {
      if (place === column) head.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  };

  const tools = document.createElement("div");
  tools.id = "tools";
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "Search names, results, digests";
  field.setAttribute("aria-label", "Search images");
  const told = document.createElement("span");
  told.className = "soft";
  told.setAttribute("role", "status");
  tools.append(field, told);
  table.before(tools);

  const search = () => {
    texts ??= rows.map((row) => row.textContent.toLowerCase());
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, place) => {
      const isShown = words.every((word) => texts[place].includes(word));
      if (row.hidden === isShown) row.hidden = !isShown;
      if (isShown) count += 1;
    });
    told.textContent = words.length ? `${count} of ${rows.length} images` : "";
  };
  field.addEventListener("input", search);

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(column, head.getAttribute("aria-sort") === "ascending"));
    head.replaceChildren(button);
  });
})();
