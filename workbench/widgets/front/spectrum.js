// The spectrum: eigenvalues with the λ line dragged on them, the share of each that is kept, N(λ), losses.

import { LAM_MIN, LAM_MAX } from "./constants.js";
import { traceOf, degreesOfFreedom } from "./math.js";
import {
  clamp, h, s, setText, setAttributes, setName, power, scientific, fixed, panel, layerOf, eigenvaluesOf, lamOf,
  busy, CHOSEN, setLam, arrowSteps,
} from "./shared.js";
import { linearTicks, decadeTicks, scale, axes, plot, draggable } from "./axes.js";
import { freedomPlot, lossPlot } from "./curves.js";

const STRIP = 38; // height of the strip whose filled area is N(λ)
const GRIP = 146; // width of the handle on the λ line
const HARD_STOPS = 128; // up to this many eigenvalues each bar has its own colour, above it they are sampled

// The lower end of the axis, an exponent of 10: a decade under the least eigenvalue, and never above λ.
function bottomFor(state) {
  const eigenvalues = eigenvaluesOf(state);
  const trace = traceOf(eigenvalues);
  let least = 1;
  for (const mu of eigenvalues) if (mu > 1e-12 * trace) least = Math.min(least, mu / trace);
  const natural = clamp(Math.floor(Math.log10(least)) - 1, -10, -4);
  return Math.min(natural, Math.floor(Math.log10(state.get("lam")) + 1e-9));
}

function bars(eigenvalues, x, yOf, base) {
  const gap = x(2) - x(1) > 4 ? 1 : 0;
  let path = "";
  const columns = Math.min(eigenvalues.length, Math.ceil(x(eigenvalues.length) - x(0)));
  for (let i = 0; i < columns; i++) {
    const j = Math.floor((i * eigenvalues.length) / columns);
    const [from, to] = [x(j), x(Math.floor(((i + 1) * eigenvalues.length) / columns)) - gap];
    path += `M${from.toFixed(2)} ${base}V${yOf(eigenvalues[j]).toFixed(2)}H${to.toFixed(2)}V${base}Z`;
  }
  return path;
}

function eigenPlot(state, on) {
  const holder = h("div", { class: "wbw-plot wbw-eigenplot" });
  const id = `wbw-share-${Math.random().toString(36).slice(2)}`;
  const gradient = s("linearGradient", { id, gradientUnits: "userSpaceOnUse" });
  const grid = s("g");
  const lost = s("path", { class: "wbw-lost" });
  const kept = s("path", { fill: `url(#${id})` });
  const stripLost = s("path", { class: "wbw-lost" });
  const stripKept = s("path", { class: "wbw-kept" });
  const area = s("path", { class: "wbw-area" });
  const areaLabel = s("text", { class: "wbw-value", "text-anchor": "end" });
  const value = s("text", { class: "wbw-grip-text", y: 4.5, "text-anchor": "middle" });
  const line = s("g", { class: "wbw-handle wbw-lam", tabindex: 0, role: "slider", "aria-label": "λ relative to the trace",
    "aria-valuemin": LAM_MIN, "aria-valuemax": LAM_MAX, "aria-orientation": "vertical", "data-testid": "lam-line" },
    s("line", { class: "wbw-hit" }), s("line", { class: "wbw-lam-line" }),
    s("rect", { class: "wbw-grip", y: -11, width: GRIP, height: 22, rx: 11 }), value, s("path", { class: "wbw-grip-lines" }));
  const surface = s("rect", { class: "wbw-surface" });
  let at = null;

  const place = () => {
    const eigenvalues = eigenvaluesOf(state);
    if (!at || !eigenvalues.length) return;
    if (at.bottom !== bottomFor(state)) return redraw();
    const relative = state.get("lam");
    const lam = lamOf(state, eigenvalues);
    const N = degreesOfFreedom(eigenvalues, lam);
    const y = at.y(Math.log10(relative));
    line.setAttribute("transform", `translate(0 ${y.toFixed(2)})`);
    setAttributes(line, { "aria-valuenow": relative, "aria-valuetext": scientific(relative) });
    setText(value, `λ = ${scientific(relative)}`);
    at.stops.forEach(({ stop, index }) => stop.setAttribute("stop-opacity", (eigenvalues[index] / (eigenvalues[index] + lam) || 0).toFixed(3)));
    stripKept.setAttribute("d", bars(eigenvalues, at.x, (mu) => at.share(mu / (mu + lam) || 0), at.strip));
    area.setAttribute("d", `M${at.box.left} ${at.strip - STRIP}H${at.x(N).toFixed(2)}V${at.strip}`);
    const inside = at.x(N) < at.box.right - 150;
    setAttributes(areaLabel, { x: inside ? at.box.right - 6 : at.x(N) - 8, y: at.strip - STRIP / 2 + 4 });
    areaLabel.classList.toggle("wbw-on-kept", !inside);
    setText(areaLabel, `filled area = N(λ) = ${fixed(N, N < 99.95 ? 2 : 1)}`);
  };
  const stopsFor = (m) => {
    const each = m <= HARD_STOPS;
    const samples = each ? m : 96;
    const stops = [];
    for (let i = 0; i < samples; i++) {
      const index = each ? i : Math.round((i * (m - 1)) / (samples - 1));
      for (const offset of each ? [i / m, (i + 1) / m] : [(index + 0.5) / m]) {
        stops.push({ index, stop: s("stop", { offset, class: "wbw-kept-stop" }) });
      }
    }
    gradient.replaceChildren(...stops.map((one) => one.stop));
    return stops;
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
    at = { box, strip, bottom, x: scale(0, m, box.left, box.right), y: scale(bottom, 0, box.bottom, box.top),
      share: scale(0, 1, strip, strip - STRIP), stops: stopsFor(m) };
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
    const shape = bars(eigenvalues, at.x, yOf, box.bottom);
    lost.setAttribute("d", shape);
    kept.setAttribute("d", shape);
    stripLost.setAttribute("d", bars(eigenvalues, at.x, () => strip - STRIP, strip));
    setAttributes(gradient, { x1: box.left, x2: box.right, y1: 0, y2: 0 });
    setAttributes(surface, { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top });
    line.querySelectorAll("line").forEach((one) => setAttributes(one, { x1: box.left, x2: box.right }));
    line.querySelector("rect").setAttribute("x", box.right - GRIP);
    value.setAttribute("x", box.right - GRIP / 2 - 9);
    line.querySelector("path").setAttribute("d", `M${box.right - 21} -2l4.5 -4.5l4.5 4.5M${box.right - 21} 2l4.5 4.5l4.5 -4.5`);
    place();
  };
  const view = plot(holder, on, redraw, { "aria-label": "eigenvalues of the selected group", "data-testid": "spectrum-plot" });
  view.svg.append(s("defs", {}, gradient), grid, lost, kept, stripLost, stripKept, area, areaLabel, surface, line);
  const drag = ([, y]) => at && setLam(state, 10 ** clamp(at.y.invert(y), at.bottom, 0));
  for (const target of [surface, line]) draggable(target, view.svg, drag, () => line.focus({ preventScroll: true }));
  line.addEventListener("keydown", (event) => {
    const steps = arrowSteps(event, 10);
    if (steps) setLam(state, state.get("lam") * 10 ** (0.05 * steps));
  });
  return { holder, place, redraw };
}

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
