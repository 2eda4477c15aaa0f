// The unit groups, a row each: name, kind, width, spectrum, N(λ)/m at the present λ, and what has been done.

import { BIASED } from "./constants.js";
import { degreesOfFreedom, suggestedWidth } from "./math.js";
import { costAt } from "./cost.js";
import {
  THIN, clamp, h, setText, focusIn, setOff, reveal, eigenvaluesOf, lamOf, alive, busy, send,
} from "./shared.js";
import { chooseGroup } from "./choosing.js";
import { setName } from "./names.js";
import { arranger } from "./arrange.js";
import { listSteps } from "./listkeys.js";
import { nameTip } from "./tip.js";
import { layerMenu } from "./layermenu.js";
import { lossesOf } from "./budgetrows.js";
import { lookAlso } from "./viewstate.js";
import { question } from "./glossary.js";
import { rowPainter } from "./sight.js";
import { spark } from "./sparkline.js";
import { staysLine, sizesLine } from "./stays.js";

const BESIDE_THE_HAND = 48; // milliseconds: while λ is dragged, its own plots come first, this list every third frame

// What a unit is: 'Linear heads', and in the hint how many rows each has.
const kindOf = (layer) => (layer.unit === "units" ? layer.kind : `${layer.kind} ${layer.unit}`);
const unitsOf = (layer) => `${layer.width} ${layer.unit}${layer.rows > 1 ? ` of ${layer.rows} rows` : ""}`;

