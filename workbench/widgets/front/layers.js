// The unit groups, a row each: name, kind, width, spectrum, N(λ)/m at the present λ, and what has been done.

import { degreesOfFreedom, suggestedWidth } from "./math.js";
import {
  THIN, clamp, h, setText, focusIn, setOff, reveal, layerOf, eigenvaluesOf, lamOf, alive, busy, send, update,
} from "./shared.js";
import { setName } from "./names.js";
import { question } from "./glossary.js";
import { rowPainter } from "./sight.js";
import { spark } from "./sparkline.js";
import { staysLine, sizesLine } from "./stays.js";

// What a unit is: 'Linear heads', and in the hint how many rows each has.
const kindOf = (layer) => (layer.unit === "units" ? layer.kind : `${layer.kind} ${layer.unit}`);
const unitsOf = (layer) => `${layer.width} ${layer.unit}${layer.rows > 1 ? ` of ${layer.rows} rows` : ""}`;

function row(layer, state) {
  const name = h("span", { class: "wbw-name" });
  setName(name, layer.name);
  const mark = h("span", { class: "wbw-mark", "aria-hidden": "true" });
  const now = h("span", { class: "wbw-widths" });
  const note = h("span", { class: "wbw-note" });
  const bar = h("span", { class: "wbw-bar-fill wbw-scaled" });
  const share = h("span", { class: "wbw-share" });
  const node = h("li", { class: "wbw-layer", role: "option", "data-testid": `layer-${layer.name}`, tabindex: "-1" },
    mark, name, now,
    h("span", { class: "wbw-kind" }, note),
    layer.prunable ? h("span", { class: "wbw-eigen" }, spark(eigenvaluesOf(state, layer)), h("span", { class: "wbw-bar" }, bar), h("span", { class: "wbw-share-place" }, share)) : null);
  return { node, note, now, bar, share, layer };
}

function standing(layer, selected, width) {
  if (!layer.prunable) return ["fixed", `not prunable: ${layer.why_not}`];
  if (layer.stale) return ["stale", layer.stale];
  if (!layer.count) return ["untouched", "not measured"];
  const previewing = selected && width < layer.width;
  if (layer.width < layer.original) return ["committed", previewing ? `committed · previewing ${width}` : "committed"];
  return previewing ? ["previewing", `previewing ${width}`] : ["untouched", "untouched"];
}

export function drawLayers(state, el, on) {
  const list = h("ul", { class: "wbw-list", role: "listbox", "aria-label": "unit groups" });
  const foot = h("div", { class: "wbw-foot" });
  const remeasure = h("button", { class: "wbw-button wbw-wide", "data-testid": "remeasure", onclick: () => send(state, state.get("measured") ? "remeasure" : "measure") });
  const staleNote = h("p", { class: "wbw-hint" });
  foot.append(staleNote, remeasure);
  const empty = h("p", { class: "wbw-empty" });
  el.append(h("h3", { class: "wbw-heading" }, "Layers", question(state, "group", "a group of units"), h("span", { class: "wbw-sub" }, "N(λ)/m at this λ"), question(state, "share of the width", "N(λ)/m")), empty, list, staysLine(state, on), sizesLine(state, on), foot);
  let rows = [];

  const choose = (name, focus) => {
    const layer = layerOf(state, name);
    if (!layer) return;
    const values = { selected: name };
    const eigenvalues = eigenvaluesOf(state, layer);
    if (eigenvalues.length) values.width = suggestedWidth(eigenvalues, lamOf(state, eigenvalues));
    update(state, values);
    if (focus) rows.find((one) => one.layer.name === name)?.node.focus({ preventScroll: true });
  };
  list.addEventListener("click", (event) => choose(event.target.closest("li")?.dataset.testid.slice(6), true));
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -rows.length, End: rows.length }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = rows.findIndex((one) => one.layer.name === state.get("selected"));
    choose(rows[clamp(at + step, 0, rows.length - 1)].layer.name, true);
  });

  // What stands beside a group: of the one that is chosen it moves with the width, of the others with a step alone.
  let marked = "";
  const mark = ({ node, note, now, layer }) => {
    const chosen = layer.name === state.get("selected");
    const [kind, words] = standing(layer, chosen, state.get("width"));
    node.setAttribute("aria-selected", chosen);
    node.tabIndex = chosen ? 0 : -1;
    node.dataset.mark = kind;
    setText(note, kind === "stale" ? words : `${kindOf(layer)} · ${words}`);
    note.title = layer.prunable ? `${unitsOf(layer)}: ${words}` : words;
    now.title = unitsOf(layer);
    setText(now, layer.width < layer.original ? `${layer.original} → ${layer.width}` : `${layer.width}`);
  };
  const markChosen = () => {
    const before = marked;
    marked = state.get("selected");
    rows.filter(({ layer }) => layer.name === marked || layer.name === before).forEach(mark);
  };
  const shares = rowPainter(list, on, ({ bar, share, layer }) => {
    const eigenvalues = eigenvaluesOf(state, layer);
    if (!layer.prunable || !eigenvalues.length) return;
    const part = degreesOfFreedom(eigenvalues, lamOf(state, eigenvalues)) / eigenvalues.length;
    bar.style.transform = `scaleX(${part.toFixed(4)})`;
    setText(share, `${Math.round(100 * part)}${THIN}%`);
  });
  on("layers spectra", () => {
    const layers = state.get("layers") ?? [];
    const held = list.contains(focusIn(list));
    const top = list.scrollTop;
    rows = layers.map((layer) => row(layer, state));
    list.replaceChildren(...rows.map((one) => one.node));
    empty.hidden = layers.length > 0;
    rows.forEach(mark);
    marked = state.get("selected");
    shares.of(rows);
    shares.paint();
    list.scrollTop = top;
    if (held) rows.find((one) => one.layer.name === state.get("selected"))?.node.focus({ preventScroll: true });
  });
  on("layers selected", () => reveal(list, rows.find((one) => one.layer.name === state.get("selected"))?.node));
  on("layers measured progress", () => {
    const layers = state.get("layers") ?? [];
    const stale = layers.filter((layer) => layer.stale);
    const unmeasured = layers.some((layer) => layer.prunable) && !state.get("measured") && !busy(state);
    foot.hidden = !stale.length && !unmeasured;
    setText(remeasure, unmeasured ? "Measure" : "Measure again");
    if (unmeasured) setText(staleNote, "The groups are not measured yet.");
    else if (stale.length) setText(staleNote, `${stale.length === 1 ? `${stale[0].name} was` : `${stale.length} groups were`} ${stale[0].stale}`);
  });
  on("width selected", markChosen);
  on("lam", shares.paint);
  on("progress kernel error", () => {
    setOff(remeasure, busy(state) || !alive(state));
    setText(empty, busy(state) ? "The groups appear here when the model is loaded." : "No model is loaded.");
  });
}
