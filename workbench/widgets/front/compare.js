// Ways to prune side by side, and how much each group bears alone.

import {
  BUDGET, NEEDS_LABELS, NOT_COMPARED, RATIOS, RECONSTRUCTIONS, RULES, SELECTIONS, SHARES, SHORT_WORDS, WAYS,
} from "./constants.js";
import { costAt } from "./cost.js";
import {
  clamp, h, setText, setAttributes, setOff, count, percent, trimmed, alive, busy, send, update,
  optionsOf, errorBox,
} from "./shared.js";
import { slider } from "./controls.js";
import { checkBox } from "./cards.js";
import { HEATS, hasKind, heatMap } from "./heatmap.js";
import { WAY_NAMES, tableOf, comparePlot } from "./compareplot.js";
import { cellTable } from "./cellkeys.js";
import { isUsed, useWay, useWidth, wayWords } from "./adopt.js";
import { widthsOf } from "./budgetrows.js";
import { explainHeads, question } from "./glossary.js";
import { nameCells } from "./telling.js";

const COMPARED = SELECTIONS.filter(([name]) => name !== NOT_COMPARED);
const LADDER = `${Math.min(...RATIOS)}× to ${Math.max(...RATIOS)}×`;
const AT = [[BUDGET, "the budget's widths"], ...RULES.map(([rule, text]) => [rule, `${LADDER}, ${text[0].toLowerCase()}${text.slice(1)}`])];
const waysNow = (state) => ({ ...WAYS, ...state.get("ways") });

// A check box for every option of one kind, kept in the trait `ways`.
function wayBoxes(state, on, key, options, caption) {
  const boxes = options.map(([name, text]) => {
    const box = checkBox(`compare-${name}${key === "reconstructions" ? "-reconstruction" : ""}`, text);
    box.input.addEventListener("change", () => {
      const chosen = options.map(([one]) => one).filter((one, i) => boxes[i].input.checked);
      update(state, { ways: { ...state.get("ways"), [key]: chosen } });
    });
    return box;
  });
  on("ways", () => boxes.forEach((box, i) => (box.input.checked = state.get("ways")[key].includes(options[i][0]))));
  return { boxes, node: h("fieldset", { class: "wbw-ways" }, h("legend", { class: "wbw-caption" }, caption), ...boxes.map((box) => box.node)) };
}

