// Controls of several panels: sliders and menus, and the ways to prune that the menus offer.

const SELECTIONS = [["greedy", "greedy (spectral)"], ["leverage", "leverage sampling"], ["random", "random"],
  ["magnitude-l1", "magnitude, L1"], ["magnitude-l2", "magnitude, L2"], ["reader-l2", "reader's columns, L2"], ["apoz", "APoZ"], ["mean-activation", "mean activation"],
  ["taylor", "Taylor", "Activation × gradient of the loss; needs labels"]];
const RECONSTRUCTIONS = [
  ["channel", "Â, the paper's", "The reader takes the lost units' part through the kept ones"],
  ["kernel", "kernel: patches [beyond]", "Beyond the paper: least squares on the reader's patches, one pass over the calibration data at Try and Commit"],
  ["original", "original: against the unpruned network [beyond]", "Beyond the paper: least squares against the unpruned network's outputs, with a bias, one pass a reader at Try and Commit"],
  ["none", "none", "The kept units' weights stay as they are"]];
const FITTED = ["kernel", "original"]; // what the read-outs say of them is said of Â

function slider(testid, label, change, step, coarse) {
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

function menu(state, trait, caption, label, options) {
  const node = h("select", { class: "wbw-select", "data-testid": trait, "aria-label": label, onchange: () => update(state, { [trait]: node.value }) },
    ...options.map(([value, text, hint]) => h("option", { value, title: hint }, text)));
  const hints = Object.fromEntries(options.map(([value, , hint]) => [value, hint ?? ""]));
  node.paint = (value) => ((node.value = value), (node.title = hints[value] ?? ""));
  // An option that cannot be taken says why in its own words.
  node.off = (value, why) => {
    const option = [...node.options].find((one) => one.value === value);
    option.disabled = Boolean(why);
    setText(option, options.find(([one]) => one === value)[1] + (why ? ` (${why})` : ""));
  };
  return { node, label: h("label", { class: "wbw-menu" }, h("span", { class: "wbw-caption" }, caption), node) };
}
