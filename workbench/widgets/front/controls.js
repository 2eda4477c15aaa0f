// Controls of several panels: sliders and menus.

import { clamp, h, setText, setAttributes, update, arrowSteps } from "./shared.js";

export function slider(testid, label, change, step, coarse) {
  const input = h("input", { type: "range", class: "wbw-slider", step: "any", "data-testid": testid, "aria-label": label,
    oninput: () => change(Number(input.value)) });
  input.addEventListener("keydown", (event) => {
    const steps = arrowSteps(event, coarse());
    if (!steps) return;
    input.value = clamp(Number(input.value) + steps * step, Number(input.min), Number(input.max)); // the next key may come before the next frame
    change(Number(input.value));
  });
  input.paint = (low, high, value, text) => {
    if (input.min !== String(low) || input.max !== String(high)) setAttributes(input, { min: low, max: high });
    if (Number(input.value) === value && input.getAttribute("aria-valuetext") === text) return;
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
  node.paint = (value) => ((node.value = value), (node.title = hints[value] ?? ""));
  // An option that cannot be taken says why in its own words.
  node.off = (value, why) => {
    const option = [...node.options].find((one) => one.value === value);
    option.disabled = Boolean(why);
    setText(option, options.find(([one]) => one === value)[1] + (why ? ` (${why})` : ""));
  };
  return { node, label: h("label", { class: "wbw-menu" }, h("span", { class: "wbw-caption" }, caption), node) };
}
