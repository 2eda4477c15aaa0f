// The tour: six steps over the real elements, offered once to who comes for the first time, started again from the
// header. It blocks nothing, and whoever does something else meanwhile finds it where it was.

import { h, setText, setAttributes, clamp, alive, busy, focusIn, update } from "./shared.js";
import { told } from "./telling.js";

const STOPS = [
  ["Load", "model-select", "Begin with an example of this menu, or press Load… for a network and data of your own. The groups of units are found and measured at once."],
  ["The spectrum", "spectrum-plot", "Each bar is an eigenvalue: a direction of what the layer's units say on the data. Where they fall steeply, few units carry most. Other layers stand in the list."],
  ["λ", "lam-line", "Drag this line, or use the arrow keys. Each bar is filled by the share of it that λ keeps; the filled area below is N(λ), how many units the layer needs."],
  ["The width", "width-input", "So many units are kept. The width follows N(λ), or you type one; the numbers below say what is lost and saved, and each has a ? that explains it."],
  ["Commit", "commit", "Try scores the choice and keeps nothing. Commit makes the network smaller: a step of the history, with its score and cost."],
  ["Undo", "undo", "Takes the last commit back, to the last digit. In the history below you go back to any step, and branches keep several ways."],
];
const SEEN = "wbw-tour-seen";
const YEAR = 31_536_000; // seconds
const TIP_GAP = 10; // pixels between what is shown and the words
const TOURS = new WeakMap(); // of a view's state
let seenHere = false; // where the browser remembers nothing

// A server takes another port each time, and with it another storage: cookies are the same at all of them. Either may
// be refused.
function isSeen() {
  const remembers = [() => localStorage.getItem(SEEN), () => document.cookie.includes(`${SEEN}=1`)];
  return seenHere || remembers.some((ask) => {
    try {
      return Boolean(ask());
    } catch {
      return false;
    }
  });
}
function remember() {
  seenHere = true;
  for (const keep of [() => localStorage.setItem(SEEN, "1"), () => (document.cookie = `${SEEN}=1; path=/; max-age=${YEAR}; samesite=lax`)]) {
    try {
      keep();
    } catch {
      // Then the page alone remembers it.
    }
  }
}

export const tourButton = (state) =>
  h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": "tour", title: "The workbench in six steps, at the real thing", onclick: () => TOURS.get(state)?.start() }, "Tour");

// The question whether one likes a tour: at the first visit, and when nothing runs.
export function tourOffer(state, on) {
  const away = () => (box.hidden = true);
  const button = (testid, text, onclick) => h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": testid, onclick }, text);
  const box = h("div", { class: "wbw-tour-offer", "data-testid": "tour-offer", hidden: true }, h("span", { class: "wbw-caption" }, "First time here?"),
    button("tour-take", "Six-step tour", () => (away(), TOURS.get(state)?.start())), button("tour-leave", "No, thanks", away));
  let open = !isSeen();
  on("measured progress position kernel", () => {
    const ready = state.get("measured") && !busy(state) && alive(state);
    if (open && ready) {
      open = false;
      box.hidden = isSeen();
      remember();
    } else if (state.get("position") > 0) away(); // whoever has committed needs none
  });
  return box;
}

// The words of a step below what it shows where there is room, else above it, else over its lower end; inside `home`.
// `first`: above, where what they speak of lies below.
function placeWords(card, box, home, first) {
  const { offsetWidth: width, offsetHeight: height } = card;
  const low = Math.min(home.bottom, Math.max(innerHeight, home.top + height));
  const below = box.bottom + TIP_GAP + height <= low;
  const above = box.top - TIP_GAP - height >= home.top;
  const top = below && !(first && above) ? box.bottom + TIP_GAP : above ? box.top - TIP_GAP - height : box.bottom - height;
  const left = clamp(box.left + box.width / 2 - width / 2 - home.left, 8, Math.max(home.width - width - 8, 8));
  Object.assign(card.style, { left: `${left}px`, top: `${clamp(top - home.top, 0, Math.max(home.height - height, 0))}px` });
}

// What is drawn over `root` while the tour goes on.
export function mountTour(state, on, root) {
  const title = h("strong", {});
  const count = h("span", { class: "wbw-caption" });
  const words = told(state, on, h("p", {}));
  const button = (testid, text, onclick, kind = "") => h("button", { type: "button", class: `wbw-button ${kind}`, "data-testid": testid, onclick }, text);
  const back = button("tour-back", "Back", () => go(at - 1));
  const next = button("tour-next", "Next", () => (at === STOPS.length - 1 ? end() : go(at + 1)), "wbw-primary");
  const card = h("div", { class: "wbw-tour", role: "dialog", "aria-label": "tour", "data-testid": "tour-card", hidden: true },
    h("div", { class: "wbw-tour-head" }, title, count), words, h("div", { class: "wbw-tour-deeds" }, button("tour-end", "End the tour", () => end()), back, next));
  const ring = h("div", { class: "wbw-tour-ring", hidden: true, "aria-hidden": "true" });
  let [at, from] = [-1, null];

  const place = () => {
    if (at < 0) return;
    const target = root.querySelector(`[data-testid="${STOPS[at][1]}"]`);
    const shown = Boolean(target?.checkVisibility());
    const [home, box] = [root.getBoundingClientRect(), (shown ? target.querySelector(".wbw-grip") ?? target : root.firstChild.firstChild).getBoundingClientRect()];
    const whole = STOPS[at][1] === "spectrum-plot" ? target.getBoundingClientRect() : box;
    ring.hidden = !shown;
    Object.assign(ring.style, { left: `${whole.left - home.left - 4}px`, top: `${whole.top - home.top - 4}px`, width: `${whole.width + 8}px`, height: `${whole.height + 8}px` });
    placeWords(card, whole, home, ["lam-line", "width-input"].includes(STOPS[at][1]));
  };
  const go = (step) => {
    at = clamp(step, 0, STOPS.length - 1);
    setText(title, STOPS[at][0]);
    setText(count, `${at + 1} of ${STOPS.length}`);
    setText(words, STOPS[at][2]);
    card.setAttribute("aria-label", `tour, step ${at + 1} of ${STOPS.length}: ${STOPS[at][0]}`);
    setAttributes(back, { "aria-disabled": at === 0 });
    setText(next, at === STOPS.length - 1 ? "Done" : "Next");
    card.hidden = false;
    root.querySelector(`[data-testid="${STOPS[at][1]}"]`)?.scrollIntoView({ block: "nearest" });
    place();
    card.scrollIntoView({ block: "nearest" });
    next.focus({ preventScroll: true });
  };
  const end = () => {
    at = -1;
    const held = card.contains(focusIn(card));
    card.hidden = ring.hidden = true;
    if (held) (from?.checkVisibility() ? from : root.querySelector('[data-testid="tour"]')).focus({ preventScroll: true });
  };
  card.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    end();
  });
  const observer = new ResizeObserver(place);
  observer.observe(root);
  on.end(() => observer.disconnect());
  on("tab selected lam measured", () => at >= 0 && requestAnimationFrame(place));
  TOURS.set(state, { start: () => {
    from = focusIn(root);
    remember();
    update(state, { tab: "layer" });
    go(0);
  } });
  root.append(ring, card);
}
