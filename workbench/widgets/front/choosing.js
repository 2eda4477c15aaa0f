// Choosing a group, wherever it is listed or drawn.

import { suggestedWidth } from "./math.js";
import { layerOf, eigenvaluesOf, lamOf, update } from "./shared.js";

// The group `name` with the width that N(λ) suggests for it; false where there is none of this name.
export function chooseGroup(state, name) {
  const layer = layerOf(state, name);
  if (!layer) return false;
  const values = { selected: name };
  const eigenvalues = eigenvaluesOf(state, layer);
  if (eigenvalues.length) values.width = suggestedWidth(eigenvalues, lamOf(state, eigenvalues));
  update(state, values);
  return true;
}