export function drawCompare(state, el, on) {
  const at = h("p", { class: "wbw-hint", "data-testid": "compare-at" });
  const way = (values) => update(state, { ways: { ...state.get("ways"), ...values } });
  const where = h("select", { class: "wbw-select", "data-testid": "compare-where", "aria-label": "at which widths", onchange: () => way({ at: where.value }) },
    ...AT.map(([value, text]) => h("option", { value }, text)));
  const theta = slider("compare-theta", "θ of the greedy selections", (value) => way({ theta: clamp(Math.round(value * 100) / 100, 0, 1) }), 0.01, () => 10);
  const thetaText = h("span", { class: "wbw-set" });
  const thetaRow = h("div", { class: "wbw-row wbw-middle", title: "Greedy: 1 is the input loss alone, 0 the output loss alone" }, h("span", { class: "wbw-caption" }, "greedy's θ"), question(state, "combined loss", "θ"), theta, thetaText);
  const selections = wayBoxes(state, on, "selections", COMPARED, "select");
  const reconstructions = wayBoxes(state, on, "reconstructions", RECONSTRUCTIONS.map(([name]) => [name, WAY_NAMES[name]]), "reconstruct");
  const norms = checkBox("compare-reestimate", "re-estimate norms, for all");
  norms.input.addEventListener("change", () => way({ reestimate: norms.input.checked }));
  const taylor = selections.boxes[COMPARED.findIndex(([name]) => name === NEEDS_LABELS)];
  const present = () => Object.fromEntries((state.get("budget").names ?? []).map((name, i) => [name, Math.min(state.get("widths")[name] ?? Infinity, state.get("budget").widths[i])]));
  const chosenWays = () => ({ ...state.get("ways"), selections: state.get("ways").selections.filter((name) => name !== NEEDS_LABELS || state.get("learns").targets) });
  const go = h("button", { class: "wbw-button wbw-primary", "data-testid": "compare", "data-hint": "Score every selection with every reconstruction; nothing is committed", onclick: () => send(state, "compare", { ways: chosenWays(), widths: present() }) }, "Compare");
  const save = h("button", { class: "wbw-button wbw-small", "data-testid": "compare-save", "data-hint": "comparison.csv, .png and .svg, beside the notebook", onclick: () => send(state, "save_comparison") }, "Save CSV, PNG, SVG");
  const sweep = h("button", { class: "wbw-button wbw-small", "data-testid": "sweep", "data-hint": `Each group alone at ${SHARES.map((share) => trimmed(percent(share))).join(", ")} of its width, selected and reconstructed as on the tab Layer. Least damage on the tab Budget plans with the same numbers`,
    onclick: () => send(state, "sweep_groups", { options: optionsOf(state) }) }, "Sweep");
  const table = h("ol", { class: "wbw-compare-table wbw-scroll", tabindex: 0, "aria-label": "scores of all ways" });
  const holder = h("div", { class: "wbw-plot" });
  const [none, noSweep] = [h("p", { class: "wbw-empty" }), h("p", { class: "wbw-empty" }, "How much each group bears alone: Sweep prunes one group at a time, and keeps nothing.")];
  const asks = question(state, "score", "what the map shows");
  const heat = h("ol", { class: "wbw-heat-list wbw-scroll", tabindex: 0, "aria-label": "sensitivity of the groups" });
  const shown = h("select", { class: "wbw-select wbw-heat-kind", "data-testid": "heat-kind", "aria-label": "what the heat map shows", onchange: () => paintHeat() }, ...Object.entries(HEATS).map(([kind, { text }]) => h("option", { value: kind }, text)));
  const [part, partSweep] = ["compare-part", "sweep-part"].map((testid) => h("span", { class: "wbw-sub", "data-testid": testid }));
  const [stale, staleSweep] = [h("span", { class: "wbw-chip" }, "before the last change"), h("span", { class: "wbw-chip" }, "before the last change")];
  el.append(
    h("div", { class: "wbw-compare-form" }, h("h3", { class: "wbw-heading" }, "Ways to prune"),
      h("div", { class: "wbw-controls" }, where, at, selections.node, thetaRow, reconstructions.node, norms.node), h("div", { class: "wbw-deeds" }, errorBox(state, on, "compare"), go)),
    h("div", { class: "wbw-compared" }, h("h3", { class: "wbw-heading" }, "Comparison", question(state, "comparison", "the comparison"), part, stale, save), none, table, holder),
    h("div", { class: "wbw-swept" }, h("h3", { class: "wbw-heading" }, "Sensitivity", question(state, "sensitivity map", "the sensitivity map"), partSweep, staleSweep, shown, asks, sweep), noSweep, heat));
  reconstructions.node.classList.add("wbw-two");
  selections.node.classList.add("wbw-selections");
  selections.boxes.forEach((box, i) => box.node.classList.toggle("wbw-beside", SHORT_WORDS.includes(COMPARED[i][0])));
  const { redraw, lit } = comparePlot(state, on, holder);
  const [fillTable, fillHeat] = [cellTable(table), cellTable(heat)];
  const use = (row, kind, text, testid) => {
    const answer = state.get("comparison");
    const { widths, title } = answer.budgets[row.budget];
    if (!widths) return null; // an earlier version's
    const words = `${wayWords(row)} and the widths of ${title}`;
    const button = h("button", { type: "button", class: `wbw-cell ${kind}`, "data-testid": testid, "data-cell": `${row.selection} ${row.reconstruction} ${row.budget}`,
      "aria-label": `${kind === "wbw-use" ? text : `score ${text}: use`} ${words}`, title: `Use ${words}: on the tabs Layer and Budget`, onclick: () => useWay(state, answer, row) }, text);
    button.mark = () => button.setAttribute("aria-pressed", isUsed(state, answer, row));
    return button;
  };
  const paintUsed = () => {
    if (state.get("tab") !== "compare") return;
    for (const button of table.querySelectorAll("[data-cell]")) button.mark();
    const names = state.get("budget").names ?? [];
    const now = new Map(widthsOf(state).map((width, i) => [names[i], String(width)]));
    for (const cell of heat.querySelectorAll("[data-cell]")) setAttributes(cell, { "aria-pressed": now.get(cell.dataset.name) === cell.dataset.width });
  };
  const paintHeat = () => {
    const answer = state.get("sweep");
    for (const option of shown.options) option.hidden = option.disabled = !hasKind(answer, option.value);
    if (shown.selectedOptions[0]?.disabled) shown.value = Object.keys(HEATS).find((kind) => hasKind(answer, kind)) ?? "losses";
    fillHeat(answer.groups ? heatMap(answer, shown.value, (name, width) => useWidth(state, name, width)) : []);
    asks.ask(HEATS[shown.value].term);
    if (answer.groups) [...heat.children].slice(1, -1).forEach((row) => nameCells(row, heat.firstChild));
    paintUsed();
  };
  on("comparison tab", () => {
    const answer = state.get("comparison");
    const filled = Boolean(answer.rows?.length);
    table.hidden = holder.hidden = save.hidden = !filled;
    none.hidden = filled;
    const hint = (answer.budgets ?? []).length > 1 && answer.budgets[0].widths ? "press a score to use it" : "";
    setText(part, !filled ? "" : answer.rows.length < (answer.total ?? 0) ? `${answer.rows.length} of ${answer.total} ways` : hint);
    fillTable(filled ? tableOf(answer, lit, use) : []);
    if (filled) explainHeads(state, table.firstChild, answer.budgets?.length > 1 ? [null, "selection", "reconstruction", ...answer.budgets.map(() => "score")] : ["selection", "reconstruction", null, "score", "took"]);
    if (filled) [...table.children].slice(1).forEach((row) => nameCells(row, table.firstChild));
    paintUsed();
    redraw();
  });
  on("widths budget selection reconstruction theta reestimate norms tab", paintUsed);
  on("sweep", () => {
    noSweep.hidden = Boolean(state.get("sweep").groups);
    heat.hidden = shown.hidden = asks.hidden = !noSweep.hidden;
    const { groups = [], done = groups.length } = state.get("sweep");
    setText(partSweep, done < groups.length ? `${done} of ${groups.length} groups` : "");
    if (done <= 1) shown.value = Object.keys(HEATS)[0];
    paintHeat();
  });
  on("ways norms learns", () => {
    const { reestimate, theta: weight, at: widths } = waysNow(state);
    where.value = widths;
    theta.paint(0, 1, weight, weight.toFixed(2));
    setText(thetaText, weight.toFixed(2));
    norms.input.checked = reestimate;
    norms.input.disabled = !state.get("norms");
    norms.node.title = state.get("norms") ? "" : "This network has no batch norm that keeps running statistics";
    taylor.input.disabled = !state.get("learns").targets;
    setText(taylor.note, state.get("learns").targets ? "" : "needs labels");
    taylor.node.title = state.get("learns").targets ? "Activation × gradient of the loss" : "The data has no targets";
  });
  on("widths budget measured metric progress kernel comparison sweep revision ways learns tab", () => {
    if (state.get("tab") !== "compare") return;
    const { names = [], widths = [], macs } = state.get("budget");
    const wanted = present();
    const ladder = waysNow(state).at !== BUDGET;
    const less = names.some((name, i) => wanted[name] < widths[i]);
    const total = less ? costAt(state.get("budget"), names.map((name) => wanted[name])).macs : macs;
    setText(at, !names.length ? "" : ladder ? "Times fewer MACs than the original; the budget's locks hold." : less ? `${count(total)} MACs (now ${count(macs)}).` : "The budget keeps all units: set widths on the tab Budget first.");
    setText(none, ladder || less ? "Compare scores every selection with every reconstruction, from the network as it is now; nothing is committed." : "First set widths on the tab Budget: by hand, or by a rule for a target.");
    const waiting = !alive(state) ? "This needs a running kernel" : busy(state) ? "Something is running: see above" : !state.get("measured") ? "Nothing is measured yet" : "";
    const why = waiting || (!state.get("metric") ? "There is no evaluation data, so no score to compare" : !ladder && !less ? "Set widths on the tab Budget first"
      : !chosenWays().selections.length || !chosenWays().reconstructions.length ? "Choose at least one selection and one reconstruction" : "");
    setOff(go, why, why);
    setOff(save, waiting, waiting);
    setOff(sweep, waiting || !names.length, waiting || "No group can be pruned");
    stale.hidden = !state.get("comparison").rows || state.get("comparison").revision === state.get("revision");
    staleSweep.hidden = !state.get("sweep").groups || state.get("sweep").revision === state.get("revision");
  });
}
