// The cells of a table that can be pressed are one stop of the Tab key: arrows go from cell to cell, Home and End
// along a row. A table that is filled anew keeps its place and the focus.

import { clamp, focusIn } from "./shared.js";

const DOWN = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10 };
const cellsOf = (node) => [...node.querySelectorAll("[data-cell]")];

// Of a list whose rows are its children and whose cells have data-cell, a name of their own: fill(rows).
export function cellTable(list) {
  let reached = "";
  const reach = (cell) => {
    reached = cell.dataset.cell;
    for (const one of cellsOf(list)) one.tabIndex = one === cell ? 0 : -1;
  };
  const next = (cell, key) => {
    const rows = [...list.children].filter((row) => row.querySelector("[data-cell]"));
    const row = rows.find((one) => one.contains(cell));
    const across = cellsOf(row);
    const at = across.indexOf(cell);
    if (key in DOWN) {
      const other = cellsOf(rows[clamp(rows.indexOf(row) + DOWN[key], 0, rows.length - 1)]);
      return other[Math.min(at, other.length - 1)];
    }
    return across[{ ArrowLeft: Math.max(at - 1, 0), ArrowRight: Math.min(at + 1, across.length - 1), Home: 0, End: across.length - 1 }[key]];
  };
  list.addEventListener("focusin", (event) => event.target.dataset.cell && reach(event.target));
  list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !event.target.dataset.cell) return;
    const cell = next(event.target, event.key);
    if (!cell) return;
    event.preventDefault();
    cell.focus();
  });
  return (rows) => {
    const focus = focusIn(list);
    const held = list.contains(focus) && focus.dataset.cell;
    const top = list.firstChild ? list.scrollTop : 0; // what is asked of an empty list lays the page out all the same
    list.replaceChildren(...rows);
    if (top) list.scrollTop = top;
    const cells = cellsOf(list);
    const heir = cells.find((cell) => cell.dataset.cell === reached) ?? cells[0];
    if (heir) reach(heir);
    if (held) heir?.focus({ preventScroll: true });
  };
}
