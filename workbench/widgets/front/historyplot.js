// The history's plot: every branch as a line of scored steps, the present one strong, and the Pareto front.

import { UNITS } from "./constants.js";
import { s, count, trimmed, score } from "./shared.js";
import { threeTicks, scale, tickTexts, axes, plot } from "./axes.js";
import { along, placeNames } from "./labels.js";

const LOW_PLOT = 120; // pixels
export const COSTS = Object.fromEntries(UNITS);

// Points that no other beats in both cost and score, the cheapest first.
function paretoFront(points) {
  const sorted = [...points].sort((a, b) => a.cost - b.cost || b.score - a.score);
  let best = -Infinity;
  return sorted.filter((point) => point.score > best && ((best = point.score), true));
}

// The axes around `everything`, { cost, score } each; what they stand at.
function scoreAxes(grid, everything, { width, height }, words) {
  const isLow = height < LOW_PLOT; // then the words below are those of the heading alone
  const box = { left: 52, right: width - 16, top: isLow ? 6 : 10, bottom: height - (isLow ? 20 : 33) };
  const most = Math.max(...everything.map((step) => step.cost)) * 1.06;
  const scores = everything.map((step) => step.score);
  const spread = Math.max(Math.max(...scores) - Math.min(...scores), 0.01);
  const middle = (Math.max(...scores) + Math.min(...scores)) / 2;
  const low = Math.max(Math.min(...scores, middle - spread * 0.7) - spread * 0.15, Math.min(0, ...scores));
  const high = Math.max(...scores, middle + spread * 0.7) + spread * 0.15;
  const x = scale(0, most, box.left, box.right);
  const y = scale(low, high, box.bottom, box.top);
  axes(grid, box,
    threeTicks(0, most, Math.floor((box.right - box.left) / 70), true).map((value) => [x(value), value ? trimmed(count(value)) : "0"]),
    tickTexts(threeTicks(low, high, Math.floor((box.bottom - box.top) / 24)), y));
  if (!isLow) grid.append(s("text", { class: "wbw-title-x", x: (box.left + box.right) / 2, y: height - 3, "text-anchor": "middle" }, words));
  return { box, place: (step) => [x(step.cost), y(step.score)] };
}
const lineThrough = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x} ${y}`).join("");
// The corners of the front, which goes on at one score until a dearer step has a better one.
const stairs = (points) => points.flatMap(([x, y], i) => (i ? [[x, points[i - 1][1]], [x, y]] : [[x, y]]));

// The middles of a path's level levelStretches, the longest first: where its name has room.
const levelStretches = (points) => points.slice(1).map(([x, y], i) => ({ middle: [(x + points[i][0]) / 2, (y + points[i][1]) / 2], length: Math.abs(x - points[i][0]) }))
  .sort((a, b) => b.length - a.length).map(({ middle }) => middle);

// `tried()`: points of what was tried, { label, score, parameters, macs } each.
export function waysPlot(state, on, holder, costOf, tried = () => []) {
  const [grid, front, others, dots, hollow, names] = [s("g"), s("path", { class: "wbw-front", "data-testid": "pareto" }), s("g"), s("g"), s("g"), s("g", { "data-testid": "way-names" })];
  const line = s("path", { class: "wbw-line wbw-path" });
  const name = (entries, points, box) => placeNames(entries, points, box).flatMap((spot, i) => (spot
    ? [spot.lead && s("path", { class: "wbw-lead", d: `M${spot.lead[0]} ${spot.lead[1]}L${spot.lead[2]} ${spot.lead[3]}` }),
      s("text", { class: entries[i].kind, x: spot.x.toFixed(1), y: spot.y.toFixed(1) }, entries[i].text)].filter(Boolean) : []));
  const redraw = () => {
    const cost = costOf();
    const position = state.get("position");
    const scored = (steps) => steps.map((step, index) => ({ ...step, index, cost: step[cost] })).filter((step) => step.score !== null);
    const mine = scored(state.get("history"));
    const away = (state.get("branches") ?? []).filter((one) => one.name !== state.get("branch")).map((one) => ({ name: one.name, steps: scored(one.steps) }));
    const attempts = scored(tried());
    const everything = [...mine, ...away.flatMap((one) => one.steps)];
    for (const group of [grid, others, dots, hollow, names]) group.replaceChildren();
    for (const path of [line, front]) path.setAttribute("d", "");
    if (!view.size.width || !mine.length) return;
    const { box, place } = scoreAxes(grid, [...everything, ...attempts], view.size, COSTS[cost]);
    const best = paretoFront(everything).map(place);
    if (best.length > 1) front.setAttribute("d", lineThrough(stairs(best)));
    const dot = (step, kind, r) => {
      const [x, y] = place(step);
      return s("circle", { class: `wbw-dot ${kind}`, cx: x, cy: y, r }, s("title", {}, `${step.label}${kind === "wbw-tried" ? "" : `: ${score(step.score)}`}, ${count(step.parameters)} parameters, ${count(step.macs)} MACs`));
    };
    for (const { name, steps } of away) {
      others.append(s("path", { class: "wbw-line wbw-other", d: lineThrough(steps.map(place)), "data-testid": `way-${name}` }), ...steps.slice(1).map((step) => dot({ ...step, label: `${name}: ${step.label}` }, "wbw-undone", 3.5)));
    }
    const walked = mine.filter((step) => step.index <= position);
    line.setAttribute("d", lineThrough(walked.map(place)));
    dots.append(...mine.map((step) => dot(step, step.index === position ? "wbw-here" : step.index > position ? "wbw-undone" : "", step.index === position ? 6 : 4.5)));
    hollow.append(...attempts.map((step) => dot(step, "wbw-tried", 6)));

    const [start, now] = [mine[0], walked.at(-1)];
    // Where there is no room for all, the last go without: the dots name their branch too.
    const entries = attempts.map((step) => ({ text: "tried", kind: "wbw-label wbw-tried-name", at: [place(step)] }));
    if (away.length && now && now !== start) entries.push({ text: state.get("branch"), kind: "wbw-value", at: [place(now)] });
    if (best.length > 1) entries.push({ text: "Pareto front", kind: "wbw-label wbw-front-name", at: levelStretches(stairs(best)) });
    for (const { name, steps } of away) if (steps.length > 1) entries.push({ text: name, kind: "wbw-label", at: [place(steps.at(-1))] });
    if (now) entries.push({ text: start.index ? start.label : "original", kind: "wbw-tick", at: [place(start)] });
    const points = [...[...everything, ...attempts].map((step) => [...place(step), 6]), ...along(walked.map(place)), ...away.flatMap((one) => along(one.steps.map(place))), ...along(stairs(best))];
    names.append(...name(entries, points, box));
  };
  const view = plot(holder, on, redraw, { "aria-label": "score against cost of every branch", "data-plot": "history" });
  view.svg.append(grid, front, others, line, dots, hollow, names);
  return { redraw };
}
