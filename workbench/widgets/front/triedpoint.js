// What was tried and is still what is set, as a point of the history: its costs and its score.

import { BIASED } from "./constants.js";
import { costAt } from "./cost.js";
import { isCurrent, score } from "./shared.js";
import { widthsOf } from "./budgetrows.js";
import { triedNow } from "./frontier.js";

const pointOf = (state, widths, found, label) => {
  const { parameters, macs } = costAt(state.get("budget"), widths, state.get("reconstruction") === BIASED);
  return { label: `${label}: ${score(found)}, nothing kept`, score: found, parameters, macs };
};

// The points, none to two, and one text by which it is seen whether they have changed.
export function triedPoints(state) {
  const found = [];
  const { names, widths: now } = state.get("budget");
  const tried = state.get("tried");
  if (names && typeof tried.score === "number" && isCurrent(state, tried)) {
    const { group, width } = tried.request;
    found.push(pointOf(state, now.map((m, i) => (names[i] === group ? Math.min(width, m) : m)), tried.score, `tried ${group} ${width}`));
  }
  const plan = state.get("tried_plan");
  if (names && typeof plan.score === "number" && plan.revision === state.get("revision")) {
    const widths = widthsOf(state);
    if (triedNow(state, widths)) found.push(pointOf(state, widths, plan.score, "tried the plan"));
  }
  return found;
}
