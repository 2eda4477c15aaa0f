// Controls of several panels: entries, sliders and menus.

import { THIN, clamp, h, setText, setAttributes, update, arrowSteps } from "./shared.js";

// The text of a field that a drag changes many times a second: after each change of a value Chrome's autofill reads
// all fields of the page anew, which takes longer than all of a move of λ. So while changes follow one another the
// text stands in the placeholder, and becomes the value when they rest, or a hand comes.
const RESTS = 120; // milliseconds
function fleeting(node) {
  const placeholder = node.placeholder;
  let [late, timer, last] = [null, 0, -RESTS];
  const write = (text) => {
    clearTimeout(timer);
    if (late !== null) {
      node.placeholder = placeholder;
      node.classList.remove("wbw-fleeting");
    }
    late = null;
    if (node.value !== text) node.value = text;
  };
  const moving = (now) => now - last < RESTS || document.documentElement.matches(":active"); // a button is held
  const rest = () => late !== null && write(late);
  const look = () => (moving(performance.now()) ? wait() : rest());
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(look, RESTS);
  };
  for (const reach of ["focus", "pointerdown"]) node.addEventListener(reach, rest);
  return {
    now: () => late ?? node.value,
    write,
    paint: (text) => {
      const now = performance.now();
      const goesOn = moving(now);
      last = now;
      if (!goesOn || node.matches(":focus")) return write(text);
      if (late === null) {
        node.value = "";
        node.classList.add("wbw-fleeting");
      }
      node.placeholder = late = text;
      wait();
    },
  };
}

// A field to type into. What is typed stays until it is entered, by Enter or by leaving the field, and goes to
// the `owner` that it was typed for (the group, say) or nowhere. `enter(text)` carries it out; `shown()` is
// what stands there otherwise.
export function typedEntry(attributes, shown, enter, owner = () => "") {
  const node = h("input", attributes);
  let typedFor = null;
  const isTyped = () => typedFor !== null && typedFor === owner();
  const text = fleeting(node);
  const done = (event) => {
    if (event.type === "blur" && typedFor === null) return;
    const mine = typedFor === null || isTyped();
    typedFor = null;
    if (mine) enter(node.value.trim());
    text.write(shown());
  };
  node.addEventListener("input", () => (typedFor ??= owner()));
  node.addEventListener("change", done);
  // There is no change event where the text is what it was when the hand came.
  node.addEventListener("blur", done);
  node.paint = (value = shown()) => {
    if (isTyped()) return;
    typedFor = null;
    if (text.now() === String(value)) return;
    text.paint(String(value));
    // The caret would stand somewhere in the new number, and a digit be added to it instead of replacing it.
    if (node.matches(":focus")) node.select();
  };
  node.isTyped = isTyped;
  // What is being typed moves on to the field that takes this one's place.
  node.handOver = () => {
    const typed = isTyped() ? node.value : null;
    typedFor = null;
    return typed;
  };
  node.takeOver = (typed) => {
    typedFor = owner();
    node.focus({ preventScroll: true });
    node.value = ""; // so that the caret stands behind the text
    node.value = typed;
  };
  return node;
}

// Which end of what a group can have a typed width went past: its sign and number, "" for neither.
export const beyond = (wanted, m) => (wanted > m ? `≤${THIN}${m}` : wanted < 1 ? `≥${THIN}1` : "");

export function slider(testid, label, change, step, coarse) {
  const input = h("input", { type: "range", class: "wbw-slider", step: "any", "data-testid": testid, "aria-label": label,
    oninput: () => change(Number(input.value)) });
  input.addEventListener("keydown", (event) => {
    const steps = arrowSteps(event, coarse());
    if (!steps) return;
    input.value = clamp(Number(input.value) + steps * step, Number(input.min), Number(input.max)); // the next key may come before the next frame
    change(Number(input.value));
  });
  let painted = ""; // the same value is another part of another range
  input.paint = (low, high, value, text) => {
    const wanted = `${low} ${high} ${value} ${text}`;
    if (painted === wanted && Number(input.value) === value) return;
    painted = wanted;
    setAttributes(input, { min: low, max: high });
    input.setAttribute("aria-valuetext", text);
    input.value = value;
    input.style.setProperty("--wbw-part", `${(100 * (value - low)) / Math.max(high - low, 1e-9)}%`);
  };
  return input;
}

// `options`: [value, words, …, hint] each.
export function menu(state, trait, caption, label, options) {
  const node = h("select", { class: "wbw-select", "data-testid": trait, "aria-label": label, onchange: () => update(state, { [trait]: node.value }) },
    ...options.map(([value, text, ...more]) => h("option", { value, title: more.at(-1) || null }, text)));
  const hints = Object.fromEntries(options.map(([value, , ...more]) => [value, more.at(-1) ?? ""]));
  node.paint = (value) => {
    if (node.value !== value) node.value = value;
    node.title = hints[value] ?? "";
  };
  // An option that cannot be taken says why in its own words.
  node.off = (value, why) => {
    const option = [...node.options].find((one) => one.value === value);
    option.disabled = Boolean(why);
    setText(option, options.find(([one]) => one === value)[1] + (why ? ` (${why})` : ""));
  };
  return { node, label: h("label", { class: "wbw-menu" }, h("span", { class: "wbw-caption" }, caption), node) };
}
