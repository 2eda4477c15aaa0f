// The state of a page without a kernel: the model's methods on a plain object, and the answers that a kernel would
// give, from what was computed when the page was written.

import { RECONSTRUCTIONS, REQUEST, SELECTIONS } from "./constants.js";
import { layerOf, requestOf } from "./shared.js";

const ARRAYS = { f8: Float64Array, f4: Float32Array, u2: Uint16Array };

// "f8:…": numbers of that kind, little-endian as every machine that has a browser, in base 64.
export function unpacked(text) {
  const bytes = Uint8Array.from(atob(text.slice(3)), (letter) => letter.charCodeAt(0));
  return new ARRAYS[text.slice(0, 2)](bytes.buffer);
}

const AT_FIRST = {
  progress: {}, error: "", error_at: "", preview: {}, curve: null,
  follow: true, selection: SELECTIONS[0][0], reconstruction: RECONSTRUCTIONS[0][0], reestimate: false, revision: 0, locks: [], widths: {},
  history: [], branches: [], branch: "", budget: {}, cost_axis: "macs", position: 0, metric: "",
};

// `values`: the traits that the page was written with; spectra and paths are packed.
export function stillState(values) {
  const held = { ...AT_FIRST, ...values, spectra: unpacked(values.spectra) };
  const heard = new Map();
  const state = {
    comm_live: false,
    shared: { sent: false, timer: 0 },
    get: (name) => held[name],
    set(name, value) {
      const given = typeof name === "string" ? { [name]: value } : name;
      const changed = Object.keys(given).filter((key) => held[key] !== given[key]);
      for (const key of changed) held[key] = given[key];
      for (const key of changed) state.trigger(`change:${key}`);
    },
    on: (names, hear) => names.split(" ").forEach((name) => heard.set(name, [...(heard.get(name) ?? []), hear])),
    off: (names, hear) => names.split(" ").forEach((name) => heard.set(name, (heard.get(name) ?? []).filter((one) => one !== hear))),
    trigger: (name) => (heard.get(name) ?? []).forEach((hear) => hear()),
    save_changes: () => {},
    send: () => {},
  };
  answerFromPaths(state);
  return state;
}

// ---- paths: which units are taken at some λs, and what is lost then ---------------------------------------
const PATHS = new WeakMap(); // of a layer, unpacked when first asked for

function pathsOf(layer) {
  if (!PATHS.has(layer)) {
    let from = 0;
    const [orders, inputs, outputs] = ["order", "input", "output"].map((key) => unpacked(layer.paths[key]));
    PATHS.set(layer, layer.paths.lams.map((lam, i) => {
      const size = layer.paths.sizes[i];
      const losses = [from + i, from + i + size + 1]; // a path of k units has k + 1 losses
      const path = { lam, width: layer.paths.widths[i], order: orders.subarray(from, from + size), input: inputs.subarray(...losses), output: outputs.subarray(...losses) };
      from += size;
      return path;
    }));
  }
  return PATHS.get(layer);
}

// The path at the λ next to the present one, by its logarithm; null where nothing was computed.
export function pathOf(state, layer = layerOf(state)) {
  if (!layer?.paths) return null;
  const far = (path) => Math.abs(Math.log(path.lam / state.get("lam")));
  return pathsOf(layer).reduce((best, path) => (far(path) < far(best) ? path : best));
}

// The path as the curve's four rows: widths, input, output and combined loss.
function curveOf(path, theta) {
  if (!path.curve) {
    const n = path.input.length;
    path.curve = new Float64Array(4 * n);
    for (let k = 0; k < n; k++) {
      path.curve[k] = k;
      path.curve[n + k] = path.input[k];
      path.curve[2 * n + k] = path.output[k];
      path.curve[3 * n + k] = theta * path.input[k] + (1 - theta) * path.output[k];
    }
  }
  return path.curve;
}

function answerFromPaths(state) {
  const answer = () => {
    const path = pathOf(state);
    if (!path) return;
    const curve = curveOf(path, state.get("theta"));
    const n = path.input.length;
    const width = state.get("width");
    const at = (row) => (width < n ? curve[row * n + width] : null);
    const output = at(2);
    state.set({ curve, preview: { request: requestOf(state), input_loss: at(1), output_loss: output, combined_loss: at(3),
      predicted_error: output === null ? null : Math.sqrt(output) } });
  };
  ["selected", ...REQUEST].forEach((name) => state.on(`change:${name}`, answer));
  answer();
}

// Whether what is shown was computed at the present λ and width themselves.
export const isExact = (state, path) => path.width === state.get("width") && Math.abs(path.lam / state.get("lam") - 1) < 1e-9;
