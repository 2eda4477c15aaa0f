// λ moved by hand on a plot: keys, and a drag that reaches all that the slider reaches, past the plot's edge.

import { LAM_MIN, LAM_MAX } from "./constants.js";
import { clamp, setLam, arrowSteps } from "./shared.js";

const LOW = Math.log10(LAM_MIN);
const HIGH = Math.log10(LAM_MAX);
const PAST_THE_END = 18; // pixels that a decade takes at most where the plot has ended

// The lower end of the axis on which a hand holds λ, by state: it stays while the hand does.
const HELD = new WeakMap();
export const heldBottom = (state) => HELD.get(state) ?? HIGH;

// -1 for Home, 1 for End, 0 for other keys.
export function endKey(event) {
  const end = event.ctrlKey || event.metaKey || event.altKey ? 0 : { Home: -1, End: 1 }[event.key] ?? 0;
  if (end) event.preventDefault();
  return end;
}
export function lamKeys(state, event) {
  const end = endKey(event);
  if (end) return setLam(state, end < 0 ? LAM_MIN : LAM_MAX);
  const steps = arrowSteps(event, 10);
  if (steps) setLam(state, state.get("lam") * 10 ** (0.05 * steps));
}

// What a drag on an axis does, for draggable(): `scaleOf()` gives { scale, bottom } of exponents when the hand takes
// hold, null where there is none yet; `pixelOf([x, y])` the pixel along it.
export function lamDrag(state, scaleOf, pixelOf) {
  let to = null;
  const exponentAt = (pixel) => {
    const inside = to.scale.invert(pixel);
    if (inside >= to.bottom) return inside;
    const decade = Math.abs(to.scale(to.bottom) - to.scale(to.bottom + 1));
    return to.bottom - Math.abs(pixel - to.scale(to.bottom)) / Math.min(decade, PAST_THE_END);
  };
  return {
    grabbed: () => {
      to = scaleOf();
      if (to) HELD.set(state, to.bottom);
    },
    move: (point) => to && setLam(state, 10 ** clamp(exponentAt(pixelOf(point)), LOW, HIGH)),
    released: () => {
      HELD.delete(state);
      state.trigger("change:lam"); // the axis is again that of this λ
    },
  };
}
