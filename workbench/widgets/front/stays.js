// Quiet lines below the groups: what is in none of them and stays as it is, which opens the reasons; and on
// which sizes of input they were proved. One of them is open at a time, since the groups need the place.

import { h, setText, count } from "./shared.js";

export function staysLine(state, on) {
  const summary = h("summary", { title: "They go with no unit that can be taken away: open for the reasons" });
  const reasons = h("ul", { tabindex: "0", "aria-label": "why they stay" });
  const line = h("details", { class: "wbw-rest wbw-stays", name: "wbw-below", "data-testid": "stays" }, summary, reasons);
  on("stays", () => {
    const { line: words = "", tensors = [] } = state.get("stays") ?? {};
    line.hidden = !tensors.length;
    setText(summary, words);
    reasons.replaceChildren(...tensors.map(([name, numbers, why]) => h("li", {}, h("b", {}, name), ` (${count(numbers)}): ${why}`)));
  });
  return line;
}

export function sizesLine(state, on) {
  const summary = h("summary", { title: "Code may do otherwise at another size of input: open for the sizes that were tried" });
  const words = h("p", { tabindex: "0" });
  const line = h("details", { class: "wbw-rest wbw-stays", name: "wbw-below", "data-testid": "sizes" }, summary, words);
  on("sizes", () => {
    const { line: short = "", words: long = "" } = state.get("sizes") ?? {};
    line.hidden = !short;
    setText(summary, short);
    setText(words, long);
  });
  return line;
}
