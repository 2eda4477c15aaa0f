// The eigenvalues with the λ line dragged on them, the share of each that is kept, and their sum N(λ).

import { LAM_MIN, LAM_MAX } from "./constants.js";
import { traceOf, degreesOfFreedom } from "./math.js";
import { clamp, h, s, setText, setAttributes, power, scientific, freedomText, eigenvaluesOf, lamOf } from "./shared.js";
import { linearTicks, decadeTicks, scale, axes, plot, draggable } from "./axes.js";
import { heldBottom, lamDrag, lamKeys } from "./lamhand.js";
import { eigenPointer } from "./eigenpointer.js";
import { plainly } from "./telling.js";

const STRIP = 38; // height of the strip whose filled area is N(λ)
const GRIP = 146; // width of the handle on the λ line
const SHARES_SEEN = 25; // steps of a bar's filling

// The least share of the trace that counts for the axis; remembered, since every move asks for it.
const LEAST = new WeakMap();
function leastOf(eigenvalues) {
  if (!LEAST.has(eigenvalues)) {
    const trace = traceOf(eigenvalues);
    let least = 1;
    for (const mu of eigenvalues) if (mu > 1e-12 * trace) least = Math.min(least, mu / trace);
    LEAST.set(eigenvalues, least);
  }
  return LEAST.get(eigenvalues);
}

// The lower end of the axis, an exponent of 10: a decade under the least eigenvalue of all, and never above λ; nor,
// while a hand holds λ, above where it was.
export function bottomFor(state, spectra = [eigenvaluesOf(state)]) {
  const least = Math.min(1, ...spectra.map(leastOf));
  const natural = clamp(Math.floor(Math.log10(least)) - 1, -10, -4);
  return Math.min(natural, heldBottom(state), Math.floor(Math.log10(state.get("lam")) + 1e-9));
}

// Where the bars stand: one an eigenvalue, or one a pixel where there are more; what no move of λ changes.
function columnsOf(m, x) {
  const gap = x(2) - x(1) > 4 ? 1 : 0;
  const count = Math.min(m, Math.ceil(x(m) - x(0)));
  return Array.from({ length: count }, (_, i) => {
    const [index, next] = [Math.floor((i * m) / count), Math.floor(((i + 1) * m) / count)];
    return { index, left: x(index).toFixed(2), right: (x(next) - gap).toFixed(2) };
  });
}
const barsOf = (columns, eigenvalues, yOf, base) =>
  columns.map(({ index, left, right }) => `M${left} ${base}V${yOf(eigenvalues[index]).toFixed(2)}H${right}V${base}Z`);

// Bars filled by the share of each that is kept, in steps that no eye tells apart. The shares fall from the first to
// the last, so that a step is a run of bars, and a move of λ draws those runs anew that have other ends.
function filledBars() {
  const steps = Array.from({ length: SHARES_SEEN }, (_, i) => s("path", { class: "wbw-kept", "fill-opacity": (i + 1) / SHARES_SEEN }));
  let [bars, ends] = [[], []];
  return {
    node: s("g", { "data-testid": "kept-bars" }, ...steps),
    of: (next) => ([bars, ends] = [next, []]),
    paint: (shareOf) => {
      let from = 0;
      for (let i = steps.length - 1; i >= 0; i--) {
        let to = from;
        while (to < bars.length && Math.round(SHARES_SEEN * shareOf(to)) > i) to++;
        const at = from === to ? "" : `${from} ${to}`;
        if (ends[i] !== at) steps[i].setAttribute("d", bars.slice(from, to).join(""));
        ends[i] = at;
        from = to;
      }
    },
  };
}

// The λ line, a slider: across(box) lays it over a plot, at(y) puts it in its place; drags(…) lets a hand move it
// over `targets`, by the plot's { y, bottom } that `scaleOf` gives.
export function lamHandle(state) {
  const value = s("text", { class: "wbw-grip-text", y: 4.5, "text-anchor": "middle" });
  const grip = s("rect", { class: "wbw-grip", y: -11, width: GRIP, height: 22, rx: 11 });
  const arrows = s("path", { class: "wbw-grip-lines" });
  const lines = [s("line", { class: "wbw-hit" }), s("line", { class: "wbw-lam-line" })];
  const node = s("g", { class: "wbw-handle wbw-lam", tabindex: 0, role: "slider", "aria-label": "λ relative to the trace",
    "aria-valuemin": plainly(LAM_MIN), "aria-valuemax": LAM_MAX, "aria-orientation": "vertical", "data-testid": "lam-line" }, ...lines, grip, value, arrows);
  const across = (box) => {
    lines.forEach((one) => setAttributes(one, { x1: box.left, x2: box.right }));
    grip.setAttribute("x", box.right - GRIP);
    value.setAttribute("x", box.right - GRIP / 2 - 9);
    arrows.setAttribute("d", `M${box.right - 21} -2l4.5 -4.5l4.5 4.5M${box.right - 21} 2l4.5 4.5l4.5 -4.5`);
  };
  const at = (y) => {
    const text = scientific(state.get("lam"));
    node.setAttribute("transform", `translate(0 ${y.toFixed(2)})`);
    setAttributes(node, { "aria-valuenow": plainly(state.get("lam")), "aria-valuetext": text });
    setText(value, `λ = ${text}`);
  };
  const drags = (targets, svg, scaleOf) => {
    const drag = lamDrag(state, () => scaleOf() && { scale: scaleOf().y, bottom: scaleOf().bottom }, ([, y]) => y);
    const grabbed = () => (node.focus({ preventScroll: true }), drag.grabbed());
    for (const target of targets) draggable(target, svg, drag.move, grabbed, drag.released);
    node.addEventListener("keydown", (event) => lamKeys(state, event));
  };
  return { node, across, at, drags };
}

