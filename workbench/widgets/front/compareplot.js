// The answer to a comparison: a table, and a plot of every way; at one budget by criterion, at several against MACs.

import { NOT_COMPARED, RECONSTRUCTIONS, SELECTIONS, SWAPPED } from "./constants.js";
import { THIN, h, s, count, trimmed, score } from "./shared.js";
import { linearTicks, scale, tickTexts, axes, plot } from "./axes.js";

const shortNames = (options) => Object.fromEntries(options.map(([name, , short]) => [name, short]));
export const WAY_NAMES = shortNames(RECONSTRUCTIONS);
const SHORT = shortNames(SELECTIONS);
const several = (answer) => (answer.budgets ?? []).length > 1;

// Rows of one selection and reconstruction, one a budget: [{ selection, reconstruction, rows }], the best first.
function waysOf(answer) {
  const ways = new Map();
  for (const row of answer.rows ?? []) {
    const key = `${row.selection} ${row.reconstruction}`;
    if (!ways.has(key)) ways.set(key, { ...row, rows: [] });
    ways.get(key).rows.push(row);
  }
  const each = Math.min(...[...ways.values()].map(({ rows }) => rows.length)); // that all have, while rows come in
  const mean = ({ rows }) => rows.slice(0, each).reduce((sum, row) => sum + (row.score ?? -1), 0) / each;
  return [...ways.values()].sort((a, b) => mean(b) - mean(a));
}
const scoresOf = (answer) => [...answer.rows.map((row) => row.score), answer.unpruned].filter((one) => one !== null && one !== undefined);
const lowest = (answer) => Math.min(...scoresOf(answer), 1);

const MARKS = { // a shape a reconstruction, so that no colour is needed to tell them
  none: "M-4-4L4 4M4-4L-4 4", channel: "M0-5A5 5 0 1 1 0 5A5 5 0 1 1 0-5Z", kernel: "M-4.5-4.5H4.5V4.5H-4.5Z", original: "M0-6L5.5 4.5H-5.5Z" };
const mark = (kind, x, y, hue = null) => s("path", { class: hue === null ? `wbw-way wbw-way-${kind}` : `wbw-hued wbw-hued-${kind}`, style: hue === null ? null : `--wbw-hue: var(--wbw-hue-${hue})`, d: MARKS[kind], transform: `translate(${x} ${y})` });
// Nine hues for ten selections: the one that is not compared lends its own.
const HUED = SELECTIONS.map(([name]) => name).filter((name) => name !== SWAPPED);
const hueOf = (name) => HUED.indexOf(name === SWAPPED ? NOT_COMPARED : name);

// `use(row, kind, text)` gives a button that takes a row over, null where it cannot be.
export function tableOf(answer, lit, use) {
  const names = (one) => [h("span", { class: "wbw-name", title: one.selection }, several(answer) ? SHORT[one.selection] : one.selection), h("span", {}, WAY_NAMES[one.reconstruction] + (one.reestimate ? ", norms" : ""))];
  const cell = (row) => h("span", { class: "wbw-cell", "data-testid": "compare-score" }, score(row.score));
  if (several(answer)) {
    const columns = `grid-template-columns: 16px minmax(0, 1fr) 74px repeat(${answer.budgets.length}, 46px)`;
    const row = (one) => {
      const key = s("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14" }, mark(one.reconstruction, 0, 0, hueOf(one.selection)));
      const cells = answer.budgets.map((_, i) => one.rows.find((part) => part.budget === i)).map((part) => (part ? use(part, "wbw-use-score", score(part.score), "compare-score") ?? cell(part) : h("span", { class: "wbw-cell" }, "–")));
      const item = h("li", { class: "wbw-compare-row", style: columns, "data-testid": "compare-row" }, key, ...names(one), ...cells);
      item.addEventListener("pointerenter", () => lit(`${one.selection} ${one.reconstruction}`));
      item.addEventListener("pointerleave", () => lit(""));
      return item;
    };
    const titles = answer.budgets.map((one) => h("span", { class: "wbw-cell", title: `${count(one.macs)} MACs` }, one.title));
    return [h("li", { class: "wbw-compare-row wbw-steps-head", style: columns }, h("span", {}), h("span", {}, "selection"), h("span", {}, "reconstruct"), ...titles), ...waysOf(answer).map(row)];
  }
  const best = Math.max(answer.unpruned ?? 0, ...answer.rows.map((row) => row.score ?? 0), 1e-9);
  const row = ({ rows: [one] }) => h("li", { class: "wbw-compare-row", "data-testid": "compare-row" }, ...names(one),
    h("span", { class: "wbw-bar" }, h("span", { class: "wbw-bar-fill", style: `width: ${(100 * Math.max(one.score ?? 0, 0)) / best}%` })),
    cell(one), h("span", { class: "wbw-cell" }, `${one.seconds.toFixed(1)}${THIN}s`), use(one, "wbw-use", "use this", "compare-use"));
  return [h("li", { class: "wbw-compare-row wbw-steps-head" }, h("span", {}, "selection"), h("span", {}, "reconstruct"), h("span", {}),
    h("span", { class: "wbw-cell" }, answer.metric), h("span", { class: "wbw-cell" }, "took"), h("span", {})), ...waysOf(answer).map(row)];
}

