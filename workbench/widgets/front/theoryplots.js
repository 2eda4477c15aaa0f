// The two plots of the theory tab, both over λ, whose line is dragged on either: losses, and bias with variance.

import { LAM_MIN, SWEPT_LAMS } from "./constants.js";
import { biasAndVariance } from "./math.js";
import { clamp, h, s, setAttributes, power, scientific, layerOf, eigenvaluesOf } from "./shared.js";
import { decadeTicks, scale, axes, plot, draggable } from "./axes.js";
import { lamDrag, lamKeys } from "./lamhand.js";
import { plainly } from "./telling.js";

const FIRST = Math.log10(SWEPT_LAMS[0]);
const LAST = Math.log10(SWEPT_LAMS.at(-1));
export const spectraOf = (state, names) => names.map((name) => eigenvaluesOf(state, layerOf(state, name)));

// Lines over λ on log axes: `lines()` gives [{ name, kind, values, mark }], values at `lams()`, all above 0.
function overLam(state, on, { label, testid, title, lams, lines }) {
  const holder = h("div", { class: "wbw-plot wbw-sideways", "data-testid": testid });
  const [grid, drawn, labels] = [s("g"), s("g"), s("g", { class: "wbw-over-line" })];
  const bar = s("line", { class: "wbw-lam-line" });
  const handle = s("g", { class: "wbw-handle wbw-upright", tabindex: 0, role: "slider", "aria-label": "λ relative to the trace", "aria-valuemin": plainly(LAM_MIN), "aria-valuemax": 1, "data-testid": `${testid}-lam` },
    s("line", { class: "wbw-hit" }), bar, s("circle", { class: "wbw-grip", r: 7 }));
  let at = null;

  const place = () => {
    if (!at) return;
    const relative = state.get("lam");
    const x = at.x(clamp(Math.log10(relative), FIRST, LAST));
    handle.setAttribute("transform", `translate(${x.toFixed(1)} 0)`);
    setAttributes(handle, { "aria-valuenow": plainly(relative), "aria-valuetext": scientific(relative) });
  };
  const redraw = () => {
    const { width, height } = view.size;
    const all = width ? lines().filter((line) => line.values.some((value) => value > 0)) : [];
    for (const part of [drawn, grid, labels]) part.replaceChildren();
    handle.style.display = all.length ? "" : "none";
    at = null;
    if (!all.length) return;
    const values = all.flatMap((line) => line.values.filter((value) => value > 0));
    const [low, high] = [Math.max(Math.floor(Math.log10(Math.min(...values))), -12), Math.ceil(Math.log10(Math.max(...values)) + 1e-9)];
    const box = { left: 46, right: width - 122, top: 12, bottom: height - 34 };
    const y = scale(low, high, box.bottom, box.top);
    at = { box, x: scale(FIRST, LAST, box.left, box.right) };
    axes(grid, box, decadeTicks(FIRST, LAST, Math.floor((box.right - box.left) / 46)).map((e) => [at.x(e), e ? power(e) : "1"]),
      decadeTicks(low, high, Math.max(2, Math.floor((box.bottom - box.top) / 22))).map((e) => [y(e), e ? power(e) : "1"]));
    grid.append(s("text", { class: "wbw-title-x", x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, title));
    const ends = [];
    for (const line of all) {
      const points = line.values.map((value, i) => [at.x(Math.log10(lams()[i])), y(Math.max(Math.log10(Math.max(value, 1e-300)), low)), value]).filter(([, , value]) => value > 0);
      drawn.append(s("path", { class: `wbw-line wbw-${line.kind}`, d: points.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("") }));
      if (line.mark !== undefined) {
        const [a, b] = [at.x(Math.log10(lams()[line.mark])), y(Math.log10(line.values[line.mark]))];
        drawn.append(s("circle", { class: "wbw-least", cx: a, cy: b, r: 5, "data-testid": `${testid}-least`, "data-lam": lams()[line.mark] }));
        labels.append(s("text", { class: "wbw-label", x: a, y: b - 10, "text-anchor": a > box.right - 60 ? "end" : a < box.left + 60 ? "start" : "middle" }, `least at ${line.mark ? "" : "or below "}λ = ${scientific(lams()[line.mark], 2)}`));
      }
      ends.push({ text: s("text", { class: `wbw-label wbw-${line.kind}`, x: box.right + 6 }, line.name), y: points.at(-1)[1] });
    }
    ends.sort((a, b) => a.y - b.y);
    let next = box.top;
    ends.forEach(({ text, y: end }, i) => { // a line apart, and all beside the plot
      next = clamp(end + 4, next, box.bottom - 14 * (ends.length - 1 - i));
      text.setAttribute("y", next);
      next += 14;
      drawn.append(text);
    });
    handle.querySelectorAll("line").forEach((one) => setAttributes(one, { y1: box.top, y2: box.bottom }));
    handle.lastChild.setAttribute("cy", box.top);
    place();
  };
  const view = plot(holder, on, redraw, { "aria-label": label, "data-plot": testid });
  view.svg.append(grid, drawn, handle, labels); // words are read where λ's line passes
  const drag = lamDrag(state, () => at && { scale: at.x, bottom: FIRST }, ([x]) => x);
  draggable(view.svg, view.svg, drag.move, () => (handle.focus({ preventScroll: true }), drag.grabbed()), drag.released);
  handle.addEventListener("keydown", (event) => lamKeys(state, event));
  on("lam", place);
  return { holder, redraw, drawn };
}

export function lossSweepPlot(state, on) {
  const answer = () => (state.get("loss_sweep").group === state.get("selected") ? state.get("loss_sweep") : {});
  const view = overLam(state, on, {
    label: "largest loss of a read-out against λ", testid: "theory-losses", title: "λ / Tr Σ", lams: () => answer().lams ?? SWEPT_LAMS,
    lines: () => [
      { name: "4λ, the bound", kind: "promised", values: (answer().lams ?? SWEPT_LAMS).map((lam) => 4 * lam) },
      { name: "⌈N(λ)⌉, greedy", kind: "chosen", values: answer().greedy ?? [] },
      { name: "5N log 80N, drawn", kind: "drawn", values: answer().sampled ?? [] }],
  });
  on("loss_sweep selected revision layers tab", () => {
    view.redraw();
    view.drawn.classList.toggle("wbw-lag", answer().revision !== state.get("revision"));
  });
  return view.holder;
}

export const samplesOf = (state) => state.get("samples") || state.get("stretch").samples || 0;
export function biasPlot(state, on) {
  const lines = () => {
    const stretch = state.get("stretch");
    const samples = samplesOf(state);
    if (!stretch.groups || samples < 2) return [];
    const spectra = spectraOf(state, stretch.groups);
    if (spectra.some((one) => !one.length)) return []; // the network has changed, and its factors are on the way
    const found = SWEPT_LAMS.map((lam) => biasAndVariance(spectra, stretch, samples, lam));
    const total = found.map(({ bias, variance }) => bias + variance);
    return [
      { name: "δ₁ + δ₂", kind: "promised", values: total, mark: total.indexOf(Math.min(...total)) },
      { name: "δ₁, bias", kind: "chosen", values: found.map((one) => one.bias) },
      { name: "δ₂, variance", kind: "drawn", values: found.map((one) => one.variance) }];
  };
  const view = overLam(state, on, { label: "bias and variance against λ, up to constants", testid: "theory-bias", title: "λ / Tr Σ, the same for every group", lams: () => SWEPT_LAMS, lines });
  on("stretch samples spectra revision tab", () => {
    view.redraw();
    view.drawn.classList.toggle("wbw-lag", state.get("stretch").revision !== state.get("revision"));
  });
  return view.holder;
}
