// Which units stay: a mark a unit, in the order in which the layer has them.

import { h, s, setText, setAttributes, layerOf } from "./shared.js";
import { plot } from "./axes.js";

const GAP = 1; // between two marks
const LARGEST_MARK = 38; // of a mark's sides

// Columns and side of the largest squares of which `count` fit.
function packing(count, width, height) {
  for (let side = Math.min(LARGEST_MARK, Math.floor(height)); side > 2; side--) {
    const columns = Math.floor(width / side);
    if (columns && Math.ceil(count / columns) * side <= height) return { columns, side };
  }
  return { columns: Math.max(1, Math.floor(width / 2)), side: 2 };
}

const squares = (units, { columns, side }) => units.map((j) =>
  `M${(j % columns) * side} ${Math.floor(j / columns) * side}h${side - GAP}v${side - GAP}h${GAP - side}z`).join("");

// `orderOf(layer)`: the units as they are taken, or null where nobody knows; repainted with the traits `names`. `at(point)`
// of what it returns is the unit at a place of the svg, or −1; `point(unit)` marks one.
export function unitStrip(state, on, orderOf, names) {
  const holder = h("div", { class: "wbw-plot wbw-still-units" });
  const words = h("span", { class: "wbw-sub", "data-testid": "units-words" });
  const [lost, kept, title] = [s("path", { class: "wbw-lost" }), s("path", { class: "wbw-kept", "data-testid": "units-kept" }), s("title", {})];
  const mark = s("rect", { class: "wbw-unit-mark", "pointer-events": "none" });
  let pointed = -1;
  let packed = null;
  const paint = () => {
    if (!packed) return; // not seen yet, or of no group
    const layer = layerOf(state);
    const order = layer ? orderOf(layer) : null;
    const shown = Boolean(order);
    for (const one of [lost, kept]) if (!shown) one.setAttribute("d", "");
    if (!shown) return;
    const width = state.get("width");
    const chosen = [...order.subarray(0, width)].sort((a, b) => a - b);
    const of = (units) => units.map((j) => layer.units?.[j] ?? j);
    const stays = new Set(chosen);
    kept.setAttribute("d", squares(chosen, packed));
    lost.setAttribute("d", squares(Array.from({ length: layer.width }, (_, j) => j).filter((j) => !stays.has(j)), packed));
    kept.dataset.units = of(chosen).join(" ");
    setText(title, `${layer.unit} kept: ${of(chosen).join(", ")}`);
    setText(words, chosen.length < width ? `computed up to ${chosen.length} ${layer.unit} at this λ` : `${chosen.length} of ${layer.width} ${layer.unit}, in the layer's own order`);
  };
  const redraw = () => {
    const layer = layerOf(state);
    const { width, height } = view.size;
    packed = layer && width ? packing(layer.width, width, height) : null;
    paint();
    point(pointed);
  };
  const view = plot(holder, on, redraw, { "aria-label": "units that stay" });
  setAttributes(view.svg, { "data-testid": "units" });
  view.svg.append(title, lost, kept, mark);
  const point = (unit) => {
    pointed = unit;
    const here = packed && unit >= 0 && unit < (layerOf(state)?.width ?? 0);
    mark.style.display = here ? "" : "none";
    if (!here) return;
    const { columns, side } = packed;
    setAttributes(mark, { x: (unit % columns) * side - 1, y: Math.floor(unit / columns) * side - 1, width: side + GAP, height: side + GAP });
  };
  const at = ([x, y]) => {
    if (!packed || x < 0 || y < 0) return -1;
    const column = Math.floor(x / packed.side);
    const unit = Math.floor(y / packed.side) * packed.columns + column;
    return column < packed.columns && unit < (layerOf(state)?.width ?? 0) ? unit : -1;
  };
  on("selected layers", redraw);
  on(names, paint);
  return { holder, words, svg: view.svg, at, point };
}
