// What is in no group and stays as it is: a quiet line below the groups, which opens the reasons.

import { h, setText, count } from "./shared.js";

export function staysLine(state, on) {
  const summary = h("summary", { title: "They go with no unit that can be taken away: open for the reasons" });
  const reasons = h("ul", { tabindex: "0", "aria-label": "why they stay" });
  const line = h("details", { class: "wbw-rest wbw-stays", "data-testid": "stays" }, summary, reasons);
  on("stays", () => {
    const { line: words = "", tensors = [] } = state.get("stays") ?? {};
    line.hidden = !tensors.length;
    setText(summary, words);
    reasons.replaceChildren(...tensors.map(([name, numbers, why]) => h("li", {}, h("b", {}, name), ` (${count(numbers)}): ${why}`)));
  });
  return line;
}
