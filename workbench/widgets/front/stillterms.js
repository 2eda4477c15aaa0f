// What the numbers of a page are: its terms of the glossary, each with the place that a number's word leads to.

import { h } from "./shared.js";

export const placeOf = (term) => `what-${term.replaceAll(" ", "-")}`;

export function termList(glossary) {
  return h("dl", {}, ...Object.entries(glossary).map(([term, said]) => h("div", {},
    h("dt", { id: placeOf(term) }, term), h("dd", { class: "wbw-formula" }, said.formula), h("dd", {}, said.what), h("dd", {}, h("em", {}, "Which way is good: "), said.good))));
}
