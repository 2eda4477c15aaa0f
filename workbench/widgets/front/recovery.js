// Earlier sessions that may be taken up again, above the areas; and the question before a page is left.

import { h, setText, focusIn, setOff, alive, busy, send } from "./shared.js";
import { told } from "./telling.js";

const DOUBLE = 500; // milliseconds within which two clicks are one

// The newest offer in a line of its own, the others behind "Earlier". Nothing of it stays once steps are made.
export function offerBox(state, on) {
  const small = (testid, text, onclick, hint) =>
    h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": testid, "data-hint": hint, onclick }, text);
  const words = told(state, on, h("span", { class: "wbw-offer-words" }));
  const ended = h("span", { class: "wbw-offer-lost" });
  const more = h("select", { class: "wbw-select", "data-testid": "offers", "aria-label": "earlier sessions" });
  const takeUp = small("take-up", "Take up again", () => send(state, "take_up", { run: more.value }));
  takeUp.classList.add("wbw-primary");
  const notNow = small("put-off", "Not now", () => send(state, "put_off"), "It stays kept, and is offered the next time");
  const discard = small("discard", "Discard…", () => ask(more.value), "Throw it away for good");
  const away = small("discard-go", "Throw away", (event) => {
    if (event.timeStamp - since < DOUBLE) return; // the second half of a double click on Discard…
    send(state, "discard", { run: asked });
    ask("");
  });
  const keep = small("discard-keep", "Keep it", () => ask(""));
  const box = h("div", { class: "wbw-offer", "data-testid": "offer" }, words, more, takeUp, notNow, discard, away, keep, ended);
  const offers = () => state.get("offers") ?? [];
  let asked = ""; // the run that is to go, until that is said twice
  let since = 0;
  const ask = (run) => {
    const back = asked && !run && box.contains(focusIn(box));
    asked = run;
    since = performance.now();
    paint();
    if (run) keep.focus({ preventScroll: true });
    else if (back) discard.focus({ preventScroll: true });
  };
  const paint = () => {
    const all = offers();
    if (!all.some((offer) => offer.run === asked)) asked = "";
    const one = all.find((offer) => offer.run === more.value);
    box.classList.toggle("wbw-offer-asks", Boolean(asked));
    for (const node of [takeUp, notNow, discard]) node.hidden = Boolean(asked);
    for (const node of [away, keep]) node.hidden = !asked;
    more.hidden = Boolean(asked) || all.length < 2;
    const question = `Throw away ${one?.words}? It cannot be brought back.`;
    setText(words, !one ? "" : asked ? question : `Kept from before: ${all.length > 1 ? "" : one.words}`);
    words.title = words.textContent;
    more.title = one?.words ?? "";
    ended.hidden = !one?.lost || Boolean(asked);
    setText(ended, one?.lost ? `What ran when it ended is lost: ${one.lost}` : "");
    const why = !alive(state) ? "This needs a running kernel" : busy(state) ? "Something is running: see above" : "";
    setOff(away, why, why);
    // The first measuring makes way for it: what is taken up was measured already.
    const makesWay = alive(state) && !state.shared.sent && (state.get("measured") ? "score" : "measure") === state.get("progress").command;
    setOff(takeUp, why && !makesWay, makesWay ? "Instead of measuring it once more" : why);
    setOff(notNow, !alive(state), why);
    setOff(discard, why || one?.held, why || one?.held);
  };
  more.addEventListener("change", paint);
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !asked) return;
    event.stopPropagation();
    ask("");
  });
  on("offers position progress measured kernel", () => {
    const left = offers()[0]?.run.startsWith("left");
    box.hidden = !offers().length || !alive(state) || (!left && state.get("position") > 0);
    const key = JSON.stringify(offers());
    if (more.dataset.options !== key) {
      const [chosen, before] = [more.value, [...more.options].map((one) => one.value)];
      more.replaceChildren(...offers().map((one) => h("option", { value: one.run }, one.words)));
      const news = offers().length > 0 && !before.includes(offers()[0].run); // what was just left comes first
      if (!news && offers().some((one) => one.run === chosen)) more.value = chosen;
      more.dataset.options = key;
    }
    paint();
  });
  return box;
}

// Why the session is not kept by itself, where that fails.
export function keptLine(state, on) {
  const line = h("div", { class: "wbw-unkept", "data-testid": "unkept" });
  on("kept", () => {
    line.hidden = !state.get("kept");
    setText(line, state.get("kept") ? `Not kept by itself, so save it now and then (Export…): ${state.get("kept")}` : "");
  });
  return line;
}

// The browser asks before a page goes on which something runs, or whose steps are not kept: its kernel may end
// with it.
export function askBeforeLeaving(state, on) {
  const ask = (event) => {
    const unkept = state.get("kept") && state.get("history").length > 1;
    if (!alive(state) || !(busy(state) || unkept)) return;
    event.preventDefault();
    event.returnValue = true;
  };
  window.addEventListener("beforeunload", ask);
  on.end(() => window.removeEventListener("beforeunload", ask));
}
