// The workbench: one view of one model, its panels in their places.

import { h, subscriber } from "./shared.js";
import { viewState } from "./viewstate.js";
import { keys } from "./keys.js";
import { followHost } from "./theme.js";
import { linkTabs, liveRegion } from "./telling.js";
import { mountTour } from "./tour.js";
import { drawHeader } from "./header.js";
import { drawLayers } from "./layers.js";
import { drawSpectrum } from "./spectrum.js";
import { drawChoice } from "./choice.js";
import { drawBudget } from "./budget.js";
import { drawCompare } from "./compare.js";
import { drawTune } from "./tune.js";
import { drawTheory } from "./theory.js";
import { drawNetwork } from "./network.js";
import { drawHistory } from "./history.js";
import { drawLoad } from "./load.js";
import { drawExport } from "./export.js";
import { drawFlips } from "./flips.js";
import { useRoom } from "./room.js";
import { projectorMode } from "./projector.js";
import { MANY_GROUPS } from "./arrange.js";
import { plotFiles } from "./plotfiles.js";

const AREAS = [
  ["header", drawHeader], ["layers", drawLayers], ["spectrum", drawSpectrum], ["choice", drawChoice], ["budget", drawBudget],
  ["compare", drawCompare], ["tune", drawTune], ["theory", drawTheory], ["network", drawNetwork], ["history", drawHistory], ["load", drawLoad], ["export", drawExport],
  ["flips", drawFlips],
];

const ONE_LAYER = new Set(["layers", "spectrum", "choice"]); // the panels of the tab Layer, in a tab panel of their own
const CONTAINED = new Set(["layers", "spectrum", "history"]); // what λ and its answers move

// Draws into `el` and returns what ends the view. Each panel is built by its draw(state, el, on), which registers
// its repaints.
function render({ model, el }) {
  const state = viewState(model, el);
  const { on, watch, end } = subscriber(state);
  const grid = h("div", { class: "wbw-grid-areas" });
  const oneLayer = h("div", { class: "wbw-one-layer" });
  const root = h("div", { class: "wbw-root", role: "region", "data-testid": "workbench", "aria-label": "Spectral Pruning Workbench", onkeydown: keys(state) }, grid, liveRegion(state, on));
  on("tab", () => {
    root.dataset.tab = state.get("tab");
    oneLayer.hidden = state.get("tab") !== "layer";
  });
  el.classList.add("wbw-host");
  el.append(root);
  watch(root);
  followHost(root, on);
  for (const [area, draw] of AREAS) {
    const panel = h("div", { class: `wbw-panel wbw-${area}` });
    const home = ONE_LAYER.has(area) ? oneLayer : grid;
    if (home === oneLayer) grid.append(oneLayer);
    home.append(panel);
    if (CONTAINED.has(area)) panel.append(h("div", { class: "wbw-inside" }));
    draw(state, panel.firstChild ?? panel, on);
  }
  on("layers", () => grid.classList.toggle("wbw-large", (state.get("layers") ?? []).length > MANY_GROUPS));
  projectorMode(state, root, on, useRoom(root, grid.firstChild, on));
  plotFiles(state, root);
  mountTour(state, on, root);
  linkTabs(root, (tab) => (tab === "layer" ? oneLayer : grid.querySelector(`:scope > .wbw-${tab}`)));
  return () => {
    end();
    state.end();
    root.remove();
  };
}

export default { render };
