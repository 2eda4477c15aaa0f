// What all panels use: the shared state, elements, number formats, errors.

import { AHEAD, LAM_MIN, LAM_MAX, OPTIONS, REQUEST } from "./constants.js";
import { traceOf, lamForWidth, suggestedWidth } from "./math.js";

const SUPER = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
export const THIN = "\u202f";
export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// ---- elements ---------------------------------------------------------------------------------------
function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

export function setText(node, text) {
  const only = node.firstChild;
  // Another text in the same node costs less than another node.
  if (only?.nodeType === Node.TEXT_NODE && !only.nextSibling) {
    if (only.data !== text) only.data = text;
  } else if (node.textContent !== text) node.textContent = text;
}
// What is so already is not written again, which would cost the browser its style.
export function setAttributes(node, attributes) {
  for (const [key, value] of Object.entries(attributes)) if (node.getAttribute(key) !== String(value)) node.setAttribute(key, value);
}
export function setOff(button, off, why) {
  button.disabled = Boolean(off);
  button.title = off && why ? why : (button.dataset.hint ?? "");
}

// What has the focus where `node` is: a host may draw it into a tree of its own, whose host the document names.
export const focusIn = (node) => node.getRootNode().activeElement ?? null;
// Scrolls `row` into sight in its own list; scrollIntoView would move the page too. `top`: what a head covers.
export function reveal(list, row, top = 0) {
  if (!row) return;
  const above = row.offsetTop - top;
  const below = row.offsetTop + row.offsetHeight - list.clientHeight;
  if (list.scrollTop > above) list.scrollTop = above;
  else if (list.scrollTop < below) list.scrollTop = Math.ceil(below);
}

// ---- numbers ----------------------------------------------------------------------------------------
export const power = (exponent) => "10" + [...String(exponent)].map((digit) => SUPER[digit]).join("");
export function scientific(value, digits = 3) {
  if (!(value > 0)) return "0";
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  return `${mantissa}${THIN}×${THIN}${power(Number(exponent))}`;
}
export function count(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const [scale, unit] = size >= 999.5e6 ? [1e9, "G"] : size >= 999.5e3 ? [1e6, "M"] : size >= 9999.5 ? [1e3, "k"] : [1, ""];
  if (!unit) return String(Math.round(value)).replace(/\B(?=(?:\d{3})+$)/g, THIN);
  const scaled = value / scale;
  return scaled.toFixed(Math.abs(scaled) < 9.995 ? 2 : Math.abs(scaled) < 999.5 ? 1 : 0) + THIN + unit;
}
export function percent(share) {
  const value = 100 * share;
  if (value === 0) return `0${THIN}%`;
  if (Math.abs(value) < 0.005) return `<${THIN}0.01${THIN}%`;
  return value.toFixed(Math.abs(value) >= 9.995 ? 1 : 2) + THIN + "%";
}
// "50 %" for "50.0 %", "1 M" for "1.00 M": for ticks and settings, not for columns.
export const trimmed = (text) => text.replace(/\.0+(?=\D)/, "");
export const fixed = (value, digits) => value.toFixed(digits).replace("-", "−");
export const freedomText = (N) => fixed(N, N < 99.95 ? 2 : 1);
export const score = (value) => (value === null || value === undefined ? "–" : value.toFixed(4));
export function points(delta) {
  const value = 100 * delta;
  const sign = Math.abs(value) < 0.05 ? "±" : value > 0 ? "+" : "−";
  return `${sign}${Math.abs(value).toFixed(1)} points`;
}
export const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(4);
export function seconds(value) {
  const whole = Math.round(value);
  return whole < 60 ? `${whole}${THIN}s` : `${Math.floor(whole / 60)} min ${whole % 60}${THIN}s`;
}

// ---- the shared state -------------------------------------------------------------------------------
// The state is a plain model: of one view of the workbench (viewstate.js), or of a page without a kernel
// (stillstate.js). What subscribes to it: on("lam width", paint) paints at once, and at most once a frame after a change of
// what it names; on.end(finish) adds what else ends with the view. `watch(el)`: a hand that reaches for a field
// in `el` is not left with what the last frame drew; what waits for the next one is painted first. Returns on,
// watch, and what ends all of it.
export function subscriber(state) {
  const ends = [];
  const waiting = new Set();
  let frame = 0;
  // All of a view is painted in one go, so that the browser styles and lays it out once a frame.
  const now = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    const due = [...waiting];
    waiting.clear();
    for (const paint of due) {
      try {
        paint();
      } catch (error) {
        reportError(error); // one panel's; the others are painted
      }
    }
  };
  const on = (names, paint) => {
    const later = () => {
      waiting.add(paint);
      if (!frame) frame = requestAnimationFrame(now);
    };
    const events = names.split(" ").map((name) => (name === "kernel" ? "comm_live_update" : `change:${name}`));
    events.forEach((event) => state.on(event, later));
    ends.push(() => (waiting.delete(paint), events.forEach((event) => state.off(event, later))));
    paint();
  };
  on.end = (finish) => ends.push(finish);
  const watch = (el) => {
    const catchUp = (event) => event.target.matches?.("input, select") && waiting.size && now();
    for (const reach of ["pointerdown", "focusin", "keydown"]) {
      el.addEventListener(reach, catchUp, { capture: true });
      on.end(() => el.removeEventListener(reach, catchUp, { capture: true }));
    }
  };
  return { on, watch, end: () => (cancelAnimationFrame(frame), ends.forEach((end) => end())) };
}
const VIEWS = new WeakMap();
export function numbers(view) {
  // The bytes may start at any offset of a larger message, where a Float64Array cannot: hence the copy.
  if (!view || !view.byteLength) return new Float64Array(0);
  if (!VIEWS.has(view)) {
    VIEWS.set(view, new Float64Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)));
  }
  return VIEWS.get(view);
}
const PARTS = new WeakMap(); // of all spectra, each by its place: what is remembered of one stays with it
export const layerOf = (state, name = state.get("selected")) => (state.get("layers") ?? []).find((layer) => layer.name === name);
export function eigenvaluesOf(state, layer = layerOf(state)) {
  if (!layer) return new Float64Array(0);
  const all = numbers(state.get("spectra"));
  if (!PARTS.has(all)) PARTS.set(all, new Map());
  const parts = PARTS.get(all);
  const key = `${layer.offset} ${layer.count}`;
  if (!parts.has(key)) parts.set(key, all.subarray(layer.offset, layer.offset + layer.count));
  return parts.get(key);
}
export const lamOf = (state, eigenvalues) => state.get("lam") * traceOf(eigenvalues);
export const alive = (state) => state.comm_live !== false;
export const busy = (state) => Boolean(state.shared.sent || state.get("progress").what);

