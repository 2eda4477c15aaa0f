// The ? beside a number: what it is, its formula, which way is good. Native popovers: a click elsewhere or
// Escape closes, and the focus returns to the ?.

import { h, setText } from "./shared.js";

const POPOVER_WIDTH = 340;
const MARGIN = 8;

// Below the ? where there is room, else above it; within the window.
function place(node, button) {
  const box = button.getBoundingClientRect();
  const above = box.bottom > 0.6 * window.innerHeight;
  const left = Math.min(Math.max(box.left - 20, MARGIN), Math.max(window.innerWidth - POPOVER_WIDTH - MARGIN, MARGIN));
  Object.assign(node.style, {
    left: `${left}px`, top: above ? "auto" : `${box.bottom + 4}px`, bottom: above ? `${window.innerHeight - box.top + 4}px` : "auto",
  });
}

// A ? that explains the glossary's `term`; `label` is what it stands beside. Another term with node.ask(term).
export function question(state, term, label) {
  const name = h("strong", {});
  const what = h("p", {});
  const formula = h("p", { class: "wbw-formula" });
  const good = h("span", {});
  const source = h("p", { class: "wbw-caption" });
  const popover = h("div", { class: "wbw-popover", popover: "auto", role: "dialog", tabindex: "-1", "data-testid": "explanation" },
    name, what, formula, h("p", {}, h("em", {}, "Which way is good: "), good), source);
  const button = h("button", { type: "button", class: "wbw-question", "aria-label": `What is ${label}?`, "aria-expanded": "false", "aria-haspopup": "dialog" }, "?");
  const node = h("span", { class: "wbw-asked" }, button, popover);
  button.popoverTargetElement = popover;
  popover.addEventListener("beforetoggle", (event) => event.newState === "open" && place(popover, button));
  popover.addEventListener("toggle", (event) => {
    const open = event.newState === "open";
    button.setAttribute("aria-expanded", open);
    if (open) popover.focus({ preventScroll: true });
  });
  // Enter here would commit: the workbench hears it from wherever no button is.
  popover.addEventListener("keydown", (event) => event.key === "Enter" && event.stopPropagation());
  node.ask = (asked) => {
    const said = state.get("glossary")?.[asked];
    node.hidden = !said;
    button.dataset.term = asked;
    popover.setAttribute("aria-label", asked);
    setText(name, asked);
    for (const [part, text] of [[what, "what"], [formula, "formula"], [good, "good"], [source, "source"]]) setText(part, said?.[text] ?? "");
  };
  node.ask(term);
  return node;
}
