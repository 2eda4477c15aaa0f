// The rows of the budget: a group each, with its spectrum, width, lock, share of the cost and predicted loss.

import { BUDGET_LAM } from "./constants.js";
import { traceOf, degreesOfFreedom } from "./math.js";
import { clamp, h, setText, focusIn, power, percent, fixed, numbers, eigenvaluesOf, update } from "./shared.js";
import { setName } from "./names.js";
import { arranger } from "./arrange.js";
import { moveAmong } from "./listkeys.js";
import { nameTip } from "./tip.js";
import { rowPainter } from "./sight.js";
import { spark } from "./sparkline.js";
import { beyond, typedEntry, slider } from "./controls.js";
import { explainHeads } from "./glossary.js";
import { nameCells } from "./telling.js";

const PRUNING_LAM = `the λ at which Commit all prunes, ${power(Math.log10(BUDGET_LAM))} Tr Σ; that of the tab Layer is at the λ set there`;
const LONG_NAME = 22; // letters of a name, from which on the rows of a long list have two lines
const LOSS_DECADES = 4; // the loss bar is logarithmic, from 0.01 % to all

export const layersOf = (state) => {
  const byName = new Map((state.get("layers") ?? []).map((layer) => [layer.name, layer]));
  return (state.get("budget").names ?? []).map((name) => byName.get(name));
};
export function widthsOf(state) {
  const { names = [], widths = [] } = state.get("budget");
  const set = state.get("widths");
  return names.map((name, i) => clamp(set[name] ?? widths[i], 1, widths[i]));
}
// The losses of every group at widths 0 to m, null while the kernel computes them.
export function lossesOf(state) {
  if (state.get("losses_of") !== state.get("revision")) return null;
  const values = numbers(state.get("losses"));
  let from = 0;
  return state.get("budget").widths.map((m) => values.subarray(from, (from += m + 1)));
}

// Of what keeping none would lose, at the `width`.
const leftOf = (losses, width) => (losses[0] > 0 ? losses[width] / losses[0] : 0);
const freedomAt = (state, layer, relative) => {
  const eigenvalues = eigenvaluesOf(state, layer);
  return degreesOfFreedom(eigenvalues, relative * traceOf(eigenvalues));
};

function budgetRow(state, layer, index, set) {
  const { name, width: m } = layer;
  const title = h("span", { class: "wbw-name" });
  const hint = () => (layer.stale ? `${name} was ${layer.stale}: it is measured again when a rule is pressed or the plan is committed` : name);
  setName(title, name, hint());
  const lock = h("input", { type: "checkbox", "data-testid": `budget-lock-${name}`, "aria-label": `lock ${name}`, title: "Locked: neither λ nor a rule moves it",
    onchange: () => {
      const others = state.get("locks").filter((one) => one !== name);
      update(state, { locks: lock.checked ? [...others, name] : others });
    } });
  const range = slider(`budget-slider-${name}`, `width of ${name}`, (value) => set(index, value), 1, () => Math.max(1, Math.round(m / 10)));
  const typed = typedEntry({ type: "number", class: "wbw-entry", min: 1, max: m, "data-testid": `budget-width-${name}`, "aria-label": `width of ${name}` },
    () => String(widthsOf(state)[index] ?? ""), (text) => {
      if (!text) return;
      set(index, Number(text));
      refused = { text: beyond(Number(text), m), at: widthsOf(state)[index] };
      sayOf(refused.at);
    }, () => `${state.get("name")}: ${state.get("budget").names?.[index]}`);
  let refused = { text: "", at: 0 }; // what a typed width went past, while the one that was taken stands
  const of = h("span", { class: "wbw-of", title: `A width from 1 to ${m}`, "data-testid": `budget-of-${name}` });
  const sayOf = (width) => {
    if (refused.at !== width) refused = { text: "", at: 0 };
    setText(of, refused.text || `of ${m}`);
    of.classList.toggle("wbw-unmet", Boolean(refused.text));
  };
  const cell = (testid) => h("span", { class: "wbw-cell", "data-testid": testid && `${testid}-${name}` });
  const [freedom, parameters, macs, loss] = [cell("budget-N"), cell("budget-parameters"), cell("budget-macs"), cell("budget-loss")];
  const bar = h("span", { class: "wbw-bar-fill" });
  const node = h("li", { class: "wbw-budget-row", "data-testid": `budget-row-${name}` },
    h("label", { class: "wbw-lock" }, lock), title, spark(eigenvaluesOf(state, layer)), freedom, range, typed,
    of, parameters, macs, h("span", { class: "wbw-bar wbw-loss-bar" }, bar), loss);
  if (layer.stale) node.classList.add("wbw-stale-row");
  const paint = (width, lam, share, total, losses, locked) => {
    const N = freedomAt(state, layer, lam);
    setText(freedom, fixed(N, N < 99.95 ? 1 : 0));
    range.paint(1, m, width, String(width));
    typed.paint();
    sayOf(width);
    lock.checked = locked;
    range.disabled = typed.disabled = locked;
    setText(parameters, percent(share.parameters / total.parameters));
    setText(macs, percent(share.macs / total.macs));
    const left = losses ? leftOf(losses, width) : null;
    setText(loss, left !== null ? percent(left) : losses === null ? "…" : "–");
    bar.style.width = left > 0 ? `${clamp(100 * (1 + Math.log10(left) / LOSS_DECADES), 0, 100)}%` : "0";
  };
  return { node, index, paint, typed, layer, title, hint };
}