export function eigenPlot(state, on) {
  const holder = h("div", { class: "wbw-plot wbw-eigenplot" });
  const grid = s("g");
  const lost = s("path", { class: "wbw-lost" });
  const kept = filledBars();
  const stripLost = s("path", { class: "wbw-lost" });
  const stripKept = s("path", { class: "wbw-kept" });
  const area = s("path", { class: "wbw-area" });
  const areaLabel = s("text", { class: "wbw-value", "text-anchor": "end" });
  const handle = lamHandle(state);
  const surface = s("rect", { class: "wbw-surface" });
  let at = null;
  const pointer = eigenPointer(state, surface, () => at);

  const place = () => {
    const eigenvalues = eigenvaluesOf(state);
    if (!at || !eigenvalues.length) return;
    if (at.bottom !== bottomFor(state)) return redraw();
    pointer.hide();
    const lam = lamOf(state, eigenvalues);
    const N = degreesOfFreedom(eigenvalues, lam);
    handle.at(at.y(Math.log10(state.get("lam"))));
    const shareOf = (mu) => mu / (mu + lam) || 0;
    kept.paint((i) => shareOf(eigenvalues[at.columns[i].index]));
    stripKept.setAttribute("d", barsOf(at.columns, eigenvalues, (mu) => at.share(shareOf(mu)), at.strip).join(""));
    area.setAttribute("d", `M${at.box.left} ${at.strip - STRIP}H${at.x(N).toFixed(2)}V${at.strip}`);
    const words = at.box.right - at.box.left > 300 ? "filled area = N(λ)" : "N(λ)";
    const inside = at.x(N) < at.box.right - (words === "N(λ)" ? 100 : 196); // room for the words beside the area
    setAttributes(areaLabel, { x: inside ? at.box.right - 6 : at.x(N) - 8, y: at.strip - STRIP / 2 + 4 });
    areaLabel.classList.toggle("wbw-on-kept", !inside);
    setText(areaLabel, `${words} = ${freedomText(N)}`);
  };
  const redraw = () => {
    const eigenvalues = eigenvaluesOf(state);
    const { width, height } = view.size;
    if (!width || !eigenvalues.length) return;
    const m = eigenvalues.length;
    const trace = traceOf(eigenvalues);
    const strip = height - 34;
    const box = { left: 52, right: width - 14, top: 11, bottom: strip - STRIP - 11 };
    const bottom = bottomFor(state);
    const x = scale(0, m, box.left, box.right);
    at = { box, strip, bottom, x, columns: columnsOf(m, x), y: scale(bottom, 0, box.bottom, box.top), share: scale(0, 1, strip, strip - STRIP) };
    const most = Math.max(3, Math.floor((box.bottom - box.top) / 20));
    axes(grid, box, [], decadeTicks(bottom, 0, most).map((e) => [at.y(e), e ? power(e) : "1"]));
    grid.append(s("text", { class: "wbw-tick", x: box.left - 6, y: strip - STRIP + 8, "text-anchor": "end" }, "1"),
      s("text", { class: "wbw-tick", x: box.left - 6, y: strip + 1, "text-anchor": "end" }, "0"),
      s("text", { class: "wbw-tick", x: box.left - 16, y: strip - STRIP / 2 + 5, "text-anchor": "end" }, "share"));
    for (const j of linearTicks(0, m, Math.floor((box.right - box.left) / 60), true)) {
      grid.append(s("text", { class: "wbw-tick", x: at.x(j), y: strip + 15, "text-anchor": "middle" }, String(j)));
    }
    grid.append(s("text", { class: "wbw-title-x", x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, "number of eigenvalues, largest first"));
    const yOf = (mu) => at.y(clamp(Math.log10(Math.max(mu / trace, 1e-30)), bottom, 0));
    const bars = barsOf(at.columns, eigenvalues, yOf, box.bottom);
    lost.setAttribute("d", bars.join(""));
    kept.of(bars);
    stripLost.setAttribute("d", barsOf(at.columns, eigenvalues, () => strip - STRIP, strip).join(""));
    setAttributes(surface, { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top });
    handle.across(box);
    place();
  };
  const view = plot(holder, on, redraw, { "aria-label": "eigenvalues of the selected group", "data-testid": "spectrum-plot", "data-plot": "spectrum" });
  view.svg.append(grid, lost, kept.node, stripLost, stripKept, area, areaLabel, pointer.node, surface, handle.node);
  handle.drags([surface, handle.node], view.svg, () => at);
  return { holder, place, redraw };
}
