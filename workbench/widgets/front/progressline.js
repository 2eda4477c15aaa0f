// What runs: how far it is, how long it still takes, and the button that ends it; else the last notice.

import { THIN, h, setText, seconds, alive, busy, send } from "./shared.js";

// What Cancel leaves, where that is not nothing: the words of the button, and what they mean.
const KEEPS = {
  finetune: ["Stop, keep best", "End now; the best network so far becomes a step"],
  measure_damage: ["Stop, keep measured", "End now; what is measured so far is kept, and measured no more"],
  compare: ["Stop, keep rows", "End now; the rows that are there stay"],
  sweep_groups: ["Stop, keep rows", "End now; what is measured so far stays, and is measured no more"],
  score: ["Stop scoring", "End now; what is measured stays, the score stays open"],
};
const DOT = "\u00a0· ";
const GONE = "The kernel is gone: run the cell again to go on. λ still moves here.";

// Time left, no finer than it is known: to the second below ten of them, then to five, then to the minute.
function leftWords(left) {
  if (left < 10) return `${Math.max(1, Math.round(left))}${THIN}s left`;
  return left < 90 ? `${5 * Math.round(left / 5)}${THIN}s left` : `${Math.round(left / 60)}${THIN}min left`;
}

export function progressLine(state, on) {
  const bar = h("span", { class: "wbw-bar-fill" });
  const [counts, text, time] = ["wbw-status-count", "wbw-status-text", "wbw-status-time"].map((kind) => h("span", { class: kind }));
  const cancel = h("button", { class: "wbw-button wbw-small", "data-testid": "cancel", onclick: () => send(state, "cancel") }, "Cancel");
  const line = h("div", { class: "wbw-status", "data-testid": "progress" }, counts, text, time,
    h("div", { class: "wbw-bar wbw-progress" }, bar), cancel);
  let [since, told] = [0, 0]; // when the work began, and when the kernel last spoke of it
  const paint = () => {
    const { what = state.shared.sent && "starting", done, total, left, command } = state.get("progress");
    const [label, leaves] = KEEPS[command] ?? ["Cancel", "Stop what runs; nothing of it is kept"];
    setText(cancel, label);
    cancel.title = leaves;
    line.classList.toggle("wbw-working", Boolean(what));
    line.classList.toggle("wbw-endless", Boolean(what) && !total);
    const notice = alive(state) ? state.get("notice") : GONE;
    const now = performance.now();
    const spent = (now - since) / 1000;
    const still = what && left !== null && left !== undefined ? left - (now - told) / 1000 : 0;
    setText(counts, what && total ? `${done} of ${total}` : "");
    setText(text, what && total ? `${DOT}${what}` : what || notice);
    setText(time, !what || spent < 1 ? "" : `${DOT}${still > 0.5 ? leftWords(still) : seconds(spent)}`);
    bar.style.width = total ? `${(100 * done) / total}%` : "100%";
    line.title = what ? `${line.textContent.slice(0, -label.length)}${still > 0.5 ? ` (${seconds(spent)} so far)` : ""}` : notice;
  };
  on("progress notice kernel", () => {
    told = performance.now();
    since = told - 1000 * (state.get("progress").elapsed ?? 0);
    paint();
  });
  const clock = setInterval(() => busy(state) && paint(), 500);
  on.end(() => clearInterval(clock));
  return line;
}
