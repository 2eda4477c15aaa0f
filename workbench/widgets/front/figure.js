// A figure of a rendered notebook: some views of one group, or of several spectra, that move without a kernel.

import { degreesOfFreedom } from "./math.js";
import { h, setText, scientific, fixed, percent, subscriber, layerOf, eigenvaluesOf, lamOf, setLam } from "./shared.js";
import { bottomFor, eigenPlot } from "./eigenplot.js";
import { freedomPlot, lossPlot } from "./curves.js";
import { overlayPlot, freedomCurves, overlayNumbers } from "./overlay.js";
import { unitStrip } from "./unitstrip.js";
import { stillState, pathOf, isExact } from "./stillstate.js";

// Light or dark, as the page around it or the system has it.
export function followTheme(root) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => (root.dataset.jpThemeLight = String(!dark.matches));
  dark.addEventListener("change", paint);
  paint();
}

// The plots of the selected group, each repainted by what it shows.
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
  on("preview", loss.shade);
  return { spectrum: eigen.holder, freedom: freedom.holder, losses: loss.holder };
}

// Numbers with a word under each: numbers([[name, caption, of], …]); `of` gives [text, value], or null.
export function numberRow(state, on, names, entries) {
  const shown = entries.map(([name, caption, of, hint]) => {
    const value = h("output", { class: "wbw-still-number", "data-testid": `readout-${name}` });
    return { of, value, node: h("div", { class: "wbw-still-readout", title: hint }, value, h("span", { class: "wbw-still-caption" }, caption)) };
  });
  on(names, () => shown.forEach(({ of, value }) => {
    const [text, exact] = of() ?? ["–", ""];
    value.dataset.value = exact;
    setText(value, text);
  }));
  return h("div", { class: "wbw-still-readouts" }, ...shown.map((one) => one.node));
}

export function freedomOf(state) {
  const eigenvalues = eigenvaluesOf(state);
  return eigenvalues.length ? degreesOfFreedom(eigenvalues, lamOf(state, eigenvalues)) : null;
}

export const lossEntries = (state) => [["input", "input loss"], ["output", "output loss"], ["combined", "combined loss"]].map(([name, caption]) =>
  [`${name}-loss`, caption, () => lossNow(state, `${name}_loss`), "Relative to keeping no unit"]);

export function lossNow(state, name) {
  const value = state.get("preview")[name];
  return value === null || value === undefined ? null : [percent(value), value];
}

// In words, at which λ and width the units shown were chosen.
export function chosenWords(state) {
  const path = pathOf(state);
  if (!path || isExact(state, path)) return "";
  return `Units and losses: as chosen at λ = ${scientific(path.lam)}, the nearest that was computed (there with ${path.width} units).`;
}

export function showFigure(values, root) {
  const state = stillState(values);
  const { on } = subscriber(state);
  const several = values.layers.length > 1;
  const views = new Set(values.views);
  followTheme(document.documentElement);
  root.classList.add("wbw-root", "wbw-still", "wbw-still-figure");
  const titled = (text, holder, ...more) => h("div", { class: "wbw-half" }, h("h4", {}, text, ...more), holder);
  if (values.title) root.append(h("h3", { class: "wbw-still-title" }, values.title));
  if (several) {
    if (views.has("spectrum")) root.append(overlayPlot(state, on));
    if (views.has("freedom")) root.append(titled("Degrees of freedom N(λ)", freedomCurves(state, on)));
    root.append(overlayNumbers(state, on));
    return state;
  }
  const made = spectrumViews(state, on);
  if (views.has("spectrum")) root.append(made.spectrum);
  const pair = [["freedom", "Degrees of freedom N(λ)"], ["losses", "Loss left, relative to keeping none"]]
    .filter(([name]) => views.has(name)).map(([name, text]) => titled(text, made[name]));
  if (pair.length) root.append(h("div", { class: "wbw-pair" }, ...pair));
  const withPaths = Boolean(layerOf(state).paths);
  if (views.has("units")) {
    const { holder, words } = unitStrip(state, on);
    root.append(titled("Units that stay", holder, words));
  }
  const m = layerOf(state).count;
  const entries = [
    ["lam", "λ / Tr Σ", () => [scientific(state.get("lam")), state.get("lam")]],
    ["N", `N(λ) of ${m}`, () => [fixed(freedomOf(state), freedomOf(state) < 99.95 ? 2 : 1), freedomOf(state).toPrecision(12)], "Degrees of freedom: Σ μ/(μ+λ)"],
  ];
  if (withPaths) entries.push(["width", `${layerOf(state).unit} kept`, () => [String(state.get("width")), state.get("width")], "⌈N(λ)⌉, or where the mark was put"], ...lossEntries(state));
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
