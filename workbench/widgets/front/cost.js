// Parameters and MACs at any widths, from the terms that the kernel sends once a revision: the arithmetic of
// workbench.network.cost_model, to the last unit.

// gone · amount / whole, rounded down, where amount · gone may be beyond what a number holds exactly.
function portion(amount, gone, whole) {
  const each = Math.floor(amount / whole);
  return each * gone + Math.floor(((amount - each * whole) * gone) / whole);
}

// `widths` in the order of budget.names; `biased`: readers of fewer units get a bias. Returns { parameters, macs, shares }, where shares[i] are the
// parameters and MACs of the layers that make group i's units.
function costAt(budget, widths, biased = false) {
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

// The width that a group gets for `wanted` units: a multiple, not under the minimum, or all of them.
function allowedWidth(wanted, m, minimum, multiple) {
  return Math.min(m, Math.ceil(Math.max(wanted, Math.min(minimum, m)) / multiple) * multiple);
}
