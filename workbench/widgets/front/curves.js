// The two small plots of the spectrum panel: N(λ) over λ, and the losses against the width.

import { traceOf, degreesOfFreedom } from "./math.js";
import {
  clamp, h, s, setText, setAttributes, power, freedomText, numbers, layerOf, eigenvaluesOf, lamOf, isCurrent, setWidth,
  arrowSteps,
} from "./shared.js";
import { linearTicks, decadeTicks, scale, axes, plot, draggable } from "./axes.js";
import { lamDrag, endKey } from "./lamhand.js";

const LOSSES = [["combined", 3], ["input", 1], ["output", 2]]; // name, row of the curve's bytes

// Axes of N(λ), to `m` units, over λ from 10^bottom; what they stand at.
export function freedomAxes(grid, box, m, bottom) {
  const at = { box, bottom, x: scale(bottom, 0, box.left, box.right), y: scale(0, m, box.bottom, box.top) };
  axes(grid, box,
    decadeTicks(bottom, 0, Math.floor((box.right - box.left) / 44)).map((e) => [at.x(e), e ? power(e) : "1"]),
    linearTicks(0, m, 4, true).map((n) => [at.y(n), String(n)]));
  grid.append(s("text", { class: "wbw-title-x", x: (box.left + box.right) / 2, y: box.bottom + 30, "text-anchor": "middle" }, "λ / Tr Σ"));
  return at;
}

export function freedomPath(eigenvalues, at) {
  const trace = traceOf(eigenvalues);
  let path = "";
  for (let i = 0; i <= 120; i++) {
    const exponent = at.bottom - (at.bottom * i) / 120;
    path += `${i ? "L" : "M"}${at.x(exponent).toFixed(1)} ${at.y(degreesOfFreedom(eigenvalues, trace * 10 ** exponent)).toFixed(1)}`;
  }
  return path;
}

export function freedomPlot(state, on, bottomOf) {
  const holder = h("div", { class: "wbw-plot wbw-sideways" });
  let at = null;
  const grid = s("g");
  const curve = s("path", { class: "wbw-line wbw-kept-line" });
  const drop = s("path", { class: "wbw-drop" });
  const point = s("circle", { class: "wbw-point", r: 6 });
  const label = s("text", { class: "wbw-value", "text-anchor": "end" });
  const handle = s("g", { class: "wbw-handle", "data-testid": "freedom-point" }, point);

  const place = () => {
    const eigenvalues = eigenvaluesOf(state);
    if (!at || !eigenvalues.length) return;
    const N = degreesOfFreedom(eigenvalues, lamOf(state, eigenvalues));
    const [x, y] = [at.x(Math.log10(state.get("lam"))), at.y(N)];
    setAttributes(point, { cx: x, cy: y });
    drop.setAttribute("d", `M${at.box.left} ${y}H${x}V${at.box.bottom}`);
    setText(label, `N(λ) = ${freedomText(N)}`);
  };
  const redraw = () => {
    const eigenvalues = eigenvaluesOf(state);
    const { width, height } = view.size;
    if (!width || !eigenvalues.length) return;
    const box = { left: 40, right: width - 14, top: 8, bottom: height - 34 };
    at = freedomAxes(grid, box, eigenvalues.length, bottomOf());
    setAttributes(label, { x: box.right - 4, y: box.top + 13 }); // the curve falls: this corner is always free
    curve.setAttribute("d", freedomPath(eigenvalues, at));
    place();
  };
  const view = plot(holder, on, redraw, { "aria-label": "degrees of freedom against λ", "data-plot": "freedom" });
  view.svg.append(grid, curve, drop, handle, label);
  const drag = lamDrag(state, () => at && { scale: at.x, bottom: at.bottom }, ([x]) => x);
  draggable(view.svg, view.svg, drag.move, drag.grabbed, drag.released);
  return { holder, place, redraw };
}

