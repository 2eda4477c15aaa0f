// The budget: every group's width, one λ for all, a target and the rules that meet it; totals move in the page.

import {
  BIASED, LAM_MAX, LAM_MIN, MULTIPLES, NEEDS_LABELS, RECONSTRUCTIONS, REFINED, RULES, SELECTIONS, TERM_OF, UNITS,
} from "./constants.js";
import { costAt, memoryAt, widthsAt } from "./cost.js";
import {
  THIN, clamp, h, setText, setOff, scientific, count, percent, eigenvaluesOf, alive, busy,
  send, update, optionsOf, errorBox,
} from "./shared.js";
import { typedEntry, slider, menu } from "./controls.js";
import { layersOf, widthsOf, budgetList } from "./budgetrows.js";
import { widthUndo } from "./widthundo.js";
import { frontierView, measuresFirst, triedNow } from "./frontier.js";
import { asking, question } from "./glossary.js";
import { flipsLink } from "./flipslink.js";
import { nameBy, told } from "./telling.js";

const RULE_NAMES = Object.fromEntries(RULES.map(([rule, , name]) => [rule, name]));
const GOAL_TERMS = { target: "target", unit: "MACs", minimum: "least width", multiple: "multiple" };
const UNIT_TERMS = { macs: "MACs", parameters: "parameters", ms: "latency", mb: "memory" };
const UNIT_NAMES = Object.fromEntries(UNITS);

// One total: from what the network has now to what the plan leaves it, with the original as the whole bar.
function totalBar(state, name, caption) {
  const value = h("span", { class: "wbw-meter-value", "data-testid": `total-${name}` });
  const share = h("span", { class: "wbw-meter-share" });
  const [before, after] = [h("span", { class: "wbw-before" }), h("span", { class: "wbw-after" })];
  const asks = question(state, caption, caption);
  const node = h("div", { class: "wbw-total", title: "Now → with this plan, and what that is of the original network. The whole bar is the original, light is now, blue the plan." },
    h("div", { class: "wbw-meter-row" }, h("span", { class: "wbw-caption" }, caption), asks, share), value, h("div", { class: "wbw-total-bar" }, before, after));
  nameBy(node, node.querySelector(".wbw-caption"), value, share);
  return { node, paint: (original, now, planned, text = count, called = caption) => {
    setText(node.querySelector(".wbw-caption"), called);
    asks.ask(called === caption ? caption : "memory");
    setText(value, `${text(now, false)} → ${text(planned)}`);
    setText(share, percent(planned / original));
    value.dataset.value = planned;
    before.style.width = `${(100 * now) / original}%`;
    after.style.width = `${(100 * planned) / original}%`;
  } };
}

// The kernel's words as a sentence, whose numbers and units no line breaks apart.
const sentence = (words) => `${words[0].toUpperCase()}${words.slice(1)}.`.replace(/(\d) (?=(?:ms|MB)\b)/g, `$1${THIN}`);

function plannedWords(state, widths, parameters) {
  const plan = state.get("planned");
  const { names = [] } = state.get("budget");
  if (!plan.rule || names.some((name, i) => plan.widths[name] !== widths[i])) return ["", true];
  const left = widths.some((width, i) => width < state.get("budget").widths[i]); // else it is committed
  if (left && plan.unit === "parameters" && plan.parameters !== parameters) return ["Planned with another reconstruction, which adds other biases: press a rule again.", false];
  if (plan.message) return [sentence(plan.message), !plan.doubtful];
  const cost = plan.unit === "seconds" ? `${(1000 * plan.cost).toPrecision(3)}${THIN}ms measured` : plan.unit === "megabytes" ? inMegabytes(plan.cost) : `${count(plan.cost)} ${UNIT_NAMES[plan.unit]}`;
  return [`By ${RULE_NAMES[plan.rule]}: ${cost}`, true, plan.rounds];
}
const inMegabytes = (value, withUnit = true) => `${value.toPrecision(value < 999.5 ? 3 : 4)}${withUnit ? `${THIN}MB` : ""}`;

