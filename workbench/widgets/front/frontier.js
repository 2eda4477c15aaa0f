// The frontier: the least predicted change of the outputs at every cost, with the other rules' plans beside it.
// The plans are solved in the kernel and lie here with their widths: dragging along them asks nobody.

import { RULES, TERM_OF, UNITS } from "./constants.js";
import { memoryAt } from "./cost.js";
import { THIN, clamp, h, s, setText, setAttributes, setOff, percent, scientific, score, numbers, alive, busy, send, arrowSteps } from "./shared.js";
import { linearTicks, scale, axes, plot, draggable } from "./axes.js";
import { question } from "./glossary.js";
import { told } from "./telling.js";

const RULE_TEXTS = Object.fromEntries(RULES.map(([rule, text]) => [rule, text]));
const COUNTED = Object.fromEntries(UNITS);
const HUES = { equal: 2, shared: 1, least: 4 }; // of the style sheet
const SHAPES = { equal: "M-4 -4H4V4H-4Z", shared: "M0 -5L5 4H-5Z", least: "M0 -5.5L5.5 0L0 5.5L-5.5 0Z" };
const TICKS = [1, 1.5, 2, 3, 5, 10, 20, 50, 100];
// Ticks of the change, in per cent with as many digits as tell them apart; of tiny ones as powers.
export function changeTexts(ticks) {
  const digits = -Math.floor(Math.log10(100 * (ticks[1] - ticks[0])) + 1e-9);
  return ticks.map((one) => (!one ? "0" : digits > 2 ? scientific(one, Number(one.toPrecision(1)) === Number(one.toPrecision(6)) ? 1 : 2) : `${(100 * one).toFixed(Math.max(0, digits))}${THIN}%`));
}
const part = (change) => (change < 0.00995 ? percent(change) : `${(100 * change).toFixed(1)}${THIN}%`);
const times = (fewer) => `${fewer.toFixed(fewer < 9.95 ? 2 : 1).replace(/0$/, "")}×`;

// What the network would cost at `widths`, in what the frontier counts; null while that is not known.
function costNow(state, unit, widths, total) {
  if (unit !== "mb") return total[unit];
  const memory = state.get("memory");
  return memory.revision === state.get("revision") ? memoryAt(memory, state.get("budget").widths, widths, memory.biased) : null;
}

// 1 − exp(−(D_now + Σ D)) at widths by name, from the curves of the groups as they were measured.
export function predictedChange(line, curves, widthOf) {
  let [sum, from] = [line.now, 0];
  line.names.forEach((name, i) => {
    sum += curves[from + clamp(widthOf(name) ?? line.widths[i], 0, line.widths[i])];
    from += line.widths[i] + 1;
  });
  return -Math.expm1(-sum);
}

// Whether the plans were solved for what the tab has set.
function isFor(state, { settings }, widths) {
  const goal = state.get("goal");
  const unit = goal.unit === "ms" ? "macs" : goal.unit;
  const same = settings.unit === unit && ["minimum", "multiple"].every((key) => settings[key] === Number(goal[key]))
    && ["theta", "selection", "reconstruction"].every((key) => settings[key] === state.get(key));
  const { names } = state.get("budget");
  const locks = state.get("locks");
  return same && locks.length === Object.keys(settings.locks).length && locks.every((name) => settings.locks[name] === widths[names.indexOf(name)]);
}

// What was tried, where it was these widths.
export function triedNow(state, widths) {
  const tried = state.get("tried_plan");
  const { names } = state.get("budget");
  const same = tried.revision === state.get("revision") && names.every((name, i) => tried.widths[name] === widths[i]);
  return same && Object.entries(tried.ways).every(([key, value]) => state.get(key) === value) ? tried : null;
}

export const measuresFirst = ({ missing, seconds } = {}) => (missing
  ? `measures ${missing} network${missing === 1 ? "" : "s"} first${seconds ? `, about ${seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.round(seconds / 60)} min`}` : ""}` : "");

const hued = (rule, x, y) => s("path", { class: "wbw-hued", style: `--wbw-hue: var(--wbw-hue-${HUES[rule]})`, d: SHAPES[rule], transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` });

