// The ? beside a number or plot: what it is, its formula, which way is good. Native popovers: a click elsewhere or
// Escape closes, and the focus returns to the ?. What is asked is made when somebody asks.

import { h } from "./shared.js";

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

// What the glossary says of the button's term, in a popover of its own.
function explanation(state, button) {
  const term = button.dataset.term;
  const said = state.get("glossary")?.[term] ?? {};
  const popover = h("div", { class: "wbw-popover", popover: "auto", role: "dialog", tabindex: "-1", "data-testid": "explanation", "aria-label": term },
    h("strong", {}, term), h("p", {}, said.what ?? ""), h("p", { class: "wbw-formula" }, said.formula ?? ""),
    h("p", {}, h("em", {}, "Which way is good: "), h("span", {}, said.good ?? "")), h("p", { class: "wbw-caption" }, said.source ?? ""));
  popover.addEventListener("beforetoggle", (event) => event.newState === "open" && place(popover, button));
  popover.addEventListener("toggle", (event) => {
    const open = event.newState === "open";
    button.setAttribute("aria-expanded", open);
    if (open) popover.focus({ preventScroll: true });
  });
  // Enter here would commit: the workbench hears it from wherever no button is.
  popover.addEventListener("keydown", (event) => event.key === "Enter" && event.stopPropagation());
  return popover;
}

// A ? that explains the glossary's `term`; `label` is what it stands beside. Another term with node.ask(term).
export function question(state, term, label) {
  const button = h("button", { type: "button", class: "wbw-question", "aria-label": `What is ${label}?`, "aria-expanded": "false", "aria-haspopup": "dialog" }, "?");
  const node = h("span", { class: "wbw-asked" }, button);
  // This is heard before the browser opens what the button leads to.
  button.addEventListener("click", () => {
    if (button.popoverTargetElement) return;
    const popover = explanation(state, button);
    node.append(popover); // first: a button leads to nothing that is not in its tree
    button.popoverTargetElement = popover;
  });
  node.ask = (asked) => {
    if (button.dataset.term === asked) return;
    button.popoverTargetElement?.remove();
    button.popoverTargetElement = null;
    button.dataset.term = asked;
    node.hidden = !state.get("glossary")?.[asked];
  };
  node.ask(term);
  return node;
}

// `node` with a ? that stands over its upper right corner: where a label names it, in which no button may be.
export function asking(state, node, term, label, kind = "") {
  const mark = question(state, term, label);
  const box = h("div", { class: `wbw-asking ${kind}`, style: node.style.gridColumn && `grid-column: ${node.style.gridColumn}` }, node, mark);
  box.ask = mark.ask;
  return box;
}

// A ? in every head of a table's columns that has a term, by its place; what names the column is told apart from it.
export function explainHeads(state, head, terms) {
  [...head.children].forEach((cell, i) => {
    if (!terms[i]) return;
    const text = cell.textContent;
    cell.replaceChildren(h("span", { class: "wbw-head" }, text), question(state, terms[i], text));
    cell.classList.add("wbw-headed");
  });
  return head;
}