export function lossPlot(state, on) {
  const holder = h("div", { class: "wbw-plot wbw-sideways" });
  let at = null;
  const grid = s("g");
  const lines = s("g");
  const paths = LOSSES.map(([name]) => s("path", { class: `wbw-line wbw-loss-${name}` }));
  const labels = LOSSES.map(([name]) => s("text", { class: `wbw-label wbw-loss-${name}` }, name));
  lines.append(...paths, ...labels);
  const mark = s("g", { class: "wbw-handle wbw-width-mark", tabindex: 0, role: "slider", "aria-label": "width", "aria-valuemin": 1, "data-testid": "width-line" },
    s("line", { class: "wbw-hit" }), s("line", { class: "wbw-width-line" }),
    s("g", {}, s("rect", { class: "wbw-grip", x: -12, width: 24, height: 14, rx: 7 }),
      s("path", { class: "wbw-grip-lines", d: "M-3 4V10M0 4V10M3 4V10" })));
  const waiting = s("text", { class: "wbw-value wbw-waiting", "text-anchor": "middle" });

  const place = () => {
    if (!at) return;
    const width = state.get("width");
    const x = at.x(width);
    mark.setAttribute("transform", `translate(${x.toFixed(1)} ${at.box.top})`);
    mark.lastChild.setAttribute("transform", `translate(${Math.max(0, at.box.left + 14 - x).toFixed(1)} 0)`);
    setAttributes(mark, { "aria-valuenow": width, "aria-valuemax": at.m });
  };
  const shade = () => {
    const mine = state.get("preview").request?.group === state.get("selected") && at?.drawn === state.get("curve");
    lines.classList.toggle("wbw-lag", !isCurrent(state, state.get("preview")));
    lines.style.display = mine ? "" : "none";
    setText(waiting, layerOf(state)?.stale ? "measure again" : "computing the losses …");
    waiting.style.display = mine || !layerOf(state)?.count ? "none" : "";
  };
  const redraw = () => {
    const m = eigenvaluesOf(state).length;
    const { width, height } = view.size;
    if (!width || !m) return;
    const values = numbers(state.get("curve"));
    const n = values.length / 4;
    const box = { left: 40, right: width - 66, top: 8, bottom: height - 34 };
    let least = 1;
    for (let i = n; i < values.length; i++) if (values[i] > 0) least = Math.min(least, values[i]);
    const bottom = clamp(Math.floor(Math.log10(least) + 1e-9), -6, -2);
    const y = scale(bottom, 0, box.bottom, box.top);
    at = { box, m, x: scale(0, m, box.left, box.right), y, drawn: state.get("curve") };
    axes(grid, box,
      linearTicks(0, m, Math.floor((box.right - box.left) / 36), true).map((w) => [at.x(w), String(w)]),
      decadeTicks(bottom, 0, Math.floor((box.bottom - box.top) / 20)).map((e) => [y(e), e ? power(e) : "1"]));
    const mine = state.get("preview").request?.group === state.get("selected");
    const partial = mine && n > 1 && n - 1 < m ? `, drawn to width ${n - 1}` : "";
    grid.append(s("text", { class: "wbw-title-x", x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, `${layerOf(state)?.unit ?? "units"} kept${partial}`));
    const at_y = (loss) => y(clamp(Math.log10(Math.max(loss, 1e-30)), bottom, 0));
    const ends = LOSSES.map(([, row], i) => {
      let path = "";
      for (let k = 0; k < n; k++) path += `${k ? "L" : "M"}${at.x(values[k]).toFixed(1)} ${at_y(values[row * n + k]).toFixed(1)}`;
      paths[i].setAttribute("d", path);
      return { label: labels[i], x: n ? at.x(values[n - 1]) : 0, y: n ? at_y(values[row * n + n - 1]) : 0 };
    });
    ends.sort((a, b) => a.y - b.y);
    let next = box.top + 4; // labels stand a line apart, and all inside the plot
    ends.forEach((end, i) => {
      next = clamp(end.y + 4, next, box.bottom - 13 * (ends.length - 1 - i));
      setAttributes(end.label, { x: end.x + 6, y: next });
      next += 13;
    });
    mark.querySelectorAll("line").forEach((line) => setAttributes(line, { y1: 0, y2: box.bottom - box.top }));
    setAttributes(waiting, { x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2 });
    place();
    shade();
  };
  const view = plot(holder, on, redraw, { "aria-label": "relative loss against width", "data-plot": "losses" });
  view.svg.append(grid, lines, waiting, mark);
  draggable(view.svg, view.svg, ([x]) => at && setWidth(state, at.x.invert(x)), () => mark.focus({ preventScroll: true }));
  mark.addEventListener("keydown", (event) => {
    const end = endKey(event);
    if (end) return setWidth(state, end < 0 ? 1 : (at?.m ?? 1));
    const steps = arrowSteps(event, Math.max(1, Math.round((at?.m ?? 1) / 10)));
    if (steps) setWidth(state, state.get("width") + steps);
  });
  return { holder, place, redraw, shade };
}
