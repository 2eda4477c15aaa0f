// The read-outs of the selected group's choice: those that the page computes while λ is dragged, and the kernel's.

import { FITTED } from "./constants.js";
import { degreesOfFreedom, suggestedWidth, guaranteedWidth } from "./math.js";
import { h, setText, count, percent, freedomText, eigenvaluesOf, lamOf, isCurrent } from "./shared.js";
import { question } from "./glossary.js";
import { nameBy } from "./telling.js";

function readout(state, name, caption, term, hint, unit = "") {
  // In a box of its own, so that digits of another size lay out no more than themselves.
  const digits = h("span", { class: "wbw-digits" });
  const value = h("span", { class: "wbw-number", "data-testid": `readout-${name}` }, digits);
  const of = h("span", { class: "wbw-unseen" }, unit);
  const under = h("span", { class: "wbw-caption" }, caption);
  const node = h("div", { class: "wbw-readout", title: hint },
    h("div", { class: "wbw-readout-line" }, h("div", { class: "wbw-number-place" }, value, of), question(state, term, caption)), under);
  nameBy(node, under, value, of);
  return { node, under, of, paint: (number, text, exact = number) => {
    value.dataset.value = number === null ? "" : exact;
    setText(digits, number === null ? "–" : text);
    digits.classList.toggle("wbw-tight", Boolean(text?.startsWith("<")));
  } };
}

// The two halves of a read-out's life: in the page at once, and from the kernel when it has caught up.
export function readouts(state) {
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
    parameters_saved: one("params-saved", "param. saved", "parameters", "Parameters that this choice takes away", "numbers"),
    macs_saved: one("macs-saved", "MACs saved", "MACs", "Multiply–accumulates that this choice takes away, an example", "an example"),
  };
  return { inPage, fromKernel };
}

export function paintInPage(state, inPage) {
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

export function paintFromKernel(state, fromKernel, box) {
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
