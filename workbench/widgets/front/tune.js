// Fine-tuning of the network as it is now: settings, a live plot of loss and score, pause and stop.

import { AMOUNTS, SETTINGS } from "./constants.js";
import {
  clamp, h, s, setText, focusIn, setOff, count, percent, trimmed, score, alive, busy, send, update,
  errorBox,
} from "./shared.js";
import { linearTicks, scale, tickTexts, axes, plot } from "./axes.js";
import { slider } from "./controls.js";
import { entry } from "./cards.js";
import { asking, question } from "./glossary.js";

function coursePlot(state, on, holder, title, valueOf) {
  const [grid, line, dots] = [s("g"), s("path", { class: "wbw-line wbw-kept-line" }), s("g")];
  const redraw = () => {
    const { reports = [], start = null } = state.get("tuned");
    const { width, height } = view.size;
    for (const group of [grid, dots]) group.replaceChildren();
    line.setAttribute("d", "");
    const total = reports.at(-1)?.[1] ?? 0;
    const points = reports.map((one) => [one[0], valueOf(one)]).filter(([, value]) => value !== null);
    if (title === "score" && start !== null && total) points.unshift([0, start]);
    if (!width || !points.length) return;
    const values = points.map(([, value]) => value);
    const spread = Math.max(Math.max(...values) - Math.min(...values), title === "score" ? 0.01 : 1e-6);
    const [low, high] = [title === "training loss" ? 0 : Math.min(...values) - 0.12 * spread, Math.max(...values) + 0.12 * spread];
    const box = { left: 52, right: width - 16, top: 8, bottom: height - 34 };
    const [x, y] = [scale(0, total, box.left, box.right), scale(low, high, box.bottom, box.top)];
    const yTicks = linearTicks(low, high, Math.max(3, Math.floor((box.bottom - box.top) / 26)));
    axes(grid, box, linearTicks(0, total, Math.floor((box.right - box.left) / 60), true).map((step) => [x(step), String(step)]), tickTexts(yTicks, y));
    grid.append(s("text", { class: "wbw-title-x", x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, "step"));
    line.setAttribute("d", points.map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join(""));
    if (title === "score") dots.append(...points.map(([step, value]) => s("circle", { class: "wbw-dot", cx: x(step), cy: y(value), r: 4.5 }, s("title", {}, score(value)))));
  };
  const view = plot(holder, on, redraw, { "aria-label": `${title} against step`, "data-testid": `tune-${title.split(" ").at(-1)}`, "data-plot": `tune-${title.split(" ").at(-1)}` });
  view.svg.append(grid, line, dots);
  return redraw;
}

// Shares of the loss as the page holds them: what follows outputs and activations, the labels have the rest.
function sharesOf(state) {
  const { distill, match } = { ...SETTINGS, ...state.get("tuning") };
  const [outputs, activations] = [Number(distill), Number(match)];
  return { outputs, activations, labels: Math.max(0, Math.round(1000 * (1 - outputs - activations)) / 1000) };
}
const whole = (share) => trimmed(percent(share));

export function drawTune(state, el, on) {
  const form = (values) => update(state, { tuning: { ...state.get("tuning"), ...values } });
  const change = (key) => (event) => form({ [key]: event.target.value.trim() });
  const amount = entry("amount", "train for", SETTINGS.amount, "", 4);
  const rate = entry("rate", "learning rate", SETTINGS.rate, "AdamW under a one-cycle schedule; this is its peak", 4);
  const batch = entry("batch", "batch", SETTINGS.batch, "Examples a step", 4);
  const shifts = entry("shifts", "shift, pixels", SETTINGS.shifts, "Images are moved at random by up to so many pixels, up or down and left or right; what comes in is mirrored", 4);
  const entries = [amount, rate, batch, shifts];
  for (const field of entries) {
    field.input.addEventListener("change", change(field.key));
    field.input.dataset.testid = `tune-${field.key}`;
  }
  const asked = [["epoch", amount], ["batch", batch], ["learning rate", rate], ["shifts", shifts]].map(([term, field]) => asking(state, field.node, term, field.label));
  const unit = h("select", { class: "wbw-select", "data-testid": "tune-unit", "aria-label": "epochs or steps", onchange: change("unit") }, ...AMOUNTS.map((amount) => h("option", { value: amount }, amount)));
  const flips = h("input", { type: "checkbox", "data-testid": "tune-flips", onchange: (event) => form({ flips: event.target.checked }) });
  const mirror = h("label", { class: "wbw-check wbw-beside", style: "grid-column: span 4", title: "Half of the images, at random, are mirrored left to right" }, flips, "mirror");
  // One share is moved, the other gives way.
  const setShare = (key, other, value) => {
    const share = clamp(Math.round(value * 20) / 20, 0, 1);
    form({ [key]: String(share), [other]: String(Math.min(Number(state.get("tuning")[other] ?? SETTINGS[other]), Math.round(100 * (1 - share)) / 100)) });
  };
  const share = (testid, key, other, caption, hint) => {
    const input = slider(testid, caption, (value) => setShare(key, other, value), 0.05, () => 4);
    const text = h("span", { class: "wbw-set" });
    const node = h("div", { title: hint }, h("div", { class: "wbw-row" }, h("span", { class: "wbw-caption" }, caption), question(state, "matched fine-tuning", caption), text), input);
    return { node, paint: (value) => (input.paint(0, 1, value, percent(value)), setText(text, whole(value))) };
  };
  const distill = share("tune-distill", "distill", "match", "the original's outputs", "Distillation: the original network's outputs; softened where labels say that they are classes, else in the mean square");
  const match = share("tune-match", "match", "distill", "its activations [beyond]", "Beyond the paper: what every reader receives in the original, of the units that are left, in the mean square");
  const labelled = h("span", { class: "wbw-set", "data-testid": "tune-labels" });
  const data = h("p", { class: "wbw-hint", "data-testid": "tune-data" });
  const only = h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": "tune-without-labels", onclick: () => form({ distill: "0", match: "1" }) }, "Follow activations: needs no labels");
  const fill = () => ({ ...state.get("tuning"), ...Object.fromEntries(entries.map(({ key, input }) => [key, input.value.trim()])) });
  const start = h("button", { class: "wbw-button wbw-primary", "data-testid": "tune-start", "data-hint": "The best network found becomes a step of the history", onclick: () => send(state, "finetune", { tuning: fill() }) }, "Start");
  // These are heard while the run goes on, so they are sent past what counts as busy.
  const signal = (command) => state.send({ command });
  const pause = h("button", { class: "wbw-button", "data-testid": "tune-pause", onclick: () => signal(state.get("tuned").how === "paused" ? "go_on_tuning" : "pause_tuning") }, "Pause");
  const stop = h("button", { class: "wbw-button", "data-testid": "tune-stop", "data-hint": "End now; the best network so far becomes a step, as with the same button in the header", onclick: () => signal("cancel") }, "Stop, keep best");
  const refit = h("button", { class: "wbw-button", "data-testid": "refit", "data-hint": "Beyond the paper: all layers around pruned groups, writers too, once more to the original's outputs by least squares; no labels, no steps", onclick: () => send(state, "refit") }, "Refit by least squares");
  const [lossHolder, scoreHolder] = [h("div", { class: "wbw-plot" }), h("div", { class: "wbw-plot" })];
  const empty = h("p", { class: "wbw-empty" }, "Fine-tuning goes on from the network as it is now. Training loss and score appear here while it runs; the best network found becomes a step of the history, and Undo takes it back.");
  const chip = h("span", { class: "wbw-sub", "data-testid": "tune-how" });
  const [lossTitle, scoreTitle] = [h("h4", {}, "Training loss", question(state, "training loss", "the training loss")), h("span", {}, "Score")];
  const plots = h("div", { class: "wbw-tune-plots" }, lossTitle, lossHolder, h("h4", {}, scoreTitle, question(state, "score", "the score")), scoreHolder);
  el.append(
    h("div", { class: "wbw-compare-form wbw-tune-form" }, h("h3", { class: "wbw-heading" }, "Fine-tune"),
      h("div", { class: "wbw-controls" }, asking(state, data, "calibration data", "the data"),
        h("div", { class: "wbw-fields" }, asked[0], h("label", { class: "wbw-field", style: "grid-column: span 4" }, h("span", { class: "wbw-caption" }, "\u00a0"), unit), ...asked.slice(1), mirror),
        h("div", { class: "wbw-row wbw-follows" }, h("span", {}, "The training loss follows"), question(state, "training loss", "the training loss")), 
        h("div", { class: "wbw-row" }, h("span", { class: "wbw-caption" }, "the labels"), question(state, "training loss", "the share of the labels"), labelled), distill.node, match.node, only),
      h("div", { class: "wbw-deeds" }, errorBox(state, on, "tune"), h("div", { class: "wbw-buttons wbw-three" }, start, pause, stop), refit)),
    h("div", { class: "wbw-tune-course" }, h("h3", { class: "wbw-heading" }, "Course", question(state, "fine-tuning plot", "the course"), chip), empty, plots));
  const redraws = [coursePlot(state, on, lossHolder, "training loss", (one) => one[2]), coursePlot(state, on, scoreHolder, "score", (one) => one[3])];

  on("tuning tab learns", () => {
    const settings = state.get("tuning");
    const shares = sharesOf(state);
    for (const { key, input } of entries) if (focusIn(input) !== input) input.value = settings[key];
    unit.value = settings.unit;
    flips.checked = settings.flips;
    distill.paint(shares.outputs);
    match.paint(shares.activations);
    setText(labelled, whole(shares.labels));
    const { targets, batches, images } = state.get("learns");
    shifts.node.hidden = mirror.hidden = !images;
    only.hidden = targets || !shares.labels;
    batch.input.disabled = batches;
    batch.node.title = batches ? "The data makes its own batches" : "Examples a step";
  });
  on("learns data_name", () => {
    const { size, targets, own } = state.get("learns");
    const name = own ? "the training data" : "the calibration data";
    setText(data, `On ${name}: ${size ? `${count(size)} examples` : "its batches"}${!own && state.get("data_name") ? ` of ${state.get("data_name")}` : ""}, ${targets ? "with labels" : "without labels"}.`);
  });
  on("tuned metric tab", () => {
    const { reports, how = "", start: before = null } = state.get("tuned");
    const filled = Boolean(reports);
    empty.hidden = filled;
    plots.hidden = !filled;
    const last = reports?.at(-1);
    setText(chip, filled ? `${how}${last ? `, step ${last[0]} of ${last[1]}` : ""}${before === null ? "" : `, ${state.get("metric")} before ${score(before)}`}` : "");
    setText(scoreTitle, state.get("metric") ? state.get("metric")[0].toUpperCase() + state.get("metric").slice(1) : "There is no score: the last network counts as the best");
    setText(pause, how === "paused" ? "Go on" : "Pause");
    redraws.forEach((redraw) => redraw());
  });
  on("progress kernel measured learns tuning tuned history position", () => {
    const running = ["running", "paused"].includes(state.get("tuned").how) && busy(state);
    const waiting = !alive(state) ? "This needs a running kernel" : busy(state) ? "Something is running: see above" : !state.get("name") ? "No model is loaded" : "";
    const why = running ? "It is running" : waiting || (!state.get("learns").targets && sharesOf(state).labels ? "The data has no labels: follow the original alone, or load data with labels" : "");
    setOff(start, why, why);
    setOff(pause, !running, "Nothing is fine-tuned now");
    setOff(stop, !running, "Nothing is fine-tuned now");
    const pruned = state.get("history").slice(1, state.get("position") + 1).some((step) => step.pruned);
    setOff(refit, waiting || !pruned, waiting || "Nothing is pruned yet");
  });
}