// A least width as typed, or the one before where it is no number of units.
const leastUnits = (text, before) => (Number.isFinite(Number(text)) && text ? String(Math.max(1, Math.round(Number(text)))) : String(before));

export function drawBudget(state, el, on) {
  const goal = (values) => update(state, { goal: { ...state.get("goal"), ...values } });
  const setWidths = (widths, rest = {}) => {
    const names = state.get("budget").names;
    update(state, { widths: Object.fromEntries(names.map((name, i) => [name, widths[i]])), ...rest });
  };
  const setOne = (index, wanted) => {
    if (!Number.isFinite(wanted)) return;
    const widths = widthsOf(state);
    widths[index] = clamp(Math.round(wanted), 1, state.get("budget").widths[index]);
    setWidths(widths);
  };
  const atLeast = (value) => Math.max(1, Math.round(Number(value)) || 1);
  const setLamForAll = (exponent) => {
    const lam = clamp(10 ** exponent, LAM_MIN, LAM_MAX);
    const { minimum, multiple } = state.get("goal");
    const locks = new Set(state.get("locks"));
    const before = widthsOf(state);
    const groups = layersOf(state).map((layer, i) => {
      const eigenvalues = eigenvaluesOf(state, layer);
      return { eigenvalues, lock: locks.has(layer.name) || !eigenvalues.length ? before[i] : null };
    });
    setWidths(widthsAt(groups, lam, { minimum: atLeast(minimum), multiple: atLeast(multiple) }), { budget_lam: lam });
  };
  const rows = budgetList(state, on, setOne);
  const lamSlider = slider("budget-lam", "λ for all groups, relative to the trace, on a log scale", setLamForAll, 0.05, () => 10);
  const lamText = h("span", { class: "wbw-set" });
  const field = (key, caption, hint, ...options) => {
    const shown = () => state.get("goal")[key];
    const change = (text) => goal({ [key]: key === "minimum" ? leastUnits(text, shown()) : text });
    const input = options.length
      ? h("select", { class: "wbw-select", "data-testid": `goal-${key}`, "aria-label": caption, onchange: () => change(input.value) }, ...options.map(([value, text]) => h("option", { value }, text)))
      : typedEntry({ type: "text", class: "wbw-select", "data-testid": `goal-${key}`, spellcheck: "false", autocomplete: "off" }, shown, change);
    input.paint ??= () => (input.value = shown());
    const node = h("label", { class: "wbw-field", title: hint }, h("span", { class: "wbw-caption" }, caption), input);
    return { key, input, node, asked: asking(state, node, GOAL_TERMS[key], caption) };
  };
  const fields = [
    field("target", "target", "50 % or 2x, of the original; or a number such as 1.2 M"), field("unit", "of", "What the target counts", ...UNITS),
    field("minimum", "at least", "Units that every group keeps at least"), field("multiple", "times", "Widths are multiples of this, or whole", ...MULTIPLES.map((times) => [String(times), String(times)]))];
  const goalNow = () => Object.fromEntries([...fields, { key: "refine", input: refine }].map(({ key, input }) => [key, input.value.trim()]));
  const refine = h("select", { class: "wbw-select", "data-testid": "goal-refine", "aria-label": "seconds of refining", onchange: () => goal({ refine: refine.value }) },
    ...REFINED.map((seconds) => h("option", { value: String(seconds) }, String(seconds))));
  refine.paint = () => (refine.value = String(state.get("goal").refine ?? REFINED[0]));
  const REFINES = "Rounds that measure whole plans, starting from the least damaged plan of all rules, while the damage falls and these seconds last";
  const refining = h("label", { class: "wbw-refine", title: REFINES }, h("span", { class: "wbw-caption" }, "refine for"), refine, h("span", { class: "wbw-caption" }, "s"));
  const rules = RULES.map(([rule, text, , hint]) => h("button", { class: "wbw-button", "data-testid": `rule-${rule}`, "data-hint": hint,
    onclick: () => send(state, "plan", { rule, goal: goalNow(), locks: state.get("locks"), widths: named(state) }) }, text));
  fields[0].input.addEventListener("keydown", (event) => event.key === "Enter" && (event.stopPropagation(), rules[2].click()));
  const message = h("p", { class: "wbw-hint", "data-testid": "budget-message" });
  told(state, on, message);
  const rounds = h("p", { class: "wbw-caption wbw-rounds", "data-testid": "budget-rounds" });
  const totals = [totalBar(state, "parameters", "parameters"), totalBar(state, "macs", "MACs")];
  const selection = menu(state, "selection", "select", "selection, for all groups", SELECTIONS);
  const reconstruction = menu(state, "reconstruction", "reconstruct", "reconstruction, for all groups", RECONSTRUCTIONS);
  const reestimate = h("input", { type: "checkbox", "data-testid": "budget-reestimate", onchange: () => update(state, { reestimate: reestimate.checked }) });
  selection.node.dataset.testid = "budget-selection";
  reconstruction.node.dataset.testid = "budget-reconstruction";
  const all = h("button", { class: "wbw-button", "data-testid": "all-widths", "data-hint": "Every group that is not locked keeps all its units",
    onclick: () => setWidths(widthsOf(state).map((width, i) => (state.get("locks").includes(state.get("budget").names[i]) ? width : state.get("budget").widths[i]))) }, "Keep all");
  const commit = h("button", { class: "wbw-button wbw-primary", "data-testid": "commit-all", "data-hint": "Prune every group to its width, front to back; one step of undo (Enter)",
    onclick: () => send(state, "commit_plan", { widths: named(state), options: optionsOf(state), revision: state.get("revision") }) }, "Commit all");
  const tryAll = h("button", { class: "wbw-button", "data-testid": "try-all", "data-hint": "Score, and how far the outputs are from the original's, with these widths; nothing is kept",
    onclick: () => send(state, "try_plan", { widths: named(state), options: optionsOf(state), revision: state.get("revision") }) }, "Try");
  const flips = flipsLink(state, "plan");
  const selects = asking(state, selection.label, "selection", "the selection", "wbw-asking-menu");
  const rebuilds = asking(state, reconstruction.label, "reconstruction", "the reconstruction", "wbw-asking-menu");
  const empty = h("p", { class: "wbw-empty", "data-testid": "budget-empty" });
  const frontier = frontierView(state, on, (wanted, fewer) => {
    const names = state.get("budget").names;
    const before = widthsOf(state);
    setWidths(names.map((name, i) => wanted[name] ?? before[i]), fewer ? { goal: { ...state.get("goal"), target: `${(Math.floor(100 * fewer) / 100).toFixed(2)}x` } } : {});
  });
  const rail = h("div", { class: "wbw-rail" },
    h("h3", { class: "wbw-heading" }, "Plan for all groups", widthUndo(state, on, el)),
    h("div", { class: "wbw-controls" },
      h("div", { class: "wbw-row wbw-middle wbw-one-lam", title: "One λ for all groups, relative to Tr Σ" }, h("span", { class: "wbw-symbol" }, "λ"), question(state, "shared lambda", "one λ for all"), h("span", { class: "wbw-caption" }, "for all"), lamSlider, lamText),
      h("div", { class: "wbw-goal" }, ...fields.map((one) => one.asked)),
      h("div", { class: "wbw-rules" }, ...rules, asking(state, refining, "Jensen–Shannon divergence", "what refining lowers", "wbw-asking-refine")), h("div", { class: "wbw-said" }, message, rounds)),
    h("div", { class: "wbw-totals" }, ...totals.map((one) => one.node)),
    h("div", { class: "wbw-controls" }, selects, rebuilds, h("label", { class: "wbw-check" }, reestimate, "re-estimate norms")),
    h("div", { class: "wbw-deeds" }, errorBox(state, on, "budget"), h("div", { class: "wbw-buttons wbw-threefold" }, all, tryAll, commit), asking(state, flips.node, "answers that changed", "a changed answer")));
  const body = h("div", { class: "wbw-budget-body" }, ...rows.tools, rows.list, frontier.node);
  el.append(empty, body, rail);

  const paint = () => {
    if (state.get("tab") !== "budget" || !rows.filled()) return;
    const budget = state.get("budget");
    const widths = widthsOf(state);
    const total = costAt(budget, widths, state.get("reconstruction") === BIASED);
    rows.paint(widths, total);
    const lam = state.get("budget_lam");
    lamSlider.paint(Math.log10(LAM_MIN), Math.log10(LAM_MAX), Math.log10(lam), scientific(lam));
    setText(lamText, scientific(lam));
    const memory = state.get("memory");
    if (state.get("goal").unit === "mb" && memory.revision === state.get("revision")) {
      const biased = state.get("reconstruction") === BIASED;
      totals[0].paint(memory.original, memory.now, memoryAt(memory, budget.widths, widths, biased), inMegabytes, "MB");
    } else totals[0].paint(budget.original[0], budget.parameters, total.parameters);
    totals[1].paint(budget.original[1], budget.macs, total.macs);
    frontier.paint(widths, total);
    flips.paint(triedNow(state, widths)?.flips);
    const [words, met, won = ""] = plannedWords(state, widths, total.parameters);
    setText(message, words);
    setText(rounds, won);
    rounds.title = refining.title = won ? `${REFINES}. ${won}` : REFINES;
    rounds.hidden = !won;
  };
  on("goal", () => {
    for (const input of [...fields.map((one) => one.input), refine]) input.paint();
    fields.find((one) => one.key === "unit").asked.ask(UNIT_TERMS[state.get("goal").unit]);
  });
  on("learns", () => selection.node.off(NEEDS_LABELS, state.get("learns").targets ? "" : "needs labels"));
  on("selection reconstruction reestimate norms", () => {
    selection.node.paint(state.get("selection"));
    reconstruction.node.paint(state.get("reconstruction"));
    selects.ask(TERM_OF[state.get("selection")]);
    rebuilds.ask(TERM_OF[state.get("reconstruction")] ?? "reconstruction");
    reestimate.checked = state.get("reestimate");
  });
  const show = () => {
    body.hidden = rail.hidden = !rows.filled();
    empty.hidden = rows.filled();
    const any = (state.get("budget").names ?? []).length;
    setText(empty, busy(state) ? "The groups appear here when their moments are measured." : state.get("measured") && !any ? "No group of this network can be pruned."
      : "Nothing is measured yet: press Measure on the tab Layer, or load a model.");
  };
  rows.built = () => (show(), paint());
  on("widths budget_lam locks losses losses_of revision planned tab theta selection reconstruction goal frontier memory outputs tried_plan", paint);
  on("progress", show);
  on("progress kernel", flips.off);
  on("progress kernel widths budget revision norms unmeasured frontier", () => {
    const waiting = !alive(state) ? "This needs a running kernel" : busy(state) ? "Something is running: see above" : "";
    const first = measuresFirst(state.get("unmeasured"));
    RULES.forEach(([, , , hint], i) => (rules[i].dataset.hint = first && i === RULES.length - 1 ? `${hint}; ${first}` : hint));
    rules.forEach((button) => setOff(button, waiting, waiting));
    const nothing = widthsOf(state).every((width, i) => width === state.get("budget").widths[i]) ? "All units are kept: move a width, or press a rule" : "";
    for (const button of [commit, tryAll]) setOff(button, waiting || nothing, waiting || nothing);
    setOff(all, nothing, nothing);
    reestimate.disabled = !state.get("norms");
    reestimate.parentNode.title = state.get("norms") ? "Measure the running statistics of batch norms anew, once all groups are pruned" : "This network has no batch norm that keeps running statistics";
  });
}

const named = (state) => Object.fromEntries(widthsOf(state).map((width, i) => [state.get("budget").names[i], width]));
