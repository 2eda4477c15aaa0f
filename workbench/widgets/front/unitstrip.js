// Which units stay: a mark a unit, in the order in which the layer has them.

import { h, s, setText, setAttributes, layerOf } from "./shared.js";
import { pathOf } from "./stillstate.js";
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

export function unitStrip(state, on) {
  const holder = h("div", { class: "wbw-plot wbw-still-units" });
  const words = h("span", { class: "wbw-sub", "data-testid": "units-words" });
  const [lost, kept, title] = [s("path", { class: "wbw-lost" }), s("path", { class: "wbw-kept", "data-testid": "units-kept" }), s("title", {})];
  let packed = null;
  const paint = () => {
    const layer = layerOf(state);
    const path = pathOf(state);
    const shown = Boolean(packed && path);
    for (const one of [lost, kept]) if (!shown) one.setAttribute("d", "");
    if (!shown) return;
    const width = state.get("width");
    const chosen = [...path.order.subarray(0, width)].sort((a, b) => a - b);
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
  };
  const view = plot(holder, on, redraw, { "aria-label": "units that stay" });
  setAttributes(view.svg, { "data-testid": "units" });
  view.svg.append(title, lost, kept);
  on("selected layers", redraw);
  on("curve width", paint);
  return { holder, words };
}
