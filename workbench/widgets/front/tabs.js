// What stands between header and history: one layer, or all of them in one of several ways.

import { h, update } from "./shared.js";

const TABS = [["layer", "Layer", "One group: its spectrum and a choice for it"],
  ["budget", "Budget", "All groups at once: widths for a target"],
  ["compare", "Compare", "Ways to prune side by side, at the budget's widths"],
  ["tune", "Fine-tune", "Train the pruned network a little, with labels or without"],
  ["theory", "Theory", "What the theory promises at this λ, beside what is measured"],
  ["network", "Network", "The groups from input to output, and what ties them"]];

export function tabList(state, on) {
  const choose = (tab) => update(state, { tab });
  const tabs = TABS.map(([name, text, hint]) =>
    h("button", { class: "wbw-tab", role: "tab", type: "button", "data-testid": `tab-${name}`, title: hint, onclick: () => choose(name) }, text));
  const node = h("div", { class: "wbw-tabs", role: "tablist", "aria-label": "what to work on" }, ...tabs);
  node.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    const next = (to + tabs.length) % tabs.length;
    choose(TABS[next][0]);
    tabs[next].focus({ preventScroll: true });
  });
  on("tab", () => tabs.forEach((tab, i) => {
    const chosen = TABS[i][0] === state.get("tab");
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
  }));
  return node;
}
