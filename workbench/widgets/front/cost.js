// Parameters, MACs and megabytes at any widths, from the terms that the kernel sends once a revision: the arithmetic of
// workbench.network.cost_model, to the last unit.

import { traceOf, suggestedWidth } from "./math.js";

// gone · amount / whole, rounded down, where amount · gone may be beyond what a number holds exactly.
export function portion(amount, gone, whole) {
  const each = Math.floor(amount / whole);
  const rest = (amount - each * whole) * gone;
  if (!Number.isSafeInteger(rest)) return Number((BigInt(amount) * BigInt(gone)) / BigInt(whole));
  return each * gone + Math.floor(rest / whole);
}

// `widths` in the order of budget.names; `biased`: readers of fewer units get a bias. Returns { parameters,
// macs, shares }, where shares[i] are the parameters and MACs of the layers that make group i's units.
export function costAt(budget, widths, biased = false) {
  const lost = budget.widths.map((m, i) => m - widths[i]);
  const shares = budget.widths.map(() => ({ parameters: 0, macs: 0 }));
  let { parameters, macs } = budget;
  for (const [rows, columns, ownParameters, ownMacs, biases, newBiases, lostRows, lostColumns] of budget.terms) {
    let [goneRows, goneColumns] = [0, 0];
    for (const [group, each] of lostRows) goneRows += lost[group] * each;
    for (const [group, each] of lostColumns) goneColumns += lost[group] * each;
    const whole = rows * columns;
    const gone = whole - (rows - goneRows) * (columns - goneColumns);
    const added = biased && goneColumns ? newBiases * (rows - goneRows) : 0;
    const less = portion(ownParameters, gone, whole) + biases * goneRows - added;
    const work = portion(ownMacs, gone, whole);
    parameters -= less;
    macs -= work;
    for (const [group, each] of lostRows) {
      const part = (widths[group] * each) / (rows - goneRows);
      shares[group].parameters += part * (ownParameters + biases * rows - less);
      shares[group].macs += part * (ownMacs - work);
    }
  }
  return { parameters, macs, shares };
}

// Megabytes at `widths`, of a network that has `present` ones, from the terms of Total.of_term.
export function memoryAt(memory, present, widths, biased = false) {
  let megabytes = memory.now;
  for (const [rows, columns, product, each, bias, lostRows, lostColumns] of memory.terms) {
    let [leftRows, leftColumns] = [rows, columns];
    for (const [group, size] of lostRows) leftRows -= (present[group] - widths[group]) * size;
    for (const [group, size] of lostColumns) leftColumns -= (present[group] - widths[group]) * size;
    const row = each + (biased && leftColumns < columns ? bias : 0);
    megabytes += product * (leftRows * leftColumns - rows * columns) + row * leftRows - each * rows;
  }
  return megabytes;
}

// The width that a group of m units gets where `wanted` are asked for: so many or the next above that is a
// multiple and not under the minimum, or all of them.
export function allowedWidth(wanted, m, { minimum = 1, multiple = 1 } = {}) {
  return Math.min(m, Math.ceil(Math.max(wanted, Math.min(minimum, m)) / multiple) * multiple);
}

// Every group's width at one λ, relative to its trace. `groups`: { eigenvalues, lock } each; a group that has
// a `lock` stays at that width.
export function widthsAt(groups, relative, limits) {
  return groups.map(({ eigenvalues, lock = null }) =>
    lock ?? allowedWidth(suggestedWidth(eigenvalues, relative * traceOf(eigenvalues)), eigenvalues.length, limits));
}
