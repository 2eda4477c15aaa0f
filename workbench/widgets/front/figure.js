// A figure of a rendered notebook: some views of one group, or of several spectra, that move without a kernel.

import { h, setText, scientific, freedomText, subscriber, layerOf, eigenvaluesOf, setLam } from "./shared.js";
import { overlayPlot, freedomCurves, overlayNumbers } from "./overlay.js";
import { unitStrip } from "./unitstrip.js";
import { pathOf, stillState } from "./stillstate.js";
import { freedomOf } from "./stilllinks.js";
import { chosenWords, followTheme, lossEntries, numberRow } from "./stillviews.js";
import { spectrumViews, titled } from "./spectrumviews.js";

function freedomNow(state) {
  const N = freedomOf(eigenvaluesOf(state), state.get("lam"));
  return [freedomText(N), N.toPrecision(12)];
}

export function showFigure(values, root) {
  const state = stillState(values);
  const { on } = subscriber(state);
  const several = values.layers.length > 1;
  const views = new Set(values.views);
  followTheme(document.documentElement);
  root.classList.add("wbw-root", "wbw-still", "wbw-still-figure");
  if (values.title) root.append(h("h3", { class: "wbw-still-title" }, values.title));
  if (several) {
    if (views.has("spectrum")) root.append(overlayPlot(state, on));
    if (views.has("freedom")) root.append(titled("Degrees of freedom N(λ)", freedomCurves(state, on)));
    root.append(overlayNumbers(state, on));
    return state;
  }
  const made = spectrumViews(state, on);
  if (views.has("spectrum")) root.append(made.spectrum);
  const pair = [["freedom", "Degrees of freedom N(λ)"], ["losses", "Relative loss over width"]]
    .filter(([name]) => views.has(name)).map(([name, text]) => titled(text, made[name]));
  if (pair.length) root.append(h("div", { class: "wbw-pair" }, ...pair));
  const withPaths = Boolean(layerOf(state).paths);
  if (views.has("units")) {
    const { holder, words } = unitStrip(state, on, (layer) => pathOf(state, layer)?.order ?? null, "curve width");
    root.append(titled("Units that stay", holder, words));
  }
  const m = layerOf(state).count;
  const entries = [
    ["lam", "λ / Tr Σ", () => [scientific(state.get("lam")), state.get("lam")]],
    ["N", `N(λ) of ${m}`, () => freedomNow(state)],
  ];
  if (withPaths) entries.push(["width", `${layerOf(state).unit} kept`, () => [String(state.get("width")), state.get("width")]], ...lossEntries(state));
  root.append(numberRow(state, on, "lam width preview", entries));
  if (withPaths) {
    // A width beyond the rank lets go of λ; there is no box here to tick, so moving λ takes it back.
    state.on("change:lam", () => state.get("follow") || (state.set({ follow: true }), setLam(state, state.get("lam"))));
    const note = h("p", { class: "wbw-still-note", "data-testid": "chosen-at" });
    root.append(note);
    on("preview", () => setText(note, chosenWords(state)));
  }
  return state;
}
