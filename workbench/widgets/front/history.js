// The history: score against cost, a point a step, and the list of steps with a way back to each.

import { h, setText, reveal, count, score, alive, busy, send, update, CHOSEN } from "./shared.js";
import { setStep } from "./names.js";
import { COSTS, waysPlot } from "./historyplot.js";
import { explainHeads, question } from "./glossary.js";
import { stepFlips } from "./flipslink.js";
import { triedPoints } from "./triedpoint.js";
import { moveAmong } from "./listkeys.js";
import { nameCells } from "./telling.js";

// Steps in order, those committed as one plan together: [{ plan, steps: [{ step, index }] }].
function runs(steps) {
  const found = [];
  steps.forEach((step, index) => {
    const last = found.at(-1);
    if (step.plan && last?.plan === step.plan) last.steps.push({ step, index });
    else found.push({ plan: step.plan, steps: [{ step, index }] });
  });
  return found;
}

export function drawHistory(state, el, on) {
  const holder = h("div", { class: "wbw-plot" });
  const list = h("ol", { class: "wbw-steps", "aria-label": "steps" });
  const hint = h("p", { class: "wbw-empty" }, "Each commit becomes a line here, and a point of the plot.");
  const sub = h("span", { class: "wbw-sub" });
  const axis = h("button", { type: "button", class: "wbw-button wbw-small wbw-axis-toggle", "data-testid": "history-axis", onclick: () => update(state, { cost_axis: other() }) });
  const other = () => (state.get("cost_axis") === "macs" ? "parameters" : "macs");
  const title = h("h3", { class: "wbw-heading" }, "History", question(state, "history plot", "the plot of the history"), sub, axis);
  const unscored = h("p", { class: "wbw-empty" }, "There is no score: it takes evaluation data.");
  el.append(h("div", { class: "wbw-history-plot" }, title, unscored, holder), h("div", { class: "wbw-history-list" }, list, hint));
  let attempts = [];
  const ways = waysPlot(state, on, holder, () => state.get("cost_axis"), () => attempts);
  moveAmong(list, "button:not(.wbw-fold)");
  const opened = new Set(); // plans that are unfolded

  const cells = (step) => [score(step.score), count(step.parameters), count(step.macs)].map((text) => h("span", { class: "wbw-cell" }, text));
  const item = ({ step, index }, name, position, more = null, inner = false) => {
    const here = index === position;
    const back = h("button", { class: "wbw-button wbw-small", "data-testid": `history-back-${index}`, "aria-label": `${index > position ? "forward" : "back"} to here: step ${index}, ${step.label}`, onclick: () => send(state, "goto", { position: index }) },
      index > position ? "forward to here" : "back to here");
    const kind = `wbw-step${here ? " wbw-here" : ""}${index > position ? " wbw-undone" : ""}${inner ? " wbw-inner" : ""}`;
    return h("li", { class: kind, "data-testid": `history-item-${index}`, "aria-current": here ? "step" : null },
      h("span", { class: "wbw-step-name" }, more, name), ...cells(step), stepFlips(state, step, index), here ? h("span", { class: "wbw-caption wbw-now" }, "now") : back);
  };
  const named = (text) => {
    const name = h("span", { class: "wbw-name" });
    setStep(name, text);
    return name;
  };
  // A plan is one line, that of its last step, which has the score; a triangle unfolds the steps before it.
  const planItems = ({ plan, steps }, position) => {
    const inside = steps.some(({ index }) => index === position) && steps.at(-1).index !== position;
    const open = opened.has(plan) || inside;
    const fold = h("button", { type: "button", class: "wbw-fold", "aria-expanded": String(open), "aria-label": `steps of ${plan}`, "data-testid": `fold-${plan.split(":")[0].replace(" ", "-")}`,
      onclick: () => ((open ? opened.delete(plan) : opened.add(plan)), paint()) }, open ? "▾" : "▸");
    const head = item(steps.at(-1), named(plan), position, fold);
    return open ? [head, ...steps.map((one, i) => {
      const row = item(one, named(one.step.label), position, null, true);
      if (i === steps.length - 1) row.removeAttribute("data-testid"), row.lastChild.remove(), row.append(h("span", {}));
      return row;
    })] : [head];
  };
  const paint = () => {
    const steps = state.get("history");
    const position = state.get("position");
    const metric = state.get("metric") || "score";
    setText(sub, `${metric} against ${COSTS[state.get("cost_axis")]}`);
    setText(axis, `against ${COSTS[other()]}`);
    hint.hidden = steps.length > 1;
    unscored.hidden = Boolean(state.get("metric")) || !steps.length;
    axis.hidden = !unscored.hidden;
    const head = h("li", { class: "wbw-step wbw-steps-head" }, h("span", {}, "step"), h("span", { class: "wbw-cell" }, metric),
      h("span", { class: "wbw-cell" }, "parameters"), h("span", { class: "wbw-cell" }, "MACs"), h("span", { class: "wbw-cell", title: "Right → wrong and wrong → right, against the step before" }, "answers"), h("span", {}));
    const items = runs(steps).flatMap((run) => (run.plan ? planItems(run, position) : [item(run.steps[0], named(run.steps[0].step.label), position)]));
    explainHeads(state, head, [null, "score", "parameters", "MACs", "answers that changed"]);
    items.forEach((row) => nameCells(row, head));
    list.replaceChildren(head, ...items);
    reveal(list, list.querySelector("[aria-current]"), head.offsetHeight);
    off();
    attempts = triedPoints(state);
    ways.redraw();
  };
  // A move of λ or of a width draws the plot anew only where it takes a point away or brings it back.
  const paintTried = () => {
    const found = triedPoints(state);
    if (!found.length && !attempts.length) return;
    attempts = found;
    ways.redraw();
  };
  const off = () => {
    const waiting = busy(state) || !alive(state);
    list.querySelectorAll(".wbw-button").forEach((button) => (button.disabled = waiting));
  };
  on("history position metric branch branches cost_axis", paint);
  on(`tried tried_plan widths ${CHOSEN}`, paintTried);
  on("progress kernel", off);
}
