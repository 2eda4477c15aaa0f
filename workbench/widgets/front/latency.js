// How fast λ answers, measured where it happens: from a move that is handled to its painted answer, over the last
// drags. A move costs one message more; what was measured is written when the hand lets go.

import { THIN, h, setText } from "./shared.js";

const MOST_MOVES_SEEN = 120;
const FEWEST_MOVES = 20; // that a median is told of

export function latencyNote(state, on) {
  const note = h("span", { class: "wbw-caption wbw-latency", "data-testid": "latency", hidden: true });
  const spent = [];
  let [handled, held] = [0, false];
  const { port1, port2 } = new MessageChannel(); // whose message comes after the frame is painted
  port1.onmessage = () => {
    spent.push(performance.now() - handled);
    if (spent.length > MOST_MOVES_SEEN) spent.shift();
    handled = 0;
  };
  const drawn = () => port2.postMessage(0);
  const moved = () => {
    if (!held || handled) return;
    handled = performance.now();
    requestAnimationFrame(drawn);
  };
  const take = () => (held = true);
  const letGo = () => {
    held = false;
    if (spent.length < FEWEST_MOVES) return;
    const median = [...spent].sort((a, b) => a - b)[Math.floor(spent.length / 2)];
    note.dataset.value = median.toFixed(2);
    setText(note, `λ ${median < 1 ? "<1" : Math.round(median)}${THIN}ms`);
    note.title = `From a move of λ to its painted answer, the median of the last ${spent.length} moves in this page`;
    note.hidden = false;
  };
  state.on("change:lam", moved);
  state.place.addEventListener("pointerdown", take, { capture: true });
  for (const end of ["pointerup", "pointercancel"]) addEventListener(end, letGo, { capture: true });
  on.end(() => {
    state.off("change:lam", moved);
    state.place.removeEventListener("pointerdown", take, { capture: true });
    for (const end of ["pointerup", "pointercancel"]) removeEventListener(end, letGo, { capture: true });
    port1.close();
  });
  return note;
}
