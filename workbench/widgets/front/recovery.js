// Earlier sessions that may be taken up again, above the areas; and the question before a page is left.

import { h, setText, setOff, alive, busy, send } from "./shared.js";

// The newest offer in a line of its own, the others behind "Earlier". Nothing of it stays once steps are made.
export function offerBox(state, on) {
  const words = h("span", { class: "wbw-offer-words" });
  const ended = h("span", { class: "wbw-offer-lost" });
  const more = h("select", { class: "wbw-select", "data-testid": "offers", "aria-label": "earlier sessions" });
  const takeUp = h("button", { type: "button", class: "wbw-button wbw-small wbw-primary", "data-testid": "take-up",
    onclick: () => send(state, "take_up", { run: more.value }) }, "Take up again");
  const notNow = h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": "put-off",
    "data-hint": "It stays kept, and is offered the next time", onclick: () => send(state, "put_off") }, "Not now");
  const box = h("div", { class: "wbw-offer", role: "status", "data-testid": "offer" }, words, more, takeUp, notNow, ended);
  const offers = () => state.get("offers") ?? [];
  const say = () => {
    const one = offers().find((offer) => offer.run === more.value);
    setText(words, one ? `Kept from before: ${offers().length > 1 ? "" : one.words}` : "");
    words.title = words.textContent;
    more.title = one?.words ?? "";
    ended.hidden = !one?.lost;
    setText(ended, one?.lost ? `What ran when it ended is lost: ${one.lost}` : "");
  };
  more.addEventListener("change", say);
  on("offers position kernel", () => {
    const left = offers()[0]?.run.startsWith("left");
    box.hidden = !offers().length || !alive(state) || (!left && state.get("position") > 0);
    const key = JSON.stringify(offers());
    if (more.dataset.options !== key) {
      more.replaceChildren(...offers().map((one) => h("option", { value: one.run }, one.words)));
      more.dataset.options = key;
    }
    more.hidden = offers().length < 2;
    say();
  });
  on("progress measured kernel", () => {
    const why = !alive(state) ? "This needs a running kernel" : busy(state) ? "Something is running: see above" : "";
    setOff(takeUp, why, why);
    setOff(notNow, !alive(state), why);
  });
  return box;
}

// Why the session is not kept by itself, where that fails.
export function keptLine(state, on) {
  const line = h("div", { class: "wbw-unkept", role: "status", "data-testid": "unkept" });
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
