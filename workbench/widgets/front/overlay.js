// Several spectra on one axis under one λ: their lines, N(λ) of each, and the curves N(λ) over λ.

import { traceOf, degreesOfFreedom } from "./math.js";
import { h, s, setText, setAttributes, power, freedomText, eigenvaluesOf, lamOf } from "./shared.js";
import { setName } from "./names.js";
import { linearTicks, decadeTicks, scale, axes, plot, draggable } from "./axes.js";
import { lamDrag } from "./lamhand.js";
import { bottomFor, lamHandle } from "./eigenplot.js";
import { freedomAxes, freedomPath } from "./curves.js";

const HUES = [0, 3, 4, 5, 6, 7, 8, 2]; // of the style sheet, without the one that λ has
const DASHES = ["", "stroke-dasharray: 7 3", "stroke-dasharray: 2 3"];
const hue = (index) => `--wbw-hue: var(--wbw-hue-${HUES[index % HUES.length]}); ${DASHES[index % DASHES.length]}`;
const layers = (state) => state.get("layers");

const lowest = (state) => bottomFor(state, layers(state).map((layer) => eigenvaluesOf(state, layer)));

export function overlayPlot(state, on) {
  const holder = h("div", { class: "wbw-plot wbw-eigenplot" });
  const [grid, lines] = [s("g"), s("g")];
  const handle = lamHandle(state);
  const surface = s("rect", { class: "wbw-surface" });
  let at = null;
  const place = () => {
    if (!at) return;
    if (at.bottom !== lowest(state)) return redraw();
    handle.at(at.y(Math.log10(state.get("lam"))));
  };
  const redraw = () => {
    const { width, height } = view.size;
    if (!width) return;
    const m = Math.max(...layers(state).map((layer) => layer.count));
    const box = { left: 52, right: width - 14, top: 11, bottom: height - 34 };
    const bottom = lowest(state);
    at = { bottom, x: scale(1, Math.max(m, 2), box.left, box.right), y: scale(bottom, 0, box.bottom, box.top) };
    axes(grid, box, linearTicks(1, m, Math.floor((box.right - box.left) / 60), true).map((j) => [at.x(j), String(j)]),
      decadeTicks(bottom, 0, Math.max(3, Math.floor((box.bottom - box.top) / 20))).map((e) => [at.y(e), e ? power(e) : "1"]));
    grid.append(s("text", { class: "wbw-title-x", x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, "eigenvalue, largest first"));
    lines.replaceChildren(...layers(state).map((layer, i) => {
      const eigenvalues = eigenvaluesOf(state, layer);
      const trace = traceOf(eigenvalues);
      let path = "";
      eigenvalues.forEach((mu, j) => {
        const exponent = Math.log10(Math.max(mu / trace, 1e-30));
        if (exponent >= bottom) path += `${path ? "L" : "M"}${at.x(j + 1).toFixed(1)} ${at.y(exponent).toFixed(1)}`;
      });
      return s("path", { class: "wbw-line wbw-hued-line", style: hue(i), d: path });
    }));
    setAttributes(surface, { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top });
    handle.across(box);
    place();
  };
  const view = plot(holder, on, redraw, { "aria-label": "eigenvalues of every spectrum", "data-testid": "overlay-plot" });
  view.svg.append(grid, lines, surface, handle.node);
  handle.drags([surface, handle.node], view.svg, () => at);
  on("lam", place);
  return holder;
}

export function freedomCurves(state, on) {
  const holder = h("div", { class: "wbw-plot wbw-sideways" });
  const [grid, lines, points] = [s("g"), s("g"), s("g")];
  const drop = s("path", { class: "wbw-drop" });
  const dots = layers(state).map((layer, i) => s("circle", { class: "wbw-hued wbw-still-dot", style: hue(i), r: 5.5 }));
  let at = null;
  const place = () => {
    if (!at) return;
    if (at.bottom !== lowest(state)) return redraw();
    const x = at.x(Math.log10(state.get("lam")));
    drop.setAttribute("d", `M${x} ${at.box.top}V${at.box.bottom}`);
    layers(state).forEach((layer, i) => {
      const eigenvalues = eigenvaluesOf(state, layer);
      setAttributes(dots[i], { cx: x, cy: at.y(degreesOfFreedom(eigenvalues, lamOf(state, eigenvalues))) });
    });
  };
  const redraw = () => {
    const { width, height } = view.size;
    if (!width) return;
    const m = Math.max(...layers(state).map((layer) => layer.count));
    const box = { left: 46, right: width - 14, top: 8, bottom: height - 34 };
    at = freedomAxes(grid, box, m, lowest(state));
    lines.replaceChildren(...layers(state).map((layer, i) =>
      s("path", { class: "wbw-line wbw-hued-line", style: hue(i), d: freedomPath(eigenvaluesOf(state, layer), at) })));
    place();
  };
  const view = plot(holder, on, redraw, { "aria-label": "degrees of freedom of every spectrum against λ" });
  points.append(...dots);
  view.svg.append(grid, drop, lines, points);
  const drag = lamDrag(state, () => at && { scale: at.x, bottom: at.bottom }, ([x]) => x);
  draggable(view.svg, view.svg, drag.move, drag.grabbed, drag.released);
  on("lam", place);
  return holder;
}

// A line a spectrum: its colour, its name, and N(λ) of m.
export function overlayNumbers(state, on) {
  const rows = layers(state).map((layer, i) => {
    const name = h("span", { class: "wbw-name" });
    setName(name, layer.name);
    const value = h("output", { class: "wbw-still-number", "data-testid": `N-${i}` });
    const swatch = s("svg", { width: 34, height: 12, "aria-hidden": "true" }, s("path", { class: "wbw-hued-line", style: `${hue(i)}; stroke-width: 3`, d: "M0 6H34" }));
    return { layer, value, node: h("div", { class: "wbw-still-key" }, swatch, name, h("span", {}, "N(λ) = ", value, ` of ${layer.count}`)) };
  });
  on("lam", () => rows.forEach(({ layer, value }) => {
    const eigenvalues = eigenvaluesOf(state, layer);
    const N = degreesOfFreedom(eigenvalues, lamOf(state, eigenvalues));
    value.dataset.value = N.toPrecision(12);
    setText(value, freedomText(N));
  }));
  return h("div", { class: "wbw-still-keys" }, ...rows.map((one) => one.node));
}
