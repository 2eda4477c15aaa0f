// The choice for the selected group: λ, width, θ, criterion; what it loses and saves; Try and Commit.

import { LAM_MIN, LAM_MAX, FIT_LAM, FITTED, LED_BY_LAM, NEEDS_LABELS, RECONSTRUCTIONS, SELECTIONS, SWAPPED } from "./constants.js";
import { degreesOfFreedom, suggestedWidth, guaranteedWidth } from "./math.js";
import {
  THIN, clamp, h, setText, setOff, power, scientific, count, percent, freedomText, score, points, signed, layerOf,
  eigenvaluesOf, lamOf, alive, busy, send, CHOSEN, requestOf, isCurrent, update, setLam, setWidth, errorBox,
} from "./shared.js";
import { setName } from "./names.js";
import { beyond, typedEntry, slider, menu } from "./controls.js";
import { question } from "./glossary.js";
import { flipsLink } from "./flipslink.js";

function readout(state, name, caption, term, hint) {
  const value = h("output", { class: "wbw-number", "data-testid": `readout-${name}` });
  const under = h("span", { class: "wbw-caption" }, caption);
  const node = h("div", { class: "wbw-readout", title: hint },
    h("div", { class: "wbw-readout-line" }, h("div", { class: "wbw-number-place" }, value), question(state, term, caption)), under);
  return { node, under, paint: (number, text, exact = number) => {
    value.dataset.value = number === null ? "" : exact;
    setText(value, number === null ? "–" : text);
    value.classList.toggle("wbw-tight", Boolean(text?.startsWith("<")));
  } };
}

// The two halves of a read-out's life: in the page at once, and from the kernel when it has caught up.
function readouts(state) {
  const one = (...args) => readout(state, ...args);
  const inPage = {
    N: one("N", "N(λ)", "degrees of freedom", "Degrees of freedom: Σ μ/(μ+λ)"),
    share: one("N-share", "N(λ) / m", "share of the width", "Share of the group's width"),
    width: one("width", "width from N(λ)", "suggested width", "The dimension: the width that N(λ) suggests"),
    guaranteed: one("guaranteed", "guaranteed", "guaranteed width", ""),
  };
  const fromKernel = {
    input_loss: one("input-loss", "input loss", "input loss", "At this width and this λ, relative to keeping no unit"),
    output_loss: one("output-loss", "output loss", "output loss", "At this width and this λ, relative to keeping no unit"),
    predicted_error: one("error", "error, bound", "predicted error", ""),
    parameters_saved: one("params-saved", "param. saved", "parameters", "Parameters that this choice takes away"),
    macs_saved: one("macs-saved", "MACs saved", "MACs", "Multiply–accumulates that this choice takes away, an example"),
  };
  return { inPage, fromKernel };
}

function paintInPage(state, inPage) {
  const eigenvalues = eigenvaluesOf(state);
  if (!eigenvalues.length) {
    setText(inPage.guaranteed.under, "guaranteed");
    return Object.values(inPage).forEach((one) => one.paint(null));
  }
  const lam = lamOf(state, eigenvalues);
  const N = degreesOfFreedom(eigenvalues, lam);
  const share = N / eigenvalues.length;
  inPage.N.paint(N, freedomText(N), N.toPrecision(12));
  inPage.share.paint(share, percent(share), share.toPrecision(12));
  const suggested = suggestedWidth(eigenvalues, lam);
  inPage.width.paint(suggested, count(suggested));
  const guaranteed = guaranteedWidth(N);
  const beyondAll = guaranteed > eigenvalues.length;
  const [text, m] = [count(guaranteed), count(eigenvalues.length)];
  inPage.guaranteed.paint(guaranteed, beyondAll ? `${text} > ${text.length + m.length < 8 ? m : "m"}` : text);
  setText(inPage.guaranteed.under, beyondAll ? "no guarantee" : "guaranteed");
  inPage.guaranteed.node.classList.toggle("wbw-beyond", beyondAll);
  inPage.guaranteed.node.title = `5 N log(80 N): so many units sampled from the leverage scores carry the theorem's error bound${beyondAll ? "; more than the group has, so here it promises nothing" : ""}`;
}