// The list with its head, and what stays in one line below. `set(index, width)` moves one group; `lossesNow(state)`
// gives the losses of each at its widths, or null while they are computed. `tools` stand above a list of more
// than `limit` groups.
export function budgetList(state, on, set, { lossesNow = lossesOf, limit } = {}) {
  const head = (text, hint, kind = "wbw-cell") => h("span", { class: kind, title: hint }, text);
  const list = h("ul", { class: "wbw-budget-list", "aria-label": "widths of all groups" });
  const heads = h("li", { class: "wbw-budget-row wbw-steps-head" },
    head("lock", "Neither λ nor a rule moves a locked group", ""), head("group", "", ""), head("spectrum", "", ""), head("N(λ)", "Degrees of freedom at the λ for all, which is set at the right"),
    head("width", "", ""), h("span", {}), h("span", {}),
    head("param.", "Part of the plan's parameters that lie in the layers that make these units"),
    head("MACs", "Part of the plan's MACs that the layers take that make these units"),
    head("output loss", `Predicted output loss of this group alone, relative to keeping none, at ${lossesNow === lossesOf ? PRUNING_LAM : "the nearest λ that was computed"}. The bar is logarithmic, from 0.01 % to all`, "wbw-loss-head"), h("span", {}));
  if (lossesNow === lossesOf) explainHeads(state, heads, ["lock", null, "spectrum", "degrees of freedom", "width", null, null, "share of the cost", "share of the cost", "output loss"]);
  const summary = h("summary", {});
  const reasons = h("ul", {});
  const rest = h("details", { class: "wbw-rest", "data-testid": "budget-rest" }, summary, reasons);
  let [rows, latest] = [[], null];
  const order = arranger(state, on, {
    testid: "budget", list, limit, show: (entries) => place(entries),
    orders: [["width", "width", ({ index }) => latest && latest.widths[index], false],
      ["share", "N(λ)/m", ({ layer }) => latest && freedomAt(state, layer, latest.lam) / layer.width, true],
      ["cost", "MACs", ({ index }) => latest && latest.total.shares[index].macs, false],
      ["loss", "loss", ({ index }) => (latest?.losses ? leftOf(latest.losses[index], latest.widths[index]) : null), false]],
    sum: (members) => (latest ? `${members.reduce((all, { index }) => all + latest.widths[index], 0)} of ${members.reduce((all, { layer }) => all + layer.width, 0)}` : ""),
  });
  const made = { list, tools: [order.tools, nameTip(list, on, (node) => node.closest(".wbw-budget-row"))], built: () => {} };
  moveAmong(list, ".wbw-lock input");
  const painter = rowPainter(list, on, (row) => {
    if (row.block) return row.paint();
    const { names, widths, total, lam, losses, locks } = latest;
    const i = row.index;
    row.paint(widths[i], lam, total.shares[i], total, losses && losses[i], locks.has(names[i]));
  });
  const place = (entries) => {
    const [held, top] = [focusIn(list), list.scrollTop];
    list.replaceChildren(heads, ...entries.map(({ node }) => node), h("li", { class: "wbw-rest-row" }, rest));
    list.classList.toggle("wbw-long", entries.length > 0 && order.isMany() && rows.some(({ title }) => title.dataset.name.length > LONG_NAME));
    painter.of(entries);
    if (latest) painter.paint();
    list.scrollTop = top;
    if (list.contains(held)) held.focus({ preventScroll: true });
  };
  on("layers budget spectra measured", () => {
    const top = list.scrollTop;
    const focus = focusIn(list);
    const held = list.contains(focus) ? focus.dataset.testid : "";
    const text = rows.find((row) => row.typed.dataset.testid === held)?.typed.handOver() ?? null;
    const layers = layersOf(state);
    rows = layers.every(Boolean) && state.get("measured") ? layers.map((layer, i) => budgetRow(state, layer, i, set)) : [];
    rows.forEach((row) => nameCells(row.node, heads));
    const others = (state.get("layers") ?? []).filter((layer) => !layer.prunable);
    rest.hidden = !others.length || !rows.length;
    setText(summary, `${others.length} more ${others.length === 1 ? "stays" : "stay"}: ${others.map((layer) => layer.name).join(", ")}`);
    reasons.replaceChildren(...others.map((layer) => h("li", {}, h("b", {}, layer.name), ` ${layer.why_not}`)));
    latest = null; // the next paint has the numbers of these rows
    order.of(rows);
    list.scrollTop = top;
    const heir = held && [...list.querySelectorAll("[data-testid]")].find((node) => node.dataset.testid === held);
    if (heir && text !== null) heir.takeOver(text);
    else heir?.focus?.({ preventScroll: true });
    made.built(); // a listener of its own might have had its turn before the rows were there
  });
  const paint = (widths, total) => {
    const names = state.get("budget").names;
    latest = { names, widths, total, lam: state.get("budget_lam"), losses: lossesNow(state), locks: new Set(state.get("locks")) };
    list.classList.toggle("wbw-losses-lag", !latest.losses);
    painter.paint();
    order.stir();
  };
  return Object.assign(made, { paint, filled: () => rows.length > 0 });
}
