// Undo and redo of the budget's widths: what a hand, λ or a rule has set them to since the network was made as it
// is. The session's own Undo, of what is committed, is another.

import { h, setOff, update } from "./shared.js";
import { widthsOf } from "./budgetrows.js";

const ONE_MOVE = 600; // milliseconds between two keys of one move
const MOST_MOVES = 200;
const LOGS = new WeakMap(); // by what the views of a model share

const sameWidths = (one, other) => one.length === other.length && one.every((width, i) => width === other[i]);

function logOf(state) {
  if (!LOGS.has(state.shared)) LOGS.set(state.shared, { past: [], future: [], last: null, of: null, hand: null, when: 0 });
  return LOGS.get(state.shared);
}

// What is moved in `el` counts, and Ctrl+Z with the focus there undoes it. Returns the two buttons.
export function widthUndo(state, on, el) {
  const log = logOf(state);
  let [hand, held] = [null, false]; // the slider that moves now, and whether a pointer holds it
  const now = () => ({ widths: widthsOf(state), lam: state.get("budget_lam") });
  const note = () => {
    const here = now();
    const of = state.get("revision");
    if (log.of !== of || !log.last || log.last.widths.length !== here.widths.length) {
      return Object.assign(log, { past: [], future: [], last: here, of, hand: null });
    }
    if (!sameWidths(log.last.widths, here.widths)) {
      const goesOn = hand && hand === log.hand && (held || performance.now() - log.when < ONE_MOVE);
      if (!goesOn) log.past = [...log.past.slice(1 - MOST_MOVES), log.last];
      Object.assign(log, { future: [], hand, when: performance.now() });
    }
    log.last = here;
  };
  const move = (from, to) => {
    note();
    const wanted = log[from].at(-1);
    if (!wanted) return;
    log[from] = log[from].slice(0, -1);
    log[to] = [...log[to], log.last];
    Object.assign(log, { last: wanted, hand: null });
    const { names } = state.get("budget");
    update(state, { widths: Object.fromEntries(names.map((name, i) => [name, wanted.widths[i]])), budget_lam: wanted.lam });
    paint();
  };
  const button = (testid, text, hint, from, to) =>
    h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": testid, "data-hint": hint, onclick: () => move(from, to) }, text);
  const undo = button("undo-widths", "Undo widths", "The widths as they were before the last move; what is committed stays (Ctrl+Z here)", "past", "future");
  const redo = button("redo-widths", "Redo", "The widths as they were before Undo widths (Ctrl+Shift+Z here)", "future", "past");
  const paint = () => {
    setOff(undo, !log.past.length, "No width was moved since the network is as it is");
    setOff(redo, !log.future.length, "No move of widths was undone");
  };
  const isSlider = (node) => node.matches?.("[type=range], [role=slider]");
  const reach = (event) => {
    hand = isSlider(event.target) ? event.target : event.target.closest?.("svg") ?? null;
    held = event.type === "pointerdown" || (held && event.type !== "keydown");
  };
  const letGo = () => (held = false);
  for (const kind of ["pointerdown", "keydown", "input"]) el.addEventListener(kind, reach, { capture: true });
  for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, letGo, { capture: true });
  on.end(() => ["pointerup", "pointercancel"].forEach((kind) => removeEventListener(kind, letGo, { capture: true })));
  el.addEventListener("keydown", (event) => {
    const asked = (event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "z";
    // What is half typed has an undo of its own; where the plan is committed Ctrl+Z is the session's.
    const others = event.target.matches("[data-testid=commit-all], [data-testid=try-all], input[type=text]") || event.target.isTyped?.();
    if (!asked || others) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.shiftKey) move("future", "past");
    else move("past", "future");
  });
  on("widths budget_lam revision budget", () => (note(), paint()));
  return h("span", { class: "wbw-width-undo" }, undo, redo);
}
