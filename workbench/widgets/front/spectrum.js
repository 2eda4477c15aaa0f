// The spectrum: eigenvalues with the λ line, the share of each that is kept, N(λ), losses; or the single units.

import { h, setText, layerOf, busy, update } from "./shared.js";
import { setName } from "./names.js";
import { plotChoice } from "./projector.js";
import { question } from "./glossary.js";
import { spectrumViews, titled } from "./spectrumviews.js";
import { unitView } from "./units.js";

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
  const units = unitView(state, on, () => Boolean(state.wbwUnits));
  const turn = h("button", { type: "button", class: "wbw-button wbw-small wbw-units-turn", "data-testid": "show-units", "aria-pressed": "false",
    title: "Which units stay, with their kernels or weights and their mean activations", onclick: () => look(!state.wbwUnits) }, "Units");
  const asks = question(state, "stale", "a moment that is stale");
  el.append(h("h3", { class: "wbw-heading" }, heading, name, question(state, "spectrum plot", "the plot of the spectrum"), sub, asks, chip, turn, plotChoice(state, on, body)), body, units.holder, empty);

  // The kernel looks at units as long as a view of this page shows them.
  const tell = () => {
    const looked = [...(state.shared.views ?? [])].some((view) => view.wbwUnits);
    const wanted = looked ? Math.max(state.get("units_shown"), units.first) : 0;
    if (wanted !== state.get("units_shown")) update(state, { units_shown: wanted });
  };
  const look = (shown) => {
    state.wbwUnits = shown;
    tell();
    paint();
    units.draw();
  };
  on.end(() => (state.wbwUnits = false));
  const paint = () => {
    const layer = layerOf(state);
    const shown = Boolean(layer?.prunable && layer.count);
    body.hidden = !shown || Boolean(state.wbwUnits);
    units.holder.hidden = !shown || !state.wbwUnits;
    turn.hidden = !shown;
    turn.setAttribute("aria-pressed", Boolean(state.wbwUnits));
    empty.hidden = shown;
    setText(heading, layer ? (state.wbwUnits && shown ? "Units of " : "Spectrum of ") : "Spectrum");
    setName(name, layer?.name);
    setText(sub, shown && !layer.stale && !state.wbwUnits ? "μ / Tr Σ, each filled by its share μ/(μ+λ)" : "");
    setText(chip, layer?.stale ?? "");
    chip.hidden = asks.hidden = !layer?.stale;
    el.classList.toggle("wbw-stale", Boolean(layer?.stale));
    setText(empty, layer && !layer.prunable ? `${layer.name} is not prunable: ${layer.why_not}`
      : busy(state) ? "The spectrum appears here when the moments are measured." : "Nothing is measured yet.");
  };
  on("spectra layers selected progress measured", paint);
}
