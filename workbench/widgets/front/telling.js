// What a screen reader is told: what a number is called, which panel a tab has, and the news, in one place.

import { h, setText, setAttributes, freedomText, percent, layerOf, eigenvaluesOf, lamOf, isCurrent } from "./shared.js";
import { degreesOfFreedom } from "./math.js";

const HERE = Math.random().toString(36).slice(2, 8); // some hosts load this module once for several views
let made = 0;
const idOf = (node) => (node.id ||= `wbw-${HERE}-${++made}`);

// `node` is called what `parts` say at the time: a new number needs no new name.
export const nameBy = (node, ...parts) => setAttributes(node, { role: "group", "aria-labelledby": parts.map(idOf).join(" ") });

// The numbers of a row that stands in a list, each called by the head of its column, or the last one before it; a
// button has a name of its own.
export function nameCells(row, head) {
  const titles = [...head.children].map((one) => one.querySelector(".wbw-head") ?? one);
  const titleOf = (i) => titles.slice(0, i + 1).findLast((one) => one.textContent);
  [...row.children].forEach((cell, i) => cell.matches(":is(.wbw-cell, .wbw-heat):not(button)") && nameBy(cell, titleOf(i), cell));
}

// A number from 0 to 1 without an exponent, which an attribute of a slider must not have; no digit is lost.
export function plainly(value) {
  const [digits, exponent] = String(value).split("e-");
  return exponent ? `0.${"0".repeat(exponent - 1)}${digits.replace(".", "")}` : digits;
}

// Every tab and the panel that it shows: each says which the other is.
export function linkTabs(root, panelOf) {
  for (const tab of root.querySelectorAll("[role=tab]")) {
    const panel = panelOf(tab.dataset.testid.slice("tab-".length));
    setAttributes(panel, { role: "tabpanel", "aria-labelledby": idOf(tab) });
    tab.setAttribute("aria-controls", idOf(panel));
  }
}

// ---- news -------------------------------------------------------------------------------------------------
const QUIET = 600; // milliseconds without anything new, after which the latest is said
const SAID = 8000; // milliseconds after which the same may be said again
const TELL = new WeakMap(); // of a view's state

// What λ, the width and the options have led to, once the kernel has answered them.
function choiceWords(state) {
  const answer = state.get("preview");
  const eigenvalues = eigenvaluesOf(state);
  if (!eigenvalues.length || !isCurrent(state, answer)) return "";
  const N = freedomText(degreesOfFreedom(eigenvalues, lamOf(state, eigenvalues)));
  const loss = answer.output_loss === null ? "" : `, output loss ${percent(answer.output_loss)}`;
  return `${state.get("selected")}: N(λ) ${N}, width ${state.get("width")} of ${layerOf(state).width}${loss}`;
}

// The one place in which a view says its news: errors, questions, what runs and has ended, what a choice leads to.
export function liveRegion(state, on) {
  const region = h("div", { class: "wbw-unseen", role: "status", "aria-live": "polite", "aria-atomic": "true", "data-testid": "live" });
  const news = new Map(); // by what they are of, the latest of each
  let timer = 0;
  const say = () => {
    const words = [...news.values()].map((text) => text().trim()).filter(Boolean);
    news.clear();
    setText(region, words.join("; "));
    timer = setTimeout(() => setText(region, ""), SAID);
  };
  const tell = (key, text) => {
    news.set(key, text);
    clearTimeout(timer);
    // Right after a frame, when to ask what is in sight costs no style of its own.
    timer = setTimeout(() => requestAnimationFrame(() => (timer = setTimeout(say))), QUIET);
  };
  TELL.set(state, tell);
  on.end(() => clearTimeout(timer));
  const follow = (names, textOf) => {
    let before = textOf();
    on(names, () => {
      const now = textOf();
      if (now && now !== before) tell(names, () => now);
      before = now;
    });
  };
  follow("error", () => state.get("error") && `Error: ${state.get("error")}`);
  follow("question", () => state.get("question").words ?? "");
  follow("progress notice", () => state.get("progress").what || state.get("notice"));
  follow("kept", () => state.get("kept") && `Not kept by itself: ${state.get("kept")}`);
  follow("tuned", () => (state.get("tuned").how ? `Fine-tuning ${state.get("tuned").how}` : ""));
  follow("preview", () => choiceWords(state));
  return region;
}

// The words of `node` are news whenever they change in sight.
export function told(state, on, node) {
  const words = () => (node.checkVisibility() ? node.textContent : "");
  const observer = new MutationObserver(() => TELL.get(state)?.(node, words));
  observer.observe(node, { childList: true, characterData: true, subtree: true, attributes: true, attributeFilter: ["hidden"] });
  on.end(() => observer.disconnect());
  return node;
}
