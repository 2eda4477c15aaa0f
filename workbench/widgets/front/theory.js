// What the theory promises at this λ, and beside it what is measured: for the chosen layer, for the whole network.

import { AS_COMMITTED, AT_LAM, LAM_MIN, LAM_MAX } from "./constants.js";
import { biasAndVariance, degreesOfFreedom, guaranteedWidth, traceOf } from "./math.js";
import {
  h, setText, count, scientific, percent, freedomText, layerOf, eigenvaluesOf, setLam, update,
  CHOSEN, errorBox,
} from "./shared.js";
import { setName } from "./names.js";
import { typedEntry, slider } from "./controls.js";
import { biasPlot, lossSweepPlot, samplesOf, spectraOf } from "./theoryplots.js";
import { explainHeads, asking, question } from "./glossary.js";
import { nameBy, nameCells } from "./telling.js";

const number = (value) => (value === null || value === undefined ? "–" : value === 0 ? "0" : Math.abs(value) >= 1e4 || Math.abs(value) < 1e-3 ? scientific(value, 3) : String(Number(value.toPrecision(3))));
const usable = (state) => (state.get("layers") ?? []).filter((layer) => layer.prunable);

// A row: what is spoken of | what the theory says | what is measured; the latter two are [bold, small] pairs.
function claim(state, term, testid, what, hint) {
  const cell = (kind) => {
    const [bold, small] = [h("b", { "data-testid": `theory-${testid}-${kind}` }), h("small", {})];
    return { node: h("span", {}, bold, " ", small), bold, small };
  };
  const [theory, measured] = [cell("theory"), cell("measured")];
  const node = h("li", { class: "wbw-claim", title: hint }, h("span", {}, h("span", { class: "wbw-head" }, what), question(state, term, what)), theory.node, measured.node);
  const say = (part, bold, small = "", over = false) => {
    setText(part.bold, bold);
    setText(part.small, small);
    part.small.classList.toggle("wbw-over", over);
  };
  return { node, hint, promise: (...words) => say(theory, ...words), found: (...words) => say(measured, ...words), lag: (lags) => measured.node.classList.toggle("wbw-lag", lags), lagPromise: (lags) => theory.node.classList.toggle("wbw-lag", lags) };
}

// Whether an answer is to what the screen asks now.
function answers(state, answer, keys) {
  const request = answer?.request;
  return Boolean(request) && keys.every((key) => request[key] === (key === "group" ? state.get("selected") : state.get(key)));
}
const LAYER_KEYS = ["group", "lam", "width", "theta", "selection", "reconstruction", "position", "revision"];
const NETWORK_KEYS = ["theta", "selection", "position", "revision", "theory_of"];