// A command to the kernel. The page counts as busy from here until the kernel answers, so that a second
// click finds nothing to press. That is kept beside the traits: a set trait would go to the kernel too.
const BESIDE = ["cancel", "save", "put_off", "browse"]; // heard while something runs, and no work of their own on the page
export function send(state, command, rest = {}) {
  if (!BESIDE.includes(command)) {
    state.shared.sent = true; // until the kernel's answer: viewstate.js
    state.trigger("change:progress");
  }
  try {
    if (state.shared.timer) tell(state);
    state.send({ command, ...rest });
  } catch {
    state.shared.sent = false;
    state.set({ error: "The kernel does not answer: restart it and run the cell again.", error_at: "header" });
  }
}

// What a choice is made of, as one string of names, for on().
export const CHOSEN = `${REQUEST.join(" ")} selected`;
export function requestOf(state) {
  const request = { group: state.get("selected") };
  for (const key of REQUEST) request[key] = state.get(key);
  return request;
}
// How a group is pruned, on any tab.
export const optionsOf = (state) => Object.fromEntries(OPTIONS.map((key) => [key, state.get(key)]));
export function isCurrent(state, answer) {
  const request = answer?.request;
  return Boolean(request) && request.group === state.get("selected") && REQUEST.every((key) => request[key] === state.get(key));
}
// The page follows every move at once; the kernel hears of the first, then of the latest three times a second and
// when the hand rests: its answers, and what JupyterLab shows of a busy kernel, would take the frames from the drag. Of traits that the kernel echoes it hears at once: the echo of
// an older value would undo one that is still held back here.
const TELL_EVERY = 300; // milliseconds
const AT_REST = 60; // milliseconds without a move
function tell(state) {
  clearTimeout(state.shared.timer);
  state.shared.timer = 0;
  state.shared.told = performance.now();
  state.save_changes();
}
export function update(state, values) {
  // Of what is told together, `seen` is the kernel's word at the first move (hearing.py).
  state.set(state.shared.timer ? values : { ...values, seen: state.get("said") });
  const echoed = Object.keys(values).some((name) => !AHEAD.includes(name));
  const now = performance.now();
  const wait = TELL_EVERY - (now - (state.shared.told ?? -TELL_EVERY));
  if (echoed || wait <= 0) return tell(state);
  clearTimeout(state.shared.timer);
  state.shared.timer = setTimeout(() => tell(state), Math.min(wait, AT_REST));
}
export function setLam(state, relative) {
  const lam = clamp(relative, LAM_MIN, LAM_MAX);
  const eigenvalues = eigenvaluesOf(state);
  const linked = state.get("follow") && eigenvalues.length;
  update(state, linked ? { lam, width: suggestedWidth(eigenvalues, lam * traceOf(eigenvalues)) } : { lam });
}
export function setWidth(state, wanted) {
  const eigenvalues = eigenvaluesOf(state);
  if (!eigenvalues.length || !Number.isFinite(wanted)) return;
  const width = clamp(Math.round(wanted), 1, eigenvalues.length);
  if (!state.get("follow")) return update(state, { width });
  const trace = traceOf(eigenvalues);
  // Beyond the rank no λ has this width, and it is the least one that stands for it.
  update(state, { width, lam: clamp(lamForWidth(eigenvalues, width) / trace, LAM_MIN, LAM_MAX) });
}
// Fine and coarse steps with the arrow keys; returns the number of fine steps, 0 for other keys.
export function arrowSteps(event, coarse) {
  const sign = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[event.key];
  if (!sign || event.ctrlKey || event.metaKey || event.altKey) return 0;
  event.preventDefault();
  return sign * (event.shiftKey ? coarse : 1);
}

// Opens the card `name` (cards.js), or closes it where it is open; "" closes any. The focus returns.
export function showCard(state, name) {
  if (!state.card) state.from = focusIn(state.place);
  state.card = state.card === name ? "" : name;
  state.trigger("change:card");
  if (!state.card) state.from?.focus({ preventScroll: true });
}

// An error in words, where the hand is; `place` is "header", "choice", or the name of a card.
export function errorBox(state, on, place) {
  const text = h("span", {});
  const close = h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": "dismiss", onclick: () => update(state, { error: "" }) }, "Dismiss");
  const box = h("div", { class: "wbw-error" }, text, close);
  on("error error_at", () => {
    const shown = state.get("error") && state.get("error_at") === place;
    box.hidden = !shown;
    if (shown) box.dataset.testid = "error";
    else delete box.dataset.testid;
    setText(text, shown ? state.get("error") : "");
  });
  return box;
}
