// The history of a page: score against cost, a point a step, and the steps.

import { h, setText, count, score } from "./shared.js";
import { setStep } from "./names.js";
import { COSTS, waysPlot } from "./historyplot.js";

export function historyPanel(state, on) {
  const holder = h("div", { class: "wbw-plot wbw-still-ways" });
  const steps = state.get("history");
  const position = state.get("position");
  const cell = (text) => h("span", { class: "wbw-cell" }, text);
  const item = (step, index) => {
    const name = h("span", { class: "wbw-name" });
    setStep(name, step.label);
    const words = index === position ? "now" : index > position ? "undone" : "";
    return h("li", { class: `wbw-step${index === position ? " wbw-here" : ""}${index > position ? " wbw-undone" : ""}`, "data-testid": `history-item-${index}` },
      h("span", { class: "wbw-step-name" }, name), cell(score(step.score)), cell(count(step.parameters)), cell(count(step.macs)), h("span", { class: "wbw-caption" }, words));
  };
  const head = h("li", { class: "wbw-step wbw-steps-head" }, h("span", {}, "step"), cell(state.get("metric") || "score"), cell("parameters"), cell("MACs"), h("span", {}));
  const axis = h("button", { type: "button", class: "wbw-button", "data-testid": "history-axis", onclick: () => state.set({ cost_axis: other() }) });
  const other = () => (state.get("cost_axis") === "macs" ? "parameters" : "macs");
  const scored = steps.some((step) => step.score !== null);
  holder.hidden = axis.hidden = !scored;
  const ways = waysPlot(state, on, holder, () => state.get("cost_axis"));
  on("cost_axis", () => {
    setText(axis, `against ${COSTS[other()]}`);
    ways.redraw();
  });
  return h("div", { class: "wbw-still-history" }, h("div", { class: "wbw-still-plotted" }, holder, axis),
    h("ol", { class: "wbw-steps", "aria-label": "steps" }, head, ...steps.map(item)));
}
