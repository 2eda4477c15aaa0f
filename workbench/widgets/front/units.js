// Single units of the chosen group: which stay, how much each weighs, and what they look like.

import { THIN, h, setText, setAttributes, percent, layerOf, isCurrent, alive, update, arrowSteps, clamp, CHOSEN } from "./shared.js";
import { unitStrip } from "./unitstrip.js";
import { told } from "./telling.js";

const PICTURES_AT_ONCE = 64;
const ORDINALS = ["th", "st", "nd", "rd"];
const ordinal = (n) => `${n}${ORDINALS[(n % 100 > 10 && n % 100 < 14) || n % 10 > 3 ? 0 : n % 10]}`;

const READ = new WeakMap();
// Bytes of the kernel's as numbers; a copy, since they may begin anywhere in a message.
function arrayOf(view, Numbers) {
  if (!view?.byteLength) return new Numbers(0);
  if (!READ.has(view)) READ.set(view, new Numbers(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)));
  return READ.get(view);
}

// The order in which the chosen group's units are taken, null where it is another's that was found last.
function orderOf(state, layer) {
  const { request } = state.get("preview") ?? {};
  const order = arrayOf(state.get("unit_order"), Int32Array);
  const mine = request?.group === layer.name && request.revision === state.get("revision");
  return mine && order.length && order.every((unit) => unit < layer.width) ? order : null;
}

// A unit in words: kept or lost, when it was taken, and its leverage.
function inWords(state, unit) {
  const layer = layerOf(state);
  const order = layer && orderOf(state, layer);
  if (!order || unit < 0 || unit >= layer.width) return "";
  const rank = order.indexOf(unit);
  const width = state.get("width");
  const kept = rank >= 0 && rank < width;
  const taken = rank >= 0 ? `taken ${ordinal(rank + 1)} of ${layer.width}` : `not among the first ${order.length} taken`;
  const leverage = arrayOf(state.get("unit_leverage"), Float32Array);
  const share = leverage.length === layer.width ? ` · leverage ${percent(leverage[unit])}, ${ordinal(1 + leverage.filter((one) => one > leverage[unit]).length)} largest`.replace("1st largest", "the largest") : "";
  return `unit ${unit}: ${kept ? "kept" : "lost"}, ${taken}${share}`;
}

// The figure of one unit with its pictures.
function unitFigure(unit, weights, map) {
  const picture = (kind, source) => (source ? h("img", { class: "wbw-unit-picture", "data-kind": kind, src: source, alt: "" }) : null);
  return h("button", { type: "button", class: "wbw-unit", "data-testid": "unit", "data-unit": unit, tabindex: -1 },
    h("span", { class: "wbw-unit-pictures" }, picture("weights", weights), picture("map", map)), h("span", { class: "wbw-unit-caption" }, String(unit)));
}

// The view in `holder`, beside what it stands in for; repaints are registered with `on`, and `shown()` says whether it
// is looked at.
export function unitView(state, on, shown) {
  const strip = unitStrip(state, on, (layer) => (shown() ? orderOf(state, layer) : null), "unit_order preview width");
  const words = told(state, on, h("p", { class: "wbw-unit-words", "data-testid": "unit-words" }));
  const gallery = h("div", { class: "wbw-unit-gallery", "data-testid": "unit-gallery" });
  const note = h("p", { class: "wbw-caption wbw-unit-note", "data-testid": "unit-note" });
  const more = h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": "units-more", onclick: () => update(state, { units_shown: state.get("units_shown") + PICTURES_AT_ONCE }) });
  const scroller = h("div", { class: "wbw-unit-scroller", tabindex: 0, role: "region", "aria-label": "pictures of single units" }, note, gallery, more);
  const holder = h("div", { class: "wbw-units-body", "data-testid": "units-body" }, h("div", { class: "wbw-unit-head" }, strip.words, words), strip.holder, scroller);
  let [pointed, figures] = [-1, []];
  setAttributes(strip.svg, { tabindex: 0, role: "slider", "aria-label": "a unit", "aria-valuemin": 0 });

  const point = (unit) => {
    if (unit === pointed) return;
    figures[pointed]?.classList.remove("wbw-unit-pointed");
    pointed = unit;
    figures[pointed]?.classList.add("wbw-unit-pointed");
    strip.point(unit);
    say();
  };
  const say = () => {
    const text = inWords(state, pointed);
    setText(words, text || "Point at a unit, or go along with the arrow keys");
    setAttributes(strip.svg, { "aria-valuemax": Math.max(0, (layerOf(state)?.width ?? 1) - 1), "aria-valuenow": Math.max(0, pointed), "aria-valuetext": text || "no unit" });
  };
  strip.svg.addEventListener("pointermove", (event) => point(strip.at([event.offsetX, event.offsetY])));
  strip.svg.addEventListener("keydown", (event) => {
    const steps = { Home: -Infinity, End: Infinity }[event.key] ?? arrowSteps(event, 10);
    if (!steps) return;
    event.preventDefault();
    point(clamp(Math.max(pointed, steps > 0 ? -1 : 0) + steps, 0, (layerOf(state)?.width ?? 1) - 1));
    figures[pointed]?.scrollIntoView({ block: "nearest" });
  });
  const unitAt = (event) => Number(event.target.closest("[data-unit]")?.dataset.unit ?? -1);
  gallery.addEventListener("pointerover", (event) => point(unitAt(event)));
  gallery.addEventListener("click", (event) => point(unitAt(event)));

  const mark = () => {
    if (!shown()) return; // at each move of λ
    const layer = layerOf(state);
    const order = layer ? orderOf(state, layer) : null;
    holder.classList.toggle("wbw-units-lag", !isCurrent(state, state.get("preview")));
    if (!layer) return;
    const kept = new Set(order?.subarray(0, state.get("width")));
    figures.forEach((node, unit) => {
      const [stays, before] = [order ? String(kept.has(unit)) : "", node.dataset.kept];
      if (stays !== before) node.dataset.kept = stays;
    });
    say();
  };
  const draw = () => {
    const found = state.get("unit_pictures") ?? {};
    const layer = layerOf(state);
    const mine = Boolean(layer) && found.group === layer.name && found.revision === state.get("revision");
    const count = mine ? Math.max(found.weights.length, found.maps.length) : 0;
    figures = Array.from({ length: count }, (_, unit) => unitFigure(unit, found.weights[unit], found.maps[unit]));
    gallery.replaceChildren(...figures);
    const pictured = [found.weights_are, found.maps_are].filter(Boolean).join("; ");
    setText(note, !alive(state) ? "Pictures of units need a running kernel." : !mine ? "Looking at the units …" : found.why_not ? `No pictures: ${found.why_not}` : count ? `Each unit's ${pictured}` : "This layer has no weights or places to draw.");
    const left = mine ? Math.min(layer.width, found.most) - count : 0;
    more.hidden = left <= 0 || !count;
    setText(more, `${Math.min(PICTURES_AT_ONCE, left)} more of ${layer?.width ?? 0}${THIN}`);
    mark();
  };
  on(`unit_order unit_leverage ${CHOSEN} preview`, mark);
  on("unit_pictures selected kernel", draw);
  on("selected", () => point(-1));
  return { holder, draw, first: PICTURES_AT_ONCE };
}
