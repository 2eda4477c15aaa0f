// The history's plot: every branch as a line of scored steps, the present one strong, and the Pareto front.

import { UNITS } from "./constants.js";
import { clamp, s, count, trimmed, score } from "./shared.js";
import { linearTicks, scale, tickTexts, axes, plot } from "./axes.js";

export const COSTS = Object.fromEntries(UNITS);

// Points that no other beats in both cost and score, the cheapest first.
function paretoFront(points) {
  const sorted = [...points].sort((a, b) => a.cost - b.cost || b.score - a.score);
  let best = -Infinity;
  return sorted.filter((point) => point.score > best && ((best = point.score), true));
}

export function waysPlot(state, on, holder, costOf) {
  const [grid, front, others, dots] = [s("g"), s("path", { class: "wbw-front", "data-testid": "pareto" }), s("g"), s("g")];
  const line = s("path", { class: "wbw-line wbw-path" });
  const redraw = () => {
    const cost = costOf();
    const position = state.get("position");
    const scored = (steps) => steps.map((step, index) => ({ ...step, index, cost: step[cost] })).filter((step) => step.score !== null);
    const mine = scored(state.get("history"));
    const away = (state.get("branches") ?? []).filter((one) => one.name !== state.get("branch")).map((one) => ({ name: one.name, steps: scored(one.steps) }));
    const everything = [...mine, ...away.flatMap((one) => one.steps)];
    const { width, height } = view.size;
    for (const group of [grid, others, dots]) group.replaceChildren();
    for (const path of [line, front]) path.setAttribute("d", "");
    if (!width || !mine.length) return;
    const box = { left: 52, right: width - 16, top: 10, bottom: height - 33 };
    const most = Math.max(...everything.map((step) => step.cost)) * 1.06;
    const scores = everything.map((step) => step.score);
    const spread = Math.max(Math.max(...scores) - Math.min(...scores), 0.01);
    const middle = (Math.max(...scores) + Math.min(...scores)) / 2;
    const low = Math.max(Math.min(...scores, middle - spread * 0.7) - spread * 0.15, Math.min(0, ...scores));
    const high = Math.max(...scores, middle + spread * 0.7) + spread * 0.15;
    const x = scale(0, most, box.left, box.right);
    const y = scale(low, high, box.bottom, box.top);
    const yTicks = linearTicks(low, high, Math.max(3, Math.floor((box.bottom - box.top) / 24)));
    axes(grid, box,
      linearTicks(0, most, Math.floor((box.right - box.left) / 70), true).map((value) => [x(value), value ? trimmed(count(value)) : "0"]),
      tickTexts(yTicks, y));
    grid.append(s("text", { class: "wbw-title-x", x: (box.left + box.right) / 2, y: height - 3, "text-anchor": "middle" }, COSTS[cost]));
    const best = paretoFront(everything);
    if (best.length > 1) front.setAttribute("d", best.map((point, i) => (i ? `H${x(point.cost)}V${y(point.score)}` : `M${x(point.cost)} ${y(point.score)}`)).join(""));
    const path = (steps) => steps.map((step, i) => `${i ? "L" : "M"}${x(step.cost)} ${y(step.score)}`).join("");
    const dot = (step, kind, r) => s("circle", { class: `wbw-dot ${kind}`, cx: x(step.cost), cy: y(step.score), r },
      s("title", {}, `${step.label}: ${score(step.score)}, ${count(step.parameters)} parameters, ${count(step.macs)} MACs`));
    for (const { name, steps } of away) {
      const last = steps.at(-1);
      others.append(s("path", { class: "wbw-line wbw-other", d: path(steps), "data-testid": `way-${name}` }), ...steps.slice(1).map((step) => dot(step, "wbw-undone", 3.5)));
      if (last && steps.length > 1) others.append(s("text", { class: "wbw-label", x: x(last.cost) - 7, y: clamp(y(last.score) + 13, box.top + 10, box.bottom - 3), "text-anchor": "end" }, name));
    }
    line.setAttribute("d", path(mine.filter((step) => step.index <= position)));
    dots.replaceChildren(...mine.map((step) => dot(step, step.index === position ? "wbw-here" : step.index > position ? "wbw-undone" : "", step.index === position ? 6 : 4.5)));
    const [start, now] = [mine[0], mine.findLast((step) => step.index <= position)];
    if (!now) return; // nothing on the way here has a score
    const below = mine[1]?.score > start.score; // then the line goes up from here
    dots.append(s("text", { class: "wbw-tick", x: x(start.cost) - 10, y: below ? Math.min(y(start.score) + 16, box.bottom - 4) : y(start.score) - 8, "text-anchor": "end" }, start.index ? start.label : "original"));
    if (away.length && now !== start) dots.append(s("text", { class: "wbw-value", x: x(now.cost) - 10, y: y(now.score) - 6, "text-anchor": "end" }, state.get("branch")));
  };
  const view = plot(holder, on, redraw, { "aria-label": "score against cost of every branch", "data-plot": "history" });
  view.svg.append(grid, front, others, line, dots);
  return { redraw };
}
