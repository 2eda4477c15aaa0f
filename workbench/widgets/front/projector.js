// The projector mode, a view's own: larger type, and on the tab Layer one plot over the whole width. Its button and
// Escape leave it, wherever the focus is.

import { h, s } from "./shared.js";

const TIMES_LARGER = 1.5;
const PROJECTED_PLOTS = [["spectrum", "Spectrum"], ["freedom", "N(λ)"], ["losses", "Losses"]];

export function projectorMode(state, root, on, refit) {
  const paint = () => {
    root.classList.toggle("wbw-projected", state.projected);
    root.style.zoom = state.projected ? String(TIMES_LARGER) : "";
    refit();
  };
  const escape = (event) => event.key === "Escape" && state.projected && !event.defaultPrevented && project(state, false);
  document.addEventListener("keydown", escape);
  on.end(() => document.removeEventListener("keydown", escape));
  on("projected", paint);
}
export function project(state, wanted = !state.projected) {
  state.projected = wanted;
  state.trigger("change:projected");
}

export function projectorButton(state, on) {
  const screen = s("svg", { width: 16, height: 14, viewBox: "0 0 16 14", "aria-hidden": "true" }, s("path", { d: "M1 1.5H15M2 1.5V9.5H14V1.5M8 9.5V11L5 13.5M8 11L11 13.5", fill: "none", stroke: "currentColor", "stroke-width": 1.5 }));
  const button = h("button", { type: "button", class: "wbw-button wbw-small wbw-icon", "data-testid": "projector", "aria-label": "projector: larger type", onclick: () => project(state) }, screen);
  on("projected", () => {
    button.setAttribute("aria-pressed", state.projected);
    button.title = state.projected ? "Leave the projector's view: back to all panels (Escape)" : "For a projector: larger type, and one plot over the whole width";
  });
  return button;
}

// Which plot fills the width; the panel shows the others too where nothing is projected.
export function plotChoice(state, on, body) {
  const buttons = PROJECTED_PLOTS.map(([name, text]) => h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": `plot-${name}`, onclick: () => ((state.plot = name), state.trigger("change:projected")) }, text));
  on("projected", () => {
    body.dataset.plot = state.plot;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", PROJECTED_PLOTS[i][0] === state.plot));
  });
  return h("div", { class: "wbw-plot-choice", role: "group", "aria-label": "plot shown" }, ...buttons);
}
