// Tables whose rows are changed in place: what has the focus keeps it, and what is read aloud is not begun anew.

import { text } from "./texts.js";

/**
 * A column: the key of its name, what it shows of an item, and how.
 * @template Item
 * @typedef {{ name: string, show?: (item: Item) => string, kind?: string | ((item: Item) => string), link?: (item: Item) => string, press?: (item: Item) => void, label?: (item: Item) => string }} Column
 */

/**
 * Shows `items` in a table.
 * @template Item
 * @param {HTMLTableElement} table
 * @param {Column<Item>[]} columns
 * @param {Item[]} items
 * @param {(item: Item) => string} keyOf
 */
export function showRows(table, columns, items, keyOf) {
  name(table, columns);
  const body = table.tBodies[0] ?? table.createTBody();
  const wanted = new Set(items.map(keyOf));
  /** @type {Map<string, HTMLTableRowElement>} */
  const known = new Map();
  for (const row of [...body.rows]) {
    const key = row.dataset.key ?? "";
    if (wanted.has(key)) known.set(key, row);
    else row.remove();
  }
  items.forEach((item, at) => {
    const key = keyOf(item);
    const row = known.get(key) ?? newRow(columns, key);
    if (body.rows[at] !== row) body.insertBefore(row, body.rows[at] ?? null);
    columns.forEach((column, place) => fill(row.cells[place], column, item));
  });
  table.hidden = items.length === 0;
}

/**
 * Names the columns, in the reader's language.
 * @param {HTMLTableElement} table
 * @param {Column<any>[]} columns
 */
function name(table, columns) {
  const names = columns.map((column) => text(column.name)).join("\n");
  if (table.dataset.names === names) return;
  table.dataset.names = names;
  table.replaceChildren();
  table.setAttribute("role", "table");
  const row = table.createTHead().insertRow();
  row.setAttribute("role", "row");
  for (const column of columns) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.setAttribute("role", "columnheader");
    cell.textContent = text(column.name);
    row.append(cell);
  }
  table.createTBody();
}

/**
 * @param {Column<any>[]} columns
 * @param {string} key
 */
function newRow(columns, key) {
  const row = document.createElement("tr");
  row.dataset.key = key;
  row.setAttribute("role", "row");
  for (const column of columns) {
    const cell = row.insertCell();
    // Blocks on narrow screens are cells all the same.
    cell.setAttribute("role", "cell");
    cell.dataset.name = text(column.name);
  }
  return row;
}

/**
 * @param {HTMLTableCellElement} cell
 * @param {Column<any>} column
 * @param {any} item
 */
function fill(cell, column, item) {
  const kind = typeof column.kind === "function" ? column.kind(item) : column.kind ?? "";
  if (cell.className !== kind) cell.className = kind;
  const { press, label } = column;
  if (press) {
    if (cell.firstChild) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = text(column.name);
    if (label) button.setAttribute("aria-label", label(item));
    button.addEventListener("click", () => press(item));
    cell.append(button);
    return;
  }
  const shown = column.show?.(item) ?? "";
  if (cell.textContent === shown) return;
  if (!column.link) {
    cell.textContent = shown;
    return;
  }
  const link = document.createElement("a");
  link.href = column.link(item);
  link.rel = "noreferrer";
  link.textContent = shown;
  cell.replaceChildren(link);
}

/**
 * Shows names and values.
 * @param {HTMLElement} list a `dl`
 * @param {[string, string][]} facts
 */
export function showFacts(list, facts) {
  const shown = facts.map((fact) => fact.join("\n")).join("\n");
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  list.replaceChildren(...facts.map(([key, value]) => {
    const group = document.createElement("div");
    const [term, told] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, told.textContent] = [key, value];
    group.append(term, told);
    return group;
  }));
}
