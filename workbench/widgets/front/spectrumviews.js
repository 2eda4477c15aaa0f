// The plots of the selected group, for the panel of the workbench and for figures and pages without a kernel.

import { h, CHOSEN } from "./shared.js";
import { bottomFor, eigenPlot } from "./eigenplot.js";
import { freedomPlot, lossPlot } from "./curves.js";

export const titled = (text, holder, ...more) => h("div", { class: "wbw-half" }, h("h4", {}, text, ...more), holder);

// Their holders; each is repainted by what it shows.
export function spectrumViews(state, on) {
  const eigen = eigenPlot(state, on);
  const freedom = freedomPlot(state, on, () => bottomFor(state));
  const loss = lossPlot(state, on);
  let lowest = null;
  on("spectra selected", () => {
    lowest = bottomFor(state);
    [eigen, freedom, loss].forEach((one) => one.redraw());
  });
  on("lam", () => {
    eigen.place();
    if (lowest !== bottomFor(state)) freedom.redraw();
    lowest = bottomFor(state);
    freedom.place();
  });
  on("curve", loss.redraw);
  on("width", loss.place);
  on(`preview ${CHOSEN}`, loss.shade);
  return { spectrum: eigen.holder, freedom: freedom.holder, losses: loss.holder };
}