// The vertical axis of both plots, with the unpruned network's score across it.
function scoreAxis(answer, box, all, xTicks) {
  const values = scoresOf(answer);
  const spread = Math.max(Math.max(...values) - lowest(answer), 0.01);
  const [low, high] = [Math.min(...values) - 0.08 * spread, Math.max(...values) + 0.08 * spread];
  const y = scale(low, high, box.bottom, box.top);
  const yTicks = linearTicks(low, high, Math.max(3, Math.floor((box.bottom - box.top) / 26)));
  const grid = s("g");
  axes(grid, box, xTicks, tickTexts(yTicks, y));
  all.append(grid);
  if (answer.unpruned !== null) {
    all.append(s("line", { class: "wbw-unpruned", x1: box.left, x2: box.right, y1: y(answer.unpruned), y2: y(answer.unpruned) }),
      s("text", { class: "wbw-label", x: box.right + 6, y: y(answer.unpruned) + 4 }, "unpruned"));
  }
  return y;
}

// One budget: a column a selection, a mark a reconstruction.
function dotsAt(answer, all, width, height) {
  const names = [...new Set(waysOf(answer).map((way) => way.selection))];
  const kinds = [...new Set(answer.rows.map((row) => row.reconstruction))];
  const box = { left: 52, right: width - 84, top: 10, bottom: height - 22 };
  const x = (name) => box.left + ((names.indexOf(name) + 0.5) / names.length) * (box.right - box.left);
  const y = scoreAxis(answer, box, all, names.map((name) => [x(name), SHORT[name]]));
  const shift = (kind) => (kinds.indexOf(kind) - (kinds.length - 1) / 2) * Math.min(13, (box.right - box.left) / names.length / (kinds.length + 0.5));
  for (const row of answer.rows.filter((one) => one.score !== null)) {
    const point = mark(row.reconstruction, x(row.selection) + shift(row.reconstruction), y(row.score));
    point.append(s("title", {}, `${row.selection}, ${row.reconstruction}: ${score(row.score)}`));
    all.append(point);
  }
  kinds.forEach((kind, i) => {
    const line = box.bottom - 4 - 16 * (kinds.length - 1 - i);
    all.append(mark(kind, box.right + 14, line - 4), s("text", { class: "wbw-label", x: box.right + 24, y: line }, WAY_NAMES[kind]));
  });
}

// Several budgets: score against MACs, a line a way; the table's marks are the legend.
function linesAt(answer, all, width, height) {
  const box = { left: 52, right: width - 66, top: 10, bottom: height - 34 };
  const most = Math.max(...answer.budgets.map((one) => one.macs)) * 1.05;
  const x = scale(0, most, box.left, box.right);
  const xTicks = linearTicks(0, most, Math.floor((box.right - box.left) / 70)).filter((value) => value <= most);
  const y = scoreAxis(answer, box, all, xTicks.map((value) => [x(value), value ? trimmed(count(value)) : "0"]));
  all.append(s("text", { class: "wbw-title-x", x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, "MACs"));
  for (const way of waysOf(answer).reverse()) {
    const points = way.rows.filter((row) => row.score !== null).map((row) => [x(row.macs), y(row.score), row]);
    const line = s("path", { class: "wbw-hued-line", style: `--wbw-hue: var(--wbw-hue-${hueOf(way.selection)})`, d: points.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("") });
    const dots = points.map(([a, b, row]) => {
      const dot = mark(way.reconstruction, a, b, hueOf(way.selection));
      dot.append(s("title", {}, `${row.selection}, ${row.reconstruction}: ${score(row.score)} at ${count(row.macs)} MACs`));
      return dot;
    });
    all.append(s("g", { class: "wbw-line-group", "data-way": `${way.selection} ${way.reconstruction}` }, line, ...dots));
  }
}

export function comparePlot(state, on, holder) {
  const all = s("g");
  const redraw = () => {
    const answer = state.get("comparison");
    const { width, height } = view.size;
    all.replaceChildren();
    if (!width || !answer.rows?.some((row) => row.score !== null)) return;
    (several(answer) ? linesAt : dotsAt)(answer, all, width, height);
  };
  // The line of a way stands out while its row is pointed at.
  const lit = (way) => all.querySelectorAll(".wbw-line-group").forEach((group) => group.classList.toggle("wbw-faint", Boolean(way) && group.dataset.way !== way));
  const view = plot(holder, on, redraw, { "aria-label": "score of every way", "data-testid": "compare-plot", "data-plot": "comparison" });
  view.svg.append(all);
  return { redraw, lit };
}

