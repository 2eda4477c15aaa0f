// The arithmetic that lives in the page: the same formulas as workbench.spectral, on a Float64Array of
// eigenvalues. Plain functions of numbers: tests/browser/test_arithmetic.py compares them with Python.

import { COUNT_TOLERANCE } from "./constants.js";

// What was found last of a spectrum, which nothing changes: several panels ask for the same within a frame.
const TRACES = new WeakMap();
const LAST_FREEDOM = new WeakMap();

export function traceOf(eigenvalues) {
  let total = TRACES.get(eigenvalues);
  if (total !== undefined) return total;
  total = 0;
  for (let j = eigenvalues.length - 1; j >= 0; j--) total += eigenvalues[j];
  TRACES.set(eigenvalues, total);
  return total;
}

// N(λ) = Σ_j μ_j / (μ_j + λ)
export function degreesOfFreedom(eigenvalues, lam) {
  const last = LAST_FREEDOM.get(eigenvalues);
  if (last?.lam === lam) return last.total;
  let total = 0;
  for (let j = eigenvalues.length - 1; j >= 0; j--) {
    const mu = eigenvalues[j];
    if (mu > 0) total += mu / (mu + lam);
  }
  LAST_FREEDOM.set(eigenvalues, { lam, total });
  return total;
}

// The λ with N(λ) = width, by bisection on log λ; a width at or above the rank has no solution and
// gets the floor, machine epsilon times the trace.
export function lamForWidth(eigenvalues, width) {
  const trace = traceOf(eigenvalues);
  const floor = Number.EPSILON * trace;
  if (!(trace > 0) || degreesOfFreedom(eigenvalues, floor) <= width) return floor;
  let low = Math.log(floor);
  let high = Math.log((trace * eigenvalues.length) / Math.min(width, 1)) + 1;
  for (let step = 0; step < 200 && high - low > 1e-14 * Math.abs(low); step++) {
    const middle = (low + high) / 2;
    if (degreesOfFreedom(eigenvalues, Math.exp(middle)) > width) low = middle;
    else high = middle;
  }
  return Math.exp((low + high) / 2);
}

// ⌈N(λ)⌉ within [1, m]; a hair above a whole number does not ask for one unit more.
export function suggestedWidth(eigenvalues, lam) {
  const m = eigenvalues.length;
  return Math.min(Math.max(Math.ceil(degreesOfFreedom(eigenvalues, lam) - COUNT_TOLERANCE * m), 1), m);
}

// δ₁ and δ₂ at one λ relative to every trace, up to constants: Σ_ℓ (Lipschitz factor above ℓ)·√λ_ℓ, and
// √((1/n) Σ_ℓ m♯_ℓ m♯_{ℓ+1} log n) with m♯_ℓ = ⌈N_ℓ(λ)⌉ between the inputs' width and the outputs'.
export function biasAndVariance(spectra, stretch, samples, relative) {
  let bias = 0;
  let products = 0;
  let before = stretch.inputs;
  spectra.forEach((eigenvalues, i) => {
    const lam = relative * traceOf(eigenvalues);
    const width = lam > 0 ? suggestedWidth(eigenvalues, lam) : 1;
    bias += stretch.factors[i] * Math.sqrt(lam);
    products += before * width;
    before = width;
  });
  products += before * stretch.outputs;
  return { bias, variance: Math.sqrt((products * Math.log(samples)) / samples) };
}

// 5 N log(80 N): the width at which sampling by leverage carries its guarantee.
export function guaranteedWidth(N) {
  return 80 * N <= 1 ? 1 : Math.max(1, Math.ceil(5 * N * Math.log(80 * N)));
}
