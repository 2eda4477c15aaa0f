// λ and the width of the selected group, and what follows from them: a number each, with its term of the glossary.

import { LAM_MIN, LAM_MAX } from "./constants.js";
import { guaranteedWidth, suggestedWidth } from "./math.js";
import { costAt } from "./cost.js";
import { h, setText, scientific, freedomText, count, percent, layerOf, eigenvaluesOf, lamOf, setLam, setWidth } from "./shared.js";
import { typedEntry, slider } from "./controls.js";
import { freedomOf } from "./stilllinks.js";
import { chosenWords, lossNow, numberRow } from "./stillviews.js";

// Parameters and MACs that go where this group alone has its width.
function savedNow(state) {
  const budget = state.get("budget");
  const at = budget.names.indexOf(state.get("selected"));
  if (at < 0) return null;
  const left = costAt(budget, budget.widths.map((m, i) => (i === at ? state.get("width") : m)));
  return { parameters: budget.parameters - left.parameters, macs: budget.macs - left.macs };
}

function entries(state) {
  const withSpectrum = (of) => () => {
    const eigenvalues = eigenvaluesOf(state);
    return eigenvalues.length ? of(freedomOf(eigenvalues, state.get("lam")), eigenvalues) : null;
  };
  const suggested = (width) => [String(width), width];
  const guaranteed = (width, m) => [count(width) + (width > m ? " > m" : ""), width];
  const saved = (what) => () => {
    const all = savedNow(state);
    return all && [count(all[what]), all[what]];
  };
  return [
    ["N", "N(λ)", withSpectrum((N) => [freedomText(N), N.toPrecision(12)]), "degrees of freedom"],
    ["N-share", "N(λ) / m", withSpectrum((N, mu) => [percent(N / mu.length), N / mu.length]), "share of the width"],
    ["width", "width from N(λ)", withSpectrum((N, mu) => suggested(suggestedWidth(mu, lamOf(state, mu)))), "suggested width"],
    ["guaranteed", "guaranteed", withSpectrum((N, mu) => guaranteed(guaranteedWidth(N), mu.length)), "guaranteed width"],
    ["input-loss", "input loss", () => lossNow(state, "input_loss"), "input loss"],
    ["output-loss", "output loss", () => lossNow(state, "output_loss"), "output loss"],
    ["combined-loss", "combined", () => lossNow(state, "combined_loss"), "combined loss"],
    ["error", "error at readers", () => lossNow(state, "predicted_error"), "predicted error"],
    ["params-saved", "param. saved", saved("parameters"), "parameters"],
    ["macs-saved", "MACs saved", saved("macs"), "MACs"],
  ];
}

export function choicePanel(state, on) {
  const m = () => Math.max(eigenvaluesOf(state).length, 1);
  const lamSlider = slider("lam-slider", "λ relative to the trace, on a log scale", (value) => setLam(state, 10 ** value), 0.05, () => 10);
  const widthSlider = slider("width-slider", "width", (value) => setWidth(state, value), 1, () => Math.max(1, Math.round(m() / 10)));
  const lamText = h("span", { class: "wbw-set" });
  const entry = typedEntry({ type: "number", class: "wbw-entry", min: 1, "data-testid": "width-input", "aria-label": "width" },
    () => String(state.get("width")), (text) => text && setWidth(state, Number(text)), () => state.get("selected"));
  const follow = h("input", { type: "checkbox", "data-testid": "follow",
    onchange: () => (state.set({ follow: follow.checked }), follow.checked && setLam(state, state.get("lam"))) });
  const of = h("span", { class: "wbw-still-caption" });
  const note = h("p", { class: "wbw-still-note", "data-testid": "chosen-at", "aria-live": "polite" });
  on("lam width follow selected", () => {
    const shown = Boolean(layerOf(state)?.count);
    lamSlider.paint(Math.log10(LAM_MIN), Math.log10(LAM_MAX), Math.log10(state.get("lam")), scientific(state.get("lam")));
    setText(lamText, scientific(state.get("lam")));
    lamText.dataset.value = state.get("lam");
    widthSlider.paint(1, m(), state.get("width"), String(state.get("width")));
    entry.max = m();
    entry.paint();
    entry.disabled = widthSlider.disabled = !shown;
    setText(of, shown ? `of ${m()}` : "");
    follow.checked = state.get("follow");
  });
  on("preview", () => setText(note, chosenWords(state)));
  return h("div", { class: "wbw-still-choice" },
    h("div", { class: "wbw-still-control" }, h("div", { class: "wbw-row" }, h("span", { class: "wbw-symbol" }, "λ"), h("span", { class: "wbw-still-caption" }, "of Tr Σ, for all"), lamText), lamSlider),
    h("div", { class: "wbw-still-control" }, h("div", { class: "wbw-row" }, h("span", { class: "wbw-symbol" }, "Width"), of, entry), widthSlider),
    h("label", { class: "wbw-check" }, follow, "widths follow N(λ)"),
    numberRow(state, on, "lam width preview selected", entries(state)), note);
}
