// The line that says how many answers changed, and opens the card that shows which.

import { FLIPS_AGAINST, FLIPS_PAGE } from "./constants.js";
import { h, setText, alive, busy, send, showCard } from "./shared.js";

// Opens the card on what was tried ("choice", "plan") or on a step's number.
export function openFlips(state, of, against = FLIPS_AGAINST[0][0], pick = "all", count = FLIPS_PAGE) {
  state.wbwFlips = { of, against, pick };
  if (!state.wbwFlipsOpen) showCard(state, "flips");
  send(state, "show_flips", { of, against, pick, count });
}

// No line breaks between a number and what it counts.
export const unbroken = (line) => line.replace(/(\d) (?=right|wrong)/g, "$1\u00a0").replaceAll(" → ", "\u00a0→\u00a0");

// As short as a line of a rail must be; the whole sentence stands on hover and on the card.
const inShort = ({ line = "", lost, won }) => unbroken(lost || won ? `${lost} right → wrong, ${won} wrong → right` : line);

export function flipsLink(state, of) {
  const node = h("button", { type: "button", class: "wbw-flips-link", "data-testid": `flips-${of}`, "aria-haspopup": "dialog", hidden: true, onclick: () => busy(state) || !alive(state) || openFlips(state, of) });
  const off = () => {
    const why = !alive(state) ? "This needs a running kernel" : busy(state) ? "Something is running: see above" : "";
    node.setAttribute("aria-disabled", Boolean(why)); // it keeps the focus, to which the card returns it
    node.title = why || node.dataset.hint;
  };
  return {
    node,
    off,
    paint: (flips) => {
      if (!flips?.line && node.hidden) return; // at each move of λ
      node.hidden = !flips?.line;
      node.dataset.line = flips?.line ?? "";
      node.dataset.hint = `${node.dataset.line}: see which, by class, confusion and example. Nothing is kept`;
      setText(node, inShort(flips ?? {}));
      off();
    },
  };
}

// A step's counts as a small button of the history: "−30 +1", or a question where nobody has looked yet.
export function stepFlips(state, step, index) {
  if (!index) return h("span", {});
  const known = step.flips;
  const [lost, won, other] = known ?? [];
  const text = !known ? "show" : lost || won ? `−${lost} +${won}` : other ? `${other}` : "none";
  const hint = !known ? "Which answers this step changed: it takes a pass over the data"
    : `${lost} right → wrong, ${won} wrong → right, ${other} otherwise changed: see which`;
  return h("button", { type: "button", class: "wbw-button wbw-small wbw-step-flips", "data-testid": `history-flips-${index}`, title: hint,
    "aria-label": `answers changed by ${step.label}: ${known ? `${lost} right to wrong, ${won} wrong to right` : "not compared yet"}`,
    "aria-haspopup": "dialog", onclick: () => openFlips(state, index) }, text);
}
