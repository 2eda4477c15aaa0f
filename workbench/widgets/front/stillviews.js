// What figures and pages without a kernel are made of: the theme, and rows of numbers.

import { h, setText, scientific, percent } from "./shared.js";
import { pathOf, isExact } from "./stillstate.js";
import { placeOf } from "./stillterms.js";
import { nameBy } from "./telling.js";

// Light or dark, as the page around it or the system has it.
export function followTheme(root) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => (root.dataset.jpThemeLight = String(!dark.matches));
  dark.addEventListener("change", paint);
  paint();
}

// Numbers with a word under each, [[name, caption, of, term], …]; `of` gives [text, value], or null. Where the page
// explains the glossary's `term`, the word leads there.
export function numberRow(state, on, names, entries) {
  const shown = entries.map(([name, caption, of, term]) => {
    const value = h("span", { class: "wbw-still-number", "data-testid": `readout-${name}` });
    const word = h(term ? "a" : "span", { class: "wbw-still-caption", href: term && `#${placeOf(term)}` }, caption);
    const node = h("div", { class: "wbw-still-readout" }, value, word);
    nameBy(node, word, value);
    return { of, value, node };
  });
  on(names, () => shown.forEach(({ of, value }) => {
    const [text, exact] = of() ?? ["–", ""];
    value.dataset.value = exact;
    setText(value, text);
  }));
  return h("div", { class: "wbw-still-readouts" }, ...shown.map((one) => one.node));
}

export const lossEntries = (state) => [["input", "input loss"], ["output", "output loss"], ["combined", "combined loss"]].map(([name, caption]) =>
  [`${name}-loss`, caption, () => lossNow(state, `${name}_loss`)]);

export function lossNow(state, name) {
  const value = state.get("preview")[name];
  return value === null || value === undefined ? null : [percent(value), value];
}

// In words, at which λ and width the units shown were chosen.
export function chosenWords(state) {
  const path = pathOf(state);
  if (!path || isExact(state, path)) return "";
  return `Units and losses: as chosen at λ = ${scientific(path.lam)}, the nearest that was computed (there with ${path.width} units).`;
}