function paintFromKernel(state, fromKernel, box) {
  const answer = state.get("preview");
  const mine = answer.request?.group === state.get("selected");
  box.classList.toggle("wbw-lag", !isCurrent(state, answer));
  box.dataset.current = isCurrent(state, answer);
  for (const [key, one] of Object.entries(fromKernel)) {
    const value = mine ? answer[key] : null;
    one.paint(value, value === null ? "" : key.endsWith("saved") ? count(value) : percent(value));
  }
  const error = fromKernel.predicted_error;
  const fitted = mine && FITTED.includes(answer.request.reconstruction);
  setText(error.under, fitted ? "error for Â" : mine && !answer.predicted_error_exact ? "error, estimate" : "error, bound");
  error.node.title = fitted
    ? "Predicted relative change at the reader's output, were Â the reconstruction: the fitted one is seen by Try."
    : mine && !answer.predicted_error_exact
    ? "Predicted relative change at the readers' output. An estimate: channel moments ignore how kernel positions correlate."
    : `Predicted relative change at the reader's output. An upper bound on the activations measured${state.get("procedure") === "simultaneous" ? ", which are those of the original network" : ""}.`;
}

// What λ is for beside its field, and in a sentence, under a reconstruction whose fit caps it.
function useOfLam(state) {
  if (!FITTED.includes(state.get("reconstruction"))) return ["relative to Tr Σ", ""];
  const led = LED_BY_LAM.includes(state.get("selection"));
  const short = state.get("lam") > FIT_LAM ? `of Tr Σ, for ${led ? "width and units" : "the width alone"}` : "relative to Tr Σ";
  return [short,
    `The fit takes λ up to ${power(Math.log10(FIT_LAM))} Tr Σ: above, λ only chooses ${led ? "width and units" : "the width"}.`];
}

// Two shares in percent, with as many digits as show that they differ.
function beforeAfter(before, after, digits) {
  const [one, other] = [before, after].map((share) => (100 * share).toFixed(digits));
  return one === other && digits < 7 ? beforeAfter(before, after, digits + 1) : `${one}→${other}${THIN}%`;
}

// What swaps won over the greedy choice, for that selection alone: in short, and in a sentence.
function wonBySwaps(answer) {
  if (!answer) return ["…", ""];
  if (!answer.swaps) return ["too wide for swaps", "No swap is tried in a group this wide: the units are those of the greedy selection"];
  const { swaps, before, after, settled } = answer.swaps;
  if (!swaps) return ["no swap helps", `Combined loss ${percent(after)}: no swap of a kept and a lost unit lowers it`];
  const made = `${count(swaps)} swap${swaps > 1 ? "s" : ""}`;
  const digits = before >= 0.09995 ? 1 : 2;
  const change = beforeAfter(before, after, digits);
  const short = change === beforeAfter(before, after, digits + 1) ? `won < ${10 ** -digits}${THIN}%` : change;
  return [`${made} ${short}`,
    `Combined loss ${change} by ${made} of a kept and a lost unit; ${settled ? "no other lowers it" : "that is the limit"}`];
}

function paintSwaps(state, node) {
  const answer = state.get("preview");
  node.hidden = state.get("selection") !== SWAPPED;
  const mine = answer.request?.group === state.get("selected") && answer.request.selection === SWAPPED;
  const [short, sentence] = wonBySwaps(mine ? answer : null);
  node.classList.toggle("wbw-lag", !isCurrent(state, answer));
  node.dataset.value = (mine && answer.swaps?.swaps) ?? "";
  node.title = sentence;
  setText(node, short);
}

