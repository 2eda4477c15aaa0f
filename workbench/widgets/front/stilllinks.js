// One λ for a whole page: it moves the width of every group, until a width is set by hand.

import { traceOf, degreesOfFreedom } from "./math.js";
import { widthsAt } from "./cost.js";
import { clamp, layerOf, eigenvaluesOf } from "./shared.js";
import { layersOf, widthsOf } from "./budgetrows.js";

export const freedomOf = (eigenvalues, relative) => degreesOfFreedom(eigenvalues, relative * traceOf(eigenvalues));
const named = (state, widths) => Object.fromEntries(state.get("budget").names.map((name, i) => [name, widths[i]]));

// ⌈N(λ)⌉ of every group of the budget; one without a spectrum stays as it is.
function following(state) {
  const before = widthsOf(state);
  const groups = layersOf(state).map((layer, i) => {
    const eigenvalues = eigenvaluesOf(state, layer);
    return { eigenvalues, lock: traceOf(eigenvalues) > 0 ? null : before[i] };
  });
  return widthsAt(groups, state.get("lam"));
}

// Keeps together: λ, "follow", the selected group's width, and the widths of all.
export function linkWidths(state) {
  const all = () => {
    if (state.get("follow")) state.set({ widths: named(state, following(state)), budget_lam: state.get("lam") });
    else state.set({ budget_lam: state.get("lam") });
  };
  const one = () => {
    const [name, width] = [state.get("selected"), state.get("width")];
    if ((state.get("widths")[name] ?? width) !== width) state.set({ widths: { ...state.get("widths"), [name]: width } });
  };
  state.on("change:lam change:follow", all);
  state.on("change:width", one);
  all();
}

// The group `name` is looked at, with the width that it has now.
export function choose(state, name) {
  if (layerOf(state, name)) state.set({ selected: name, width: state.get("widths")[name] ?? layerOf(state, name).width });
}

// A group's width by hand: from then on no width follows λ.
export function setOne(state, index, wanted) {
  if (!Number.isFinite(wanted)) return;
  const { names, widths } = state.get("budget");
  const width = clamp(Math.round(wanted), 1, widths[index]);
  state.set({ follow: false, widths: { ...state.get("widths"), [names[index]]: width }, ...(names[index] === state.get("selected") ? { width } : {}) });
}