// `set(widths by name, times fewer)` moves all sliders. The view's paint(widths, total) is called for every change.
export function frontierView(state, on, set) {
  const sub = h("span", { class: "wbw-sub" });
  const words = h("span", { class: "wbw-frontier-words", "data-testid": "frontier-words" });
  told(state, on, words);
  const chip = h("span", { class: "wbw-chip" });
  const asks = question(state, TERM_OF.damage, "the change of outputs");
  const ask = () => send(state, "measure_damage");
  const again = h("button", { class: "wbw-button wbw-small", "data-testid": "measure-damage-again", onclick: ask }, "Measure damage");
  const first = h("button", { class: "wbw-button", "data-testid": "measure-damage", onclick: ask }, "Measure damage");
  const forecast = h("span", { class: "wbw-caption" });
  const empty = h("div", { class: "wbw-empty wbw-frontier-empty", "data-testid": "frontier-empty" },
    h("span", {}, "Least damage measures what each group alone does to the outputs; then the frontier stands here."), h("div", {}, first, forecast));
  const holder = h("div", { class: "wbw-plot wbw-sideways" });
  const node = h("section", { class: "wbw-frontier", "aria-label": "frontier" },
    h("h3", { class: "wbw-heading" }, "Frontier", question(state, "frontier", "the frontier"), sub, asks, words, chip, again), empty, holder);
  const [grid, marks, legend] = [s("g"), s("g"), s("g")];
  const path = s("path", { class: "wbw-line wbw-kept-line", "data-testid": "frontier-line" });
  const measured = s("circle", { class: "wbw-measured", r: 4.5, "data-testid": "frontier-measured" }, s("title", {}, "measured"));
  const thumb = s("g", { class: "wbw-handle wbw-along", tabindex: 0, role: "slider", "data-testid": "frontier-thumb" },
    s("line", { class: "wbw-along-line" }), s("circle", { class: "wbw-grip", r: 6.5 }));
  let [at, latest] = [null, null];

  const move = (index) => {
    const line = state.get("frontier");
    const i = clamp(index, 0, line.plans.length - 1);
    const present = Object.fromEntries(state.get("budget").names.map((name, j) => [name, state.get("budget").widths[j]]));
    set(Object.fromEntries(line.names.map((name, j) => [name, Math.min(line.plans[i][j], present[name])])), line.settings.unit === state.get("goal").unit ? line.fewer[i] : null);
  };
  const nearest = (fewer) => {
    const { fewer: all } = state.get("frontier");
    const apart = all.map((one) => Math.abs(Math.log(one / fewer)));
    return apart.indexOf(Math.min(...apart));
  };
  const filled = () => Boolean(state.get("frontier").plans?.length);

  const drawLegend = (box) => {
    const entries = [["line", "least damage"], ...Object.keys(SHAPES).map((rule) => [rule, RULE_TEXTS[rule].toLowerCase().replace("λ", "λ for all")]), ["now", "these widths"], ["measured", "measured"]];
    legend.replaceChildren(...entries.flatMap(([kind, text], i) => {
      const [x, y] = [box.right + 16, box.top + 6 + 16 * i];
      const sign = kind === "line" ? s("path", { class: "wbw-line wbw-kept-line", d: `M${x - 6} ${y}H${x + 6}` })
        : kind === "now" ? s("circle", { class: "wbw-hollow", cx: x, cy: y, r: 5 })
        : kind === "measured" ? s("circle", { class: "wbw-measured", cx: x, cy: y, r: 5 }) : hued(kind, x, y);
      return [sign, s("text", { class: "wbw-tick", x: x + 12, y: y + 4 }, text)];
    }));
  };
  const redraw = () => {
    const { width, height } = view.size;
    const line = state.get("frontier");
    at = null;
    if (!width || !filled()) return;
    const box = { left: 58, right: width - 130, top: 10, bottom: height - 34 };
    const all = [...line.fewer, ...line.others.map((one) => one.fewer)];
    const most = Math.max(10, ...all) * 1.03;
    const log = scale(0, Math.log(most), box.left, box.right);
    const x = Object.assign((fewer) => log(Math.log(fewer)), { invert: (pixel) => Math.exp(log.invert(pixel)) });
    const found = ["outputs", "tried_plan"].map((name) => state.get(name)).filter((one) => one.revision === state.get("revision"));
    const high = Math.min(1, Math.max(...line.changes, ...[...line.others, ...found].map((one) => one.change)) * 1.05) || 1;
    const y = scale(0, high, box.bottom, box.top);
    at = { box, x, y: (change) => y(clamp(change, 0, high)) };
    const ticks = linearTicks(0, high, Math.max(2, Math.floor((box.bottom - box.top) / 36)));
    axes(grid, box, TICKS.filter((one) => one <= most).map((one) => [x(one), `${one}×`]), changeTexts(ticks).map((text, i) => [y(ticks[i]), text]));
    grid.append(s("text", { class: "wbw-title-x", x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, `times fewer ${COUNTED[line.settings.unit]}`));
    path.setAttribute("d", line.fewer.map((fewer, i) => `${i ? "L" : "M"}${x(fewer).toFixed(1)} ${y(line.changes[i]).toFixed(1)}`).join(""));
    marks.replaceChildren(...line.others.map((one) => {
      const point = hued(one.rule, x(one.fewer), at.y(one.change));
      point.classList.add("wbw-pickable");
      point.append(s("title", {}, `${RULE_TEXTS[one.rule]} at ${times(one.fewer)}: predicted ${part(one.change)}. Press to take these widths`));
      point.addEventListener("pointerdown", (event) => {
        event.stopPropagation();
        set(one.widths, null);
      });
      return point;
    }));
    drawLegend(box);
    setAttributes(thumb.firstChild, { y1: box.top, y2: box.bottom });
    place();
  };

  // What was measured of the network with these widths: it is the present one, or was tried.
  const measuredAt = (widths) => {
    const { widths: present } = state.get("budget");
    const outputs = state.get("outputs");
    if (widths.every((width, i) => width === present[i])) return outputs.revision === state.get("revision") ? outputs.change : null;
    return triedNow(state, widths)?.change ?? null;
  };
  const sayTried = (widths) => {
    const tried = triedNow(state, widths);
    return tried && tried.score !== null ? `, ${state.get("metric") || "score"} ${score(tried.score)}` : "";
  };
  const place = () => {
    if (!latest) return;
    const { widths, total } = latest;
    const told = sayTried(widths);
    const tried = triedNow(state, widths);
    if (!filled()) return setText(words, tried ? `tried: measured ${tried.change === null ? "no numbers" : part(tried.change)}${told}` : "");
    const line = state.get("frontier");
    const { names, original } = state.get("budget");
    const { unit } = line.settings;
    const cost = costNow(state, unit, widths, total);
    const change = predictedChange(line, numbers(state.get("damages")), (name) => widths[names.indexOf(name)]);
    const found = measuredAt(widths);
    const fewer = cost === null ? null : (unit === "macs" ? original[1] : unit === "parameters" ? original[0] : line.whole) / cost;
    setText(words, `${fewer ? `${times(fewer)}: ` : ""}predicted ${part(change)}${found === null ? "" : `, measured ${part(found)}`}${told}`);
    node.classList.toggle("wbw-behind-line", !isFor(state, line, widths));
    if (!at || fewer === null) return;
    const [x, y] = [clamp(at.x(fewer), at.box.left, at.box.right), at.y(change)]; // beyond the plot: at its edge
    thumb.setAttribute("transform", `translate(${x.toFixed(1)} 0)`);
    thumb.lastChild.setAttribute("cy", y.toFixed(1));
    setAttributes(thumb, { "aria-label": `times fewer ${COUNTED[unit]}, along the least damage`, "aria-valuemin": line.fewer[0].toFixed(2), "aria-valuemax": line.fewer.at(-1).toFixed(2),
      "aria-valuenow": fewer.toFixed(2), "aria-valuetext": `${times(fewer)} fewer ${COUNTED[unit]}, predicted change ${part(change)}` });
    measured.style.display = found === null ? "none" : "";
    if (found !== null) setAttributes(measured, { cx: x.toFixed(1), cy: at.y(found).toFixed(1) });
  };
  const view = plot(holder, on, redraw, { "aria-label": "predicted change of the outputs against cost", "data-testid": "frontier-plot", "data-plot": "frontier" });
  view.svg.append(grid, path, marks, legend, thumb, measured);
  draggable(view.svg, view.svg, ([x]) => at && move(nearest(at.x.invert(clamp(x, at.box.left, at.box.right)))), () => thumb.focus({ preventScroll: true }));
  thumb.addEventListener("keydown", (event) => {
    if (!filled()) return;
    const { plans } = state.get("frontier");
    const here = nearest(Number(thumb.getAttribute("aria-valuenow")) || 1);
    const ends = { Home: 0, End: plans.length - 1 };
    if (event.key in ends) return event.preventDefault(), move(ends[event.key]);
    const steps = arrowSteps(event, 5);
    if (steps) move(here + steps), place();
  });
  on("frontier outputs tried_plan revision", redraw);
  on("frontier unmeasured revision theta selection reconstruction progress kernel", () => {
    const { ways = {}, ...left } = state.get("unmeasured");
    const known = left.revision === state.get("revision") && Object.entries(ways).every(([key, value]) => state.get(key) === value);
    const missing = known && left.missing > 0;
    const waiting = !alive(state) ? "This needs a running kernel" : busy(state) ? "Something is running: see above" : "";
    empty.hidden = filled();
    holder.hidden = asks.hidden = !filled();
    setText(sub, filled() ? `change of outputs against ${COUNTED[state.get("frontier").settings.unit]}` : "");
    place();
    again.hidden = !filled() || !missing;
    chip.hidden = !filled() || !missing;
    setText(chip, state.get("frontier").revision !== state.get("revision") ? "before the last change" : "by another selection or reconstruction");
    const { what, done, total } = state.get("progress");
    setText(forecast, what && total ? `${done} of ${total} · ${what}` : missing ? measuresFirst(left) : "");
    again.dataset.hint = first.dataset.hint = "Each group alone is cut to some widths, and the outputs set beside the original's; nothing is committed";
    for (const button of [first, again]) setOff(button, waiting, waiting);
  });
  return { node, paint: (widths, total) => ((latest = { widths, total }), place()) };
}