function layerHalf(state, on) {
  const choose = h("select", { class: "wbw-select", "data-testid": "theory-group", "aria-label": "group", onchange: () => update(state, { selected: choose.value }) });
  const rows = {
    dimension: claim(state, "degrees of freedom", "dimension", "dimension N(λ)", "N(λ) = Σ μ/(μ+λ): how many units the spectrum asks for"),
    guarantee: claim(state, "guaranteed width", "guarantee", "guaranteed width", "5 N log(80 N): so many units sampled from the leverage scores carry the bound of 4λ, with probability over 1/2"),
    greedy: claim(state, "worst read-out", "choice", "worst read-out", "λ_max(C_J): the mean square error of the unit-norm linear read-out of φ that loses most, as a share of Tr Σ"),
    sampled: claim(state, "sampling bound", "sampled", "… of drawn units", "λ_max(C_J) of 5N log 80N units sampled with replacement from the leverage scores"),
    local: claim(state, "predicted error", "local", "change at the reader", "Root mean square over examples and positions, at the output of the layers that read these units: sqrt(Tr[W C_J Wᵀ])"),
    output: claim(state, "propagated error", "output", "change at the output", "Root mean square over the calibration examples: the Lipschitz factors above, times the change at the reader"),
  };
  const head = h("li", { class: "wbw-claim wbw-steps-head" }, h("span", {}, ""), h("span", {}, "the theory says"), h("span", {}, "measured here"));
  for (const { node: row } of Object.values(rows)) [1, 2].forEach((i) => nameBy(row.children[i], row.querySelector(".wbw-head"), head.children[i], row.children[i]));
  const note = h("p", { class: "wbw-sum", "data-testid": "theory-why" });
  const node = h("section", { class: "wbw-theory-half", "aria-label": "this layer" },
    h("h3", { class: "wbw-heading" }, "This layer", choose),
    h("ul", {}, head, ...Object.values(rows).map((row) => row.node)),
    note, h("h4", {}, "Worst read-out's mean square error, as a share of Tr Σ", question(state, "residual moment", "the plot of the worst read-out")), lossSweepPlot(state, on));

  on("layers selected", () => {
    const names = usable(state).map((layer) => layer.name);
    if ([...choose.options].map((one) => one.value).join("\n") !== names.join("\n")) choose.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    choose.value = state.get("selected");
  });
  on("lam width selected spectra layers tab", () => {
    if (state.get("tab") !== "theory") return;
    const eigenvalues = eigenvaluesOf(state);
    const m = eigenvalues.length;
    if (!m) return;
    const [relative, unit] = [state.get("lam"), layerOf(state).unit];
    const N = degreesOfFreedom(eigenvalues, relative * traceOf(eigenvalues));
    const wide = guaranteedWidth(N);
    rows.dimension.promise(freedomText(N), `of ${m} ${unit}`);
    rows.dimension.found(String(state.get("width")), `${unit} kept`);
    rows.guarantee.promise(String(wide), wide > m ? `more than the ${m} ${unit} there are: promises nothing here` : `of ${m} ${unit}`, wide > m);
    rows.greedy.promise("", "no promise to a choice");
    rows.sampled.promise(`≤ 4λ = ${scientific(4 * relative)}`, "p > ½");
  });
  on(`theory ${CHOSEN} tab`, () => {
    if (state.get("tab") !== "theory") return;
    const answer = state.get("theory");
    const mine = answer.request?.group === state.get("selected") && answer.request?.revision === state.get("revision");
    const lags = !answers(state, answer, LAYER_KEYS);
    for (const row of [rows.greedy, rows.sampled, rows.local, rows.output]) row.lag(lags);
    for (const row of [rows.local, rows.output]) row.lagPromise(lags);
    const stale = layerOf(state)?.stale;
    setText(note, stale ? `${stale}: measure again on the tab Layer` : mine ? answer.why_not : "measuring …");
    note.hidden = !note.textContent;
    if (!mine) {
      for (const row of [rows.greedy, rows.sampled]) row.found("");
      for (const row of [rows.local, rows.output]) (row.promise(""), row.found(""));
      return;
    }
    const under = Math.round(answer.sampled_share * answer.draws);
    const ratio = answer.largest_loss / (4 * answer.request.lam);
    rows.greedy.found(scientific(answer.largest_loss), `${number(ratio)} × 4λ, ${answer.request.selection}`, ratio > 1);
    rows.sampled.found(scientific(answer.sampled_median), `${under} of ${answer.draws} ≤ 4λ`, 2 * under < answer.draws);
    rows.sampled.node.title = `${rows.sampled.hint}; median of ${answer.draws} draws, the largest ${scientific(answer.sampled_largest)}, ${answer.sampled_units} distinct ${layerOf(state)?.unit ?? "units"} a draw on average`;
    const exact = answer.readers.every((one) => one.exact);
    const names = [...new Set(answer.readers.map((one) => one.reader))];
    const among = names.length > 1 ? ` at ${names.length} readers` : "";
    rows.local.promise(`${exact ? "≤" : "≈"} ${number(answer.local_bound)}`, `${exact ? "bound" : "estimate"}${among}`);
    rows.local.node.title = `${rows.local.hint}: ${names.join(", ") || "no reader"}`;
    rows.local.found(number(answer.local_measured), `r.m.s. of ${count(answer.examples)}`);
    if (answer.propagated_bound === null) rows.output.promise("–", "no product of norms");
    else rows.output.promise(`${answer.propagated_exact ? "≤" : "≈"} ${number(answer.propagated_bound)}`, "norms × above");
    rows.output.node.title = answer.propagated_bound === null ? answer.why_not : `${rows.output.hint}; from the measured change at the reader it is at most ${number(answer.propagated_from_measured)}`;
    rows.output.found(number(answer.output_change), `${percent(answer.output_error)} of ‖f‖`);
  });
  return node;
}

