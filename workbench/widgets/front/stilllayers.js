// The groups of a page, a row each: its name, its width, its spectrum as a shape, and N(λ)/m at the present λ.

import { THIN, clamp, h, setText, reveal, layerOf, eigenvaluesOf } from "./shared.js";
import { setName } from "./names.js";
import { spark } from "./sparkline.js";
import { freedomOf, choose } from "./stilllinks.js";

function row(state, layer) {
  const name = h("span", { class: "wbw-name" });
  setName(name, layer.name);
  const [widths, note, share] = ["wbw-widths", "wbw-note", "wbw-share"].map((kind) => h("span", { class: kind }));
  const bar = h("span", { class: "wbw-bar-fill" });
  const kind = layer.unit === "units" ? layer.kind : `${layer.kind} ${layer.unit}`;
  const why = layer.prunable ? layer.stale : `not prunable: ${layer.why_not}`;
  setText(note, `${kind}${why ? ` · ${why}` : layer.width < layer.original ? ` · ${layer.original} → ${layer.width} committed` : ""}`);
  note.title = why;
  const mark = layer.prunable ? (layer.stale ? "stale" : layer.width < layer.original ? "committed" : "untouched") : "fixed";
  const node = h("li", { class: "wbw-layer", role: "option", "data-mark": mark, tabindex: "-1" },
    h("span", { class: "wbw-mark", "aria-hidden": "true" }), name, widths, h("span", { class: "wbw-kind" }, note),
    layer.count ? h("span", { class: "wbw-eigen" }, spark(eigenvaluesOf(state, layer)), h("span", { class: "wbw-bar" }, bar), share) : null);
  const paint = () => {
    const chosen = layer.name === state.get("selected");
    node.setAttribute("aria-selected", chosen);
    node.tabIndex = chosen ? 0 : -1;
    const width = state.get("widths")[layer.name] ?? layer.width;
    setText(widths, width < layer.width ? `${layer.width} → ${width}` : `${layer.width}`);
    if (!layer.count) return;
    const part = freedomOf(eigenvaluesOf(state, layer), state.get("lam")) / layer.count;
    bar.style.width = `${100 * part}%`;
    setText(share, `${Math.round(100 * part)}${THIN}%`);
  };
  return { layer, node, paint };
}

export function layerList(state, on) {
  const rows = state.get("layers").map((layer) => row(state, layer));
  const list = h("ul", { class: "wbw-list", role: "listbox", "aria-label": "unit groups", "data-testid": "layers" }, ...rows.map((one) => one.node));
  const focus = (index) => {
    choose(state, rows[index].layer.name);
    rows[index].node.focus({ preventScroll: true });
  };
  rows.forEach((one, i) => one.node.addEventListener("click", () => focus(i)));
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -rows.length, End: rows.length }[event.key];
    if (!step) return;
    event.preventDefault();
    focus(clamp(rows.findIndex((one) => one.layer === layerOf(state)) + step, 0, rows.length - 1));
  });
  on("lam widths selected", () => rows.forEach((one) => one.paint()));
  on("selected", () => reveal(list, rows.find((one) => one.layer === layerOf(state))?.node));
  return list;
}