export function drawChoice(state, el, on) {
  const m = () => Math.max(eigenvaluesOf(state).length, 1);
  const lamSlider = slider("lam-slider", "λ relative to the trace, on a log scale", (value) => setLam(state, 10 ** value), 0.05, () => 10);
  const widthSlider = slider("width-slider", "width", (value) => setWidth(state, value), 1, () => Math.max(1, Math.round(m() / 10)));
  const thetaSlider = slider("theta-slider", "θ", (value) => update(state, { theta: clamp(Math.round(value * 100) / 100, 0, 1) }), 0.01, () => 10);
  const lamText = h("span", { class: "wbw-set" });
  const thetaText = h("span", { class: "wbw-set" });
  const has = () => Boolean(layerOf(state)?.prunable && layerOf(state).count); // a width to choose
  let refused = { text: "", at: "" }; // what a typed width went past, while the one that was taken stands
  const at = () => `${state.get("name")}: ${state.get("selected")} ${state.get("width")}`;
  const widthInput = typedEntry({ type: "number", class: "wbw-entry", min: 1, "data-testid": "width-input", "aria-label": "width" },
    () => (has() ? String(state.get("width")) : ""), (text) => {
      if (!text) return;
      const said = beyond(Number(text), m());
      setWidth(state, Number(text));
      refused = { text: said, at: at() };
      paintWidth();
    }, () => `${state.get("name")}: ${state.get("selected")}`);
  const ofText = h("span", { class: "wbw-caption", "data-testid": "width-of", "aria-live": "polite" });
  const followText = h("span", {}, "follows N(λ)");
  // Half ticked: the width is another one than N(λ)'s until λ is moved, as after a commit.
  const follow = h("input", { type: "checkbox", "data-testid": "follow", onchange: () => {
    const wanted = follow.checked || waits;
    update(state, { follow: wanted });
    if (wanted) setLam(state, state.get("lam"));
    else paintWidth();
  } });
  let waits = false;
  const paintWidth = () => {
    const width = state.get("width");
    const eigenvalues = eigenvaluesOf(state);
    if (has()) widthSlider.paint(1, m(), width, String(width));
    else widthSlider.paint(0, 1, 0, "none");
    widthInput.max = m();
    widthInput.paint();
    const said = refused.at === at() ? refused.text : "";
    setText(ofText, has() ? said || `of ${m()}` : "");
    ofText.classList.toggle("wbw-unmet", Boolean(said));
    waits = has() && state.get("follow") && width !== suggestedWidth(eigenvalues, lamOf(state, eigenvalues));
    follow.checked = state.get("follow");
    follow.indeterminate = waits;
    setText(followText, waits ? "waits for λ" : "follows N(λ)");
    followText.parentNode.title = waits ? "The width is another one than N(λ)'s; it follows again as soon as λ is moved. Press to let it follow now"
      : "The width follows N(λ), and λ follows the width";
  };
  const selection = menu(state, "selection", "select", "selection", SELECTIONS);
  const swaps = h("span", { class: "wbw-caption wbw-swaps", "data-testid": "swaps", hidden: true });
  const reconstruction = menu(state, "reconstruction", "reconstruct", "reconstruction", RECONSTRUCTIONS);
  const reestimate = h("input", { type: "checkbox", "data-testid": "reestimate", onchange: () => update(state, { reestimate: reestimate.checked }) });
  const lamUse = h("span", { class: "wbw-caption", "data-testid": "lam-use" });
  const reestimateNote = h("span", { class: "wbw-caption" });
  const reestimateRow = h("label", { class: "wbw-check" }, reestimate, "re-estimate norms", reestimateNote);
  const { inPage, fromKernel } = readouts(state);
  const lagging = h("div", { class: "wbw-behind" }, ...Object.values(fromKernel).map((one) => one.node));
  const attempt = h("button", { class: "wbw-button", "data-testid": "try", "data-hint": "Score with this choice; nothing is kept", onclick: () => send(state, "try_choice", { request: requestOf(state) }) }, "Try");
  const commit = h("button", { class: "wbw-button wbw-primary", "data-testid": "commit", "data-hint": "Make the network smaller (Enter)", onclick: () => send(state, "commit", { request: requestOf(state) }) }, "Commit");
  const tried = h("p", { class: "wbw-hint", "data-testid": "score-try", "aria-live": "polite" });
  const flips = flipsLink(state, "choice");
  const heading = h("span", {});
  const name = h("span", { class: "wbw-name" });
  el.append(
    h("h3", { class: "wbw-heading" }, heading, name),
    h("div", { class: "wbw-controls" },
      h("div", { class: "wbw-moved" }, h("div", { class: "wbw-row" }, h("span", { class: "wbw-symbol" }, "λ"), lamUse, lamText), lamSlider),
      h("div", { class: "wbw-moved" }, h("div", { class: "wbw-row wbw-middle" }, h("span", { class: "wbw-symbol" }, "Width"),
        h("label", { class: "wbw-check" }, follow, followText), ofText, widthInput), widthSlider),
      h("div", { class: "wbw-row wbw-middle", title: "θ weighs the losses: 1 is the input loss alone, 0 the output loss alone" },
        h("span", { class: "wbw-symbol" }, "θ"), thetaSlider, thetaText),
      h("div", { class: "wbw-menus" }, selection.label, reconstruction.label),
      h("div", { class: "wbw-row wbw-middle wbw-under-menus" }, reestimateRow, swaps)),
    h("div", { class: "wbw-readouts" }, ...Object.values(inPage).map((one) => one.node), lagging),
    h("div", { class: "wbw-deeds" }, errorBox(state, on, "choice"), h("div", { class: "wbw-buttons" }, attempt, commit), tried, flips.node));

  on("lam width theta follow selection reconstruction reestimate selected spectra layers", () => {
    const lam = state.get("lam");
    lamSlider.paint(Math.log10(LAM_MIN), Math.log10(LAM_MAX), Math.log10(lam), scientific(lam));
    setText(lamText, scientific(lam));
    lamText.dataset.value = lam;
    paintWidth();
    thetaSlider.paint(0, 1, state.get("theta"), String(state.get("theta")));
    setText(thetaText, state.get("theta").toFixed(2));
    selection.node.paint(state.get("selection"));
    reconstruction.node.paint(state.get("reconstruction"));
    reestimate.checked = state.get("reestimate");
    const [short, sentence] = useOfLam(state);
    setText(lamUse, short);
    lamUse.title = sentence;
    setText(heading, state.get("selected") ? "Choice for " : "Choice");
    setName(name, state.get("selected"));
    paintInPage(state, inPage);
  });
  on("learns", () => selection.node.off(NEEDS_LABELS, state.get("learns").targets ? "" : "needs labels"));
  on(`preview ${CHOSEN}`, () => (paintFromKernel(state, fromKernel, lagging), paintSwaps(state, swaps)));
  on(`tried ${CHOSEN} metric layers`, () => {
    const answer = state.get("tried");
    const mine = answer.request && isCurrent(state, answer);
    const stale = layerOf(state)?.stale;
    tried.dataset.value = mine ? answer.score : "";
    flips.paint(mine ? answer.flips : null);
    if (stale) return setText(tried, `${state.get("selected")} was ${stale}: measure again.`);
    const change = mine && answer.change !== null ? ` (${state.get("metric").endsWith("accuracy") ? points(answer.change) : signed(answer.change)})` : "";
    const whole = mine ? `${state.get("metric")} with this choice ${score(answer.score)}${change}, nothing kept` : useOfLam(state)[1];
    tried.title = mine ? whole : "";
    setText(tried, mine && answer.flips?.line ? `${score(answer.score)}${change}, nothing kept` : whole); // one line, above that of the answers
  });
  on("progress kernel", flips.off);
  const fields = [...el.querySelectorAll("input, select")];
  on("layers selected spectra progress kernel width metric norms", () => {
    const layer = layerOf(state);
    const usable = Boolean(layer?.prunable && layer.count);
    el.classList.toggle("wbw-stale", Boolean(layer?.stale));
    for (const node of fields) node.disabled = !usable;
    const norms = state.get("norms");
    if (!norms) reestimate.disabled = true;
    setText(reestimateNote, norms ? "" : "no batch norm here");
    reestimateRow.title = norms ? "Measure the running statistics of batch norms anew on the calibration data, after the commit"
      : "This network has no batch norm that keeps running statistics";
    const whole = usable && state.get("width") >= layer.width;
    const why = !alive(state) ? "This needs a running kernel" : busy(state) ? "Something is running: see above" : !usable ? "This group cannot be pruned"
      : layer.stale ? `The moments were ${layer.stale}: measure again first` : whole ? "All units are kept: choose a smaller width" : "";
    setOff(commit, why, why);
    setOff(attempt, why || !state.get("metric"), why || "There is no evaluation data");
  });
}
