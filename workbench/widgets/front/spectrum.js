// The spectrum: eigenvalues with the λ line, the share of each that is kept, N(λ), losses.

import { h, setText, layerOf, busy } from "./shared.js";
import { setName } from "./names.js";
import { question } from "./glossary.js";
import { spectrumViews, titled } from "./spectrumviews.js";

export function drawSpectrum(state, el, on) {
  const plots = spectrumViews(state, on);
  const sub = h("span", { class: "wbw-sub" });
  const name = h("span", { class: "wbw-name" });
  const chip = h("span", { class: "wbw-chip" });
  const empty = h("p", { class: "wbw-empty" });
  const body = h("div", { class: "wbw-spectrum-body" }, plots.spectrum,
    h("div", { class: "wbw-pair" },
      titled("Degrees of freedom N(λ)", plots.freedom, question(state, "degrees of freedom", "the plot of N(λ)")), titled("Loss left, relative to keeping none", plots.losses, question(state, "loss curve", "the plot of the losses"))));
  const heading = h("span", {});
  const asks = question(state, "stale", "a moment that is stale");
  el.append(h("h3", { class: "wbw-heading" }, heading, name, question(state, "spectrum plot", "the plot of the spectrum"), sub, asks, chip), body, empty);

  on("spectra layers selected progress measured", () => {
    const layer = layerOf(state);
    const shown = Boolean(layer?.prunable && layer.count);
    body.hidden = !shown;
    empty.hidden = shown;
    setText(heading, layer ? "Spectrum of " : "Spectrum");
    setName(name, layer?.name);
    setText(sub, shown && !layer.stale ? "μ / Tr Σ, each filled by its share μ/(μ+λ)" : "");
    setText(chip, layer?.stale ?? "");
    chip.hidden = asks.hidden = !layer?.stale;
    el.classList.toggle("wbw-stale", Boolean(layer?.stale));
    setText(empty, layer && !layer.prunable ? `${layer.name} is not prunable: ${layer.why_not}`
      : busy(state) ? "The spectrum appears here when the moments are measured." : "Nothing is measured yet.");
  });
}
