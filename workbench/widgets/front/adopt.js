// What a comparison or a sweep has found is taken over: a way to prune becomes the settings of all tabs, widths go
// into the Budget. What was done is said in the line of notices; Undo widths on the tab Budget takes widths back.

import { RECONSTRUCTIONS, SELECTIONS } from "./constants.js";
import { update } from "./shared.js";
import { widthsOf } from "./budgetrows.js";

const calledShort = (options, value) => options.find(([name]) => name === value)?.[2] ?? value;
const listed = (names) => (names.length > 2 ? `${names.length} locked groups keep theirs` : `${names.join(" and ")}, locked, ${names.length > 1 ? "keep theirs" : "keeps its own"}`);
export const wayWords = (row) => `${calledShort(SELECTIONS, row.selection)}, ${calledShort(RECONSTRUCTIONS, row.reconstruction)}${row.reestimate ? ", norms" : ""}`;

// The budget's widths with those of `wanted`, or all units; a locked group keeps its own. The names that did.
function budgetWith(state, wanted) {
  const { names = [], widths: present = [] } = state.get("budget");
  const locks = new Set(state.get("locks"));
  const before = widthsOf(state);
  const asked = names.map((name, i) => Math.min(wanted[name] ?? present[i], present[i]));
  const widths = names.map((name, i) => (locks.has(name) ? before[i] : asked[i]));
  return { widths: Object.fromEntries(names.map((name, i) => [name, widths[i]])), held: names.filter((name, i) => widths[i] !== asked[i]) };
}

const settingsOf = (state, row) => ({ selection: row.selection, reconstruction: row.reconstruction, theta: row.theta, reestimate: row.reestimate && state.get("norms") });

export function useWay(state, answer, row) {
  const { widths: wanted, title } = answer.budgets[row.budget];
  const { widths, held } = budgetWith(state, wanted);
  const aside = [held.length ? listed(held) : "", answer.revision === state.get("revision") ? "" : "compared before the last change"].filter(Boolean);
  const notice = `Set: ${wayWords(row)}, θ ${row.theta.toFixed(2)}; Budget: widths of ${title}${aside.length ? ` (${aside.join("; ")})` : ""}`;
  update(state, { ...settingsOf(state, row), widths, notice });
}
export function isUsed(state, answer, row) {
  const wanted = answer.budgets[row.budget].widths;
  const { names = [], widths: present = [] } = state.get("budget");
  const now = widthsOf(state);
  return Object.entries(settingsOf(state, row)).every(([key, value]) => state.get(key) === value)
    && names.every((name, i) => now[i] === (wanted[name] ?? present[i]));
}

export function useWidth(state, name, width) {
  const { names = [], widths: present = [] } = state.get("budget");
  const index = names.indexOf(name);
  if (index < 0) return update(state, { notice: `${name} cannot be pruned now, so its width stays` });
  if (state.get("locks").includes(name)) return update(state, { notice: `${name} is locked and stays at ${widthsOf(state)[index]}: unlock it on the tab Budget first` });
  if (width > present[index]) return update(state, { notice: `${name} has ${present[index]} units now, fewer than these ${width}: sweep again` });
  const widths = Object.fromEntries(names.map((one, i) => [one, i === index ? width : widthsOf(state)[i]]));
  update(state, { widths, notice: `Set: ${name} at ${width} of ${present[index]} units, on the tab Budget` });
}