function row(layer, state) {
  const title = h("span", { class: "wbw-name" });
  setName(title, layer.name);
  const mark = h("span", { class: "wbw-mark", "aria-hidden": "true" });
  const now = h("span", { class: "wbw-widths" });
  const note = h("span", { class: "wbw-note" });
  const bar = h("span", { class: "wbw-bar-fill wbw-scaled" });
  const share = h("span", { class: "wbw-share" });
  const node = h("li", { class: "wbw-layer", role: "option", "data-testid": `layer-${layer.name}`, tabindex: "-1" },
    mark, title, now,
    h("span", { class: "wbw-kind" }, note),
    layer.prunable ? h("span", { class: "wbw-eigen" }, spark(eigenvaluesOf(state, layer)), h("span", { class: "wbw-bar" }, bar), h("span", { class: "wbw-share-place" }, share)) : null);
  return { node, title, note, now, bar, share, layer };
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
  const share = (layer) => {
    const eigenvalues = eigenvaluesOf(state, layer);
    return layer.prunable && eigenvalues.length ? degreesOfFreedom(eigenvalues, lamOf(state, eigenvalues)) / eigenvalues.length : null;
  };
  const ofBudget = (layer, value) => {
    const at = (state.get("budget").names ?? []).indexOf(layer.name);
    return at < 0 ? null : value(state.get("budget"), at);
  };
  // What a group loses at the width that N(λ) suggests for it: to be computed where nobody stands on the tab Budget.
  const lossOf = ({ layer }) => ofBudget(layer, (budget, at) => {
    const [losses, eigenvalues] = [lossesOf(state)?.[at], eigenvaluesOf(state, layer)];
    return losses?.[0] > 0 && eigenvalues.length ? losses[Math.min(suggestedWidth(eigenvalues, lamOf(state, eigenvalues)), losses.length - 1)] / losses[0] : null;
  });
  let costs = null; // of the groups as they are, once a revision
  const costOf = ({ layer }) => ofBudget(layer, (budget, at) => {
    if (costs?.budget !== budget) costs = { budget, of: costAt(budget, budget.widths, state.get("reconstruction") === BIASED).shares };
    return costs.of[at].macs;
  });
  const order = arranger(state, on, {
    testid: "layers", list, show: (entries) => place(entries),
    orders: [["width", "width", ({ layer }) => layer.width, false], ["share", "N(λ)/m", ({ layer }) => share(layer), true], ["cost", "MACs", costOf, false], ["loss", "loss at N(λ)", lossOf, false]],
    sum: (members) => {
      const parts = members.map(({ layer }) => [share(layer), layer.count]).filter(([part]) => part !== null);
      const [kept, all] = [parts.reduce((sum, [part, m]) => sum + part * m, 0), parts.reduce((sum, [, m]) => sum + m, 0)];
      return all ? `${Math.round((100 * kept) / all)}${THIN}%` : "";
    },
    wanted: (name) => lookAlso(state, name === "loss" ? "budget" : ""),
  });
  el.append(h("h3", { class: "wbw-heading" }, "Layers", question(state, "group", "a group of units"), h("span", { class: "wbw-sub" }, "N(λ)/m at this λ"), question(state, "share of the width", "N(λ)/m")), order.tools, layerMenu(state, on, (name) => choose(name, false)), empty, list,
    staysLine(state, on), sizesLine(state, on), foot, nameTip(list, on, (node) => node.closest("li")));
  let rows = [];

  const choose = (name, focus) => {
    if (chooseGroup(state, name) && focus) rows.find((one) => one.layer.name === name)?.node.focus({ preventScroll: true });
  };
  list.addEventListener("click", (event) => {
    const row = order.entries().find(({ node, layer }) => layer && node.contains(event.target));
    if (row) choose(row.layer.name, true);
  });
  list.addEventListener("keydown", (event) => {
    const entries = order.entries();
    const [held, chosen] = [focusIn(list), entries.findIndex(({ layer }) => layer?.name === state.get("selected"))];
    const at = entries.findIndex(({ node }) => node === held);
    const { block, node } = entries[at] ?? {};
    if (block && ["Enter", " ", "ArrowLeft", "ArrowRight"].includes(event.key)) {
      event.preventDefault();
      event.stopPropagation();
      const open = node.getAttribute("aria-expanded") === "true";
      if (!event.key.startsWith("Arrow") || open === (event.key === "ArrowLeft")) order.toggle(block);
      return;
    }
    const step = listSteps(event, list, node);
    if (!step) return;
    const to = entries[clamp((at < 0 ? chosen : at) + step, 0, entries.length - 1)];
    if (to?.layer) return choose(to.layer.name, true);
    to?.node.focus({ preventScroll: true });
    reveal(list, to?.node);
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
  const shares = rowPainter(list, on, (one) => {
    if (one.block) return one.paint();
    const part = share(one.layer);
    if (part === null) return;
    one.bar.style.transform = `scaleX(${part.toFixed(4)})`;
    setText(one.share, `${Math.round(100 * part)}${THIN}%`);
  }, BESIDE_THE_HAND);
  const place = (entries) => {
    const [held, top] = [focusIn(list), list.scrollTop];
    list.replaceChildren(...entries.map(({ node }) => node));
    const isTree = list.dataset.tree === "true";
    list.setAttribute("role", isTree ? "tree" : "listbox");
    rows.forEach(({ node, blocks }) => {
      node.setAttribute("role", isTree ? "treeitem" : "option");
      if (isTree) node.setAttribute("aria-level", blocks.length + 1);
    });
    shares.of(entries);
    shares.paint();
    enter();
    list.scrollTop = top;
    if (list.contains(held)) held.focus({ preventScroll: true });
  };
  // Where the chosen group is out of the list, the keyboard comes in by the first line.
  const enter = () => {
    const entries = order.entries();
    const inside = entries.some(({ layer }) => layer?.name === state.get("selected"));
    entries.forEach(({ node, layer }, i) => (node.tabIndex = (inside ? layer?.name === state.get("selected") : i === 0) ? 0 : -1));
  };
  on("layers spectra", () => {
    const layers = state.get("layers") ?? [];
    const held = list.contains(focusIn(list));
    const top = list.scrollTop;
    rows = layers.map((layer) => row(layer, state));
    empty.hidden = layers.length > 0;
    rows.forEach(mark);
    marked = state.get("selected");
    order.of(rows);
    list.scrollTop = top;
    if (held) rows.find((one) => one.layer.name === state.get("selected"))?.node.focus({ preventScroll: true });
  });
  let revealed = "";
  on("layers selected", () => {
    const name = state.get("selected");
    if (name !== revealed) order.unfold((revealed = name));
    enter();
    const node = rows.find((one) => one.layer.name === name)?.node;
    if (node?.parentNode) reveal(list, node);
  });
  on("losses losses_of budget", order.stir);
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
  on("lam", () => (shares.paint(), order.stir()));
  on("progress kernel error", () => {
    setOff(remeasure, busy(state) || !alive(state));
    setText(empty, busy(state) ? "The groups appear here when the model is loaded." : "No model is loaded.");
  });
}