function networkHalf(state, on) {
  const which = h("select", { class: "wbw-select", "data-testid": "theory-of", "aria-label": "which network", onchange: () => update(state, { theory_of: which.value }) },
    h("option", { value: AT_LAM }, "every group at this λ"), h("option", { value: AS_COMMITTED }, "as it is committed"));
  const chip = h("span", { class: "wbw-chip" }, "measuring …");
  const list = h("ol", { class: "wbw-scroll wbw-theory-list", tabindex: 0, "aria-label": "bounds and errors of all groups" });
  const sum = h("p", { class: "wbw-sum", "data-testid": "theory-sum" });
  const size = typedEntry({ class: "wbw-entry", type: "number", min: 2, step: 1, "data-testid": "theory-samples", "aria-label": "training examples n" },
    () => String(samplesOf(state)), (text) => update(state, { samples: Math.max(0, Math.round(Number(text)) || 0) }));
  const now = h("span", { class: "wbw-sub", "data-testid": "theory-now" });
  const why = h("p", { class: "wbw-sum" });
  const node = h("section", { class: "wbw-theory-half", "aria-label": "whole network" },
    h("h3", { class: "wbw-heading" }, "Whole network", which, chip), list, asking(state, sum, "relative error", "the error at the output"), why,
    h("h4", { class: "wbw-beside-title", title: "δ₁ = Σ (Lipschitz factor above)·√λ, δ₂ = √((1/n) Σ m♯ m♯' log n) with m♯ = ⌈N(λ)⌉" }, "Bias", question(state, "bias", "bias"), " and variance", question(state, "variance", "variance"), " up to constants, n ", question(state, "training examples", "n"), size, now), biasPlot(state, on));

  const row = (one) => {
    const name = h("span", { class: "wbw-name" });
    setName(name, one.group);
    const cell = (text, over = false) => h("span", { class: `wbw-cell${over ? " wbw-unmet" : ""}` }, text);
    return h("li", { class: "wbw-theory-row", "data-testid": "theory-row" }, name, cell(`${one.width} / ${one.of}`), cell(number(one.ratio), one.ratio > 1),
      cell(`${one.exact ? "≤" : "≈"} ${number(one.local_bound)}`), cell(number(one.local_measured)));
  };
  const head = h("li", { class: "wbw-theory-row wbw-steps-head" }, h("span", {}, "group"), h("span", { class: "wbw-cell" }, "kept"), h("span", { class: "wbw-cell", title: "λ_max(C_J) over 4λ" }, "worst / 4λ"),
    h("span", { class: "wbw-cell", title: "≤ is a bound, ≈ an estimate; at the reader's output" }, "local error"), h("span", { class: "wbw-cell", title: "At the reader's output, where the original's activations come in" }, "measured"));
  explainHeads(state, head, [null, "kept", "worst read-out", "predicted error", "change at the reader"]);
  on(`network_theory theory_of ${CHOSEN} tab`, () => {
    if (state.get("tab") !== "theory") return;
    const answer = state.get("network_theory");
    const lags = !answers(state, answer, state.get("theory_of") === AS_COMMITTED ? NETWORK_KEYS : [...NETWORK_KEYS, "lam"]);
    which.value = state.get("theory_of");
    chip.hidden = !lags;
    for (const part of [list, sum]) part.classList.toggle("wbw-lag", lags);
    list.hidden = !answer.layers;
    if (answer.none) setText(sum, "Nothing is committed yet.");
    else if (!answer.layers) setText(sum, "Measured here: every group cut to ⌈N(λ)⌉ units.");
    if (!answer.layers) return;
    list.replaceChildren(head, ...answer.layers.map(row));
    [...list.children].slice(1).forEach((one) => nameCells(one, head));
    const bound = answer.propagated_bound === null ? answer.why_not : `Propagated ${answer.propagated_exact ? "bound" : "estimate"} ${number(answer.propagated_bound)}${answer.propagated_exact ? "" : `, bound from the measured ${number(answer.propagated_from_measured)}`}`;
    setText(sum, `${bound}; measured at the output ${number(answer.output_change)}, ‖f − f♯‖ / ‖f‖ = ${percent(answer.output_error)}.`);
  });
  on("stretch samples lam spectra tab", () => {
    if (state.get("tab") !== "theory") return;
    const stretch = state.get("stretch");
    const samples = samplesOf(state);
    size.paint();
    setText(why, stretch.why_not ? `${stretch.why_not}. The factors in δ₁ count as 1.` : "");
    why.hidden = !stretch.why_not;
    const spectra = stretch.groups ? spectraOf(state, stretch.groups) : [];
    if (!spectra.length || samples < 2 || spectra.some((one) => !one.length)) return setText(now, "");
    const { bias, variance } = biasAndVariance(spectra, stretch, samples, state.get("lam"));
    setText(now, `here δ₁ = ${number(bias)}, δ₂ = ${number(variance)}`);
  });
  return node;
}

export function drawTheory(state, el, on) {
  const lam = slider("theory-lam", "λ relative to the trace", (exponent) => setLam(state, 10 ** exponent), 0.05, () => 10);
  const text = h("span", { class: "wbw-set" });
  el.append(
    h("div", { class: "wbw-theory-head" }, h("span", { class: "wbw-caption" }, "λ / Tr Σ"), question(state, "trace", "Tr Σ"), lam, text,
      h("span", { class: "wbw-hint" }, "The same λ as on the tab Layer. Mean squares are shares of Tr Σ; the rest is in the network's own units.")),
    errorBox(state, on, "theory"),
    h("div", { class: "wbw-theory-columns" }, layerHalf(state, on), networkHalf(state, on)));
  on("lam", () => {
    lam.paint(Math.log10(LAM_MIN), Math.log10(LAM_MAX), Math.log10(state.get("lam")), scientific(state.get("lam")));
    setText(text, scientific(state.get("lam")));
  });
}
