// Axes, plots that fill their holder, and dragging.

import { s, setAttributes } from "./shared.js";

// Round values from low to high, about `most` of them; of `whole` things whole numbers alone.
export function linearTicks(low, high, most, whole = false) {
  const rough = Math.max((high - low) / Math.max(most, 1), whole ? 1 : 0);
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * decade).find((size) => size >= rough * 0.999);
  const ticks = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) ticks.push(Number(value.toPrecision(12)));
  return ticks;
}
// The same, but never fewer than three, which alone say how an axis runs.
export function threeTicks(low, high, most, whole = false) {
  for (let n = Math.max(most, 2); ; n++) {
    const ticks = linearTicks(low, high, n, whole);
    if (ticks.length >= 3 || n > most + 20) return ticks;
  }
}
export function decadeTicks(low, high, most) {
  const step = Math.max(1, Math.ceil((high - low) / most));
  const ticks = [];
  for (let exponent = Math.floor(high); exponent >= low; exponent -= step) ticks.push(exponent);
  return ticks;
}
export const scale = (low, high, from, to) => {
  const at = (value) => from + ((value - low) / (high - low)) * (to - from);
  at.invert = (pixel) => low + ((pixel - from) / (to - from)) * (high - low);
  return at;
};
// Ticks with their texts, [[position, text], …]: as many digits as the finest needs, and two at least.
export function tickTexts(ticks, at) {
  const digits = Math.max(2, ...ticks.map((value) => (String(value).split(".")[1] ?? "").length));
  return ticks.map((value) => [at(value), value.toFixed(digits)]);
}
// Grid lines and tick labels: xTicks and yTicks are [[position in pixels, label], …].
export function axes(group, box, xTicks, yTicks) {
  group.replaceChildren();
  for (const [y, label] of yTicks) {
    group.append(s("line", { class: "wbw-grid", x1: box.left, x2: box.right, y1: y, y2: y }));
    group.append(s("text", { class: "wbw-tick", x: box.left - 6, y: y + 4, "text-anchor": "end" }, label));
  }
  for (const [x, label] of xTicks) {
    group.append(s("line", { class: "wbw-grid", x1: x, x2: x, y1: box.top, y2: box.bottom }));
    group.append(s("text", { class: "wbw-tick", x, y: box.bottom + 15, "text-anchor": "middle" }, label));
  }
  group.append(s("line", { class: "wbw-axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
}
// An svg that fills its holder; redraw(width, height) runs once it has a size and after every change of it.
// Where the style says --wbw-scale, all of the svg is so many times larger, and its sizes are before that.
export function plot(holder, on, redraw, attributes = {}) {
  const svg = s("svg", { class: "wbw-svg", role: "group", ...attributes });
  holder.append(svg);
  const size = { width: 0, height: 0 };
  const observer = new ResizeObserver(() => {
    const larger = Number(getComputedStyle(holder).getPropertyValue("--wbw-scale")) || 1;
    const [width, height] = [holder.clientWidth / larger, holder.clientHeight / larger];
    if (!width || !height || (width === size.width && height === size.height)) return;
    Object.assign(size, { width, height });
    setAttributes(svg, { width: holder.clientWidth, height: holder.clientHeight, viewBox: `0 0 ${width} ${height}` });
    redraw(width, height);
  });
  observer.observe(holder);
  on.end(() => observer.disconnect());
  return { svg, size };
}
// Dragging on `target`, with the pointer captured: move([x, y]) in the svg's own units, after grabbed() and before
// released().
export function draggable(target, svg, move, grabbed = () => {}, released = () => {}) {
  let dragging = false;
  // Where the plot stands is asked when the hand takes hold and after a scroll, not at each move: whatever was
  // written since the last frame would be laid out before the answer, and then once more.
  let corner = null;
  const stale = () => (corner = null);
  const watching = (what) => ["scroll", "resize"].forEach((event) => window[what](event, stale, { capture: true }));
  const where = (event) => {
    corner ??= svg.getBoundingClientRect();
    const units = svg.viewBox.baseVal.width / corner.width;
    return [(event.clientX - corner.left) * units, (event.clientY - corner.top) * units];
  };
  target.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    dragging = true;
    stale();
    watching("addEventListener");
    target.setPointerCapture(event.pointerId);
    event.preventDefault();
    grabbed();
    move(where(event));
  });
  target.addEventListener("pointermove", (event) => dragging && move(where(event)));
  for (const end of ["pointerup", "pointercancel"]) target.addEventListener(end, () => {
    if (!dragging) return;
    dragging = false;
    watching("removeEventListener");
    released();
  });
}
