// The spectrum: eigenvalues with the λ line, the share of each that is kept, N(λ), losses.

import { h, setText, setName, panel, layerOf, busy, CHOSEN } from "./shared.js";
import { bottomFor, eigenPlot } from "./eigenplot.js";
import { freedomPlot, lossPlot } from "./curves.js";

function draw(state, el, on) {
  const eigen = eigenPlot(state, on);
  const freedom = freedomPlot(state, on, () => bottomFor(state));
  const loss = lossPlot(state, on);
  const sub = h("span", { class: "wbw-sub" });
  const name = h("span", { class: "wbw-name" });
  const chip = h("span", { class: "wbw-chip" });
  const empty = h("p", { class: "wbw-empty" });
  const body = h("div", { class: "wbw-spectrum-body" }, eigen.holder,
    h("div", { class: "wbw-pair" },
      h("div", { class: "wbw-half" }, h("h4", {}, "Degrees of freedom N(λ)"), freedom.holder),
      h("div", { class: "wbw-half" }, h("h4", {}, "Loss left, relative to keeping none"), loss.holder)));
  const heading = h("span", {});
  el.append(h("h3", { class: "wbw-heading" }, heading, name, sub, chip), body, empty);

  let lowest = null;
  on("spectra layers selected progress measured", () => {
    const layer = layerOf(state);
    const shown = Boolean(layer?.prunable && layer.count);
    body.hidden = !shown;
    empty.hidden = shown;
    setText(heading, layer ? "Spectrum of " : "Spectrum");
    setName(name, layer?.name);
    setText(sub, shown && !layer.stale ? "μ / Tr Σ, each filled by its share μ/(μ+λ)" : "");
    setText(chip, layer?.stale ?? "");
    chip.hidden = !layer?.stale;
    el.classList.toggle("wbw-stale", Boolean(layer?.stale));
    setText(empty, layer && !layer.prunable ? `${layer.name} is not prunable: ${layer.why_not}`
      : busy(state) ? "The spectrum appears here when the moments are measured." : "Nothing is measured yet.");
  });
  on("spectra selected", () => {
    lowest = bottomFor(state);
    eigen.redraw();
    freedom.redraw();
    loss.redraw();
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
}

export default panel(draw);
