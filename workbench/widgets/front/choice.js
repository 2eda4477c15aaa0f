// The choice for the selected group: λ, width, θ, criterion; what it loses and saves; Try and Commit.

import { LAM_MIN, LAM_MAX, FIT_LAM, FITTED, LED_BY_LAM, NEEDS_LABELS, RECONSTRUCTIONS, SELECTIONS, SWAPPED, TERM_OF } from "./constants.js";
import { suggestedWidth } from "./math.js";
import {
  THIN, clamp, h, setText, setOff, power, scientific, count, percent, score, points, signed, layerOf,
  eigenvaluesOf, lamOf, alive, busy, send, CHOSEN, requestOf, isCurrent, update, setLam, setWidth, errorBox,
} from "./shared.js";
import { setName } from "./names.js";
import { beyond, typedEntry, slider, menu } from "./controls.js";
import { asking, question } from "./glossary.js";
import { flipsLink } from "./flipslink.js";
import { readouts, paintInPage, paintFromKernel } from "./readouts.js";
import { told } from "./telling.js";

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
  const ofText = h("span", { class: "wbw-caption", "data-testid": "width-of" });
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
  const tried = h("p", { class: "wbw-hint", "data-testid": "score-try" });
  [ofText, tried].forEach((node) => told(state, on, node));
  const flips = flipsLink(state, "choice");
  const selects = asking(state, selection.label, "selection", "the selection", "wbw-asking-menu");
  const rebuilds = asking(state, reconstruction.label, "reconstruction", "the reconstruction", "wbw-asking-menu");
  const heading = h("span", {});
  const name = h("span", { class: "wbw-name" });
  el.append(
    h("h3", { class: "wbw-heading" }, heading, name),
    h("div", { class: "wbw-controls" },
      h("div", { class: "wbw-moved" }, h("div", { class: "wbw-row" }, h("span", { class: "wbw-symbol" }, "λ"), question(state, "lambda", "λ"), lamUse, lamText), lamSlider),
      h("div", { class: "wbw-moved" }, h("div", { class: "wbw-row wbw-middle" }, h("span", { class: "wbw-symbol" }, "Width"), question(state, "width", "the width"),
        h("label", { class: "wbw-check" }, follow, followText), ofText, widthInput), widthSlider),
      h("div", { class: "wbw-row wbw-middle", title: "θ weighs the losses: 1 is the input loss alone, 0 the output loss alone" },
        h("span", { class: "wbw-symbol" }, "θ"), question(state, "combined loss", "θ"), thetaSlider, thetaText),
      h("div", { class: "wbw-menus" }, selects, rebuilds),
      h("div", { class: "wbw-row wbw-middle wbw-under-menus" }, reestimateRow, question(state, "re-estimated norms", "re-estimating norms"), swaps)),
    h("div", { class: "wbw-readouts" }, ...Object.values(inPage).map((one) => one.node), lagging),
    h("div", { class: "wbw-deeds" }, errorBox(state, on, "choice"), h("div", { class: "wbw-buttons" }, attempt, commit), asking(state, tried, "score", "the score with this choice"), asking(state, flips.node, "answers that changed", "a changed answer")));

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
    selects.ask(TERM_OF[state.get("selection")]);
    rebuilds.ask(TERM_OF[state.get("reconstruction")] ?? "reconstruction");
    reestimate.checked = state.get("reestimate");
    const [short, sentence] = useOfLam(state);
    setText(lamUse, short);
    lamUse.title = sentence;
    for (const one of ["N", "width", "guaranteed"]) setText(inPage[one].of, layerOf(state)?.unit ?? "");
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
