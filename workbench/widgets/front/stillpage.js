// A session as a page of its own: every layer, one λ, widths and totals, the history and what the numbers are.

import { clamp, h, setText, score, subscriber, layerOf, eigenvaluesOf } from "./shared.js";
import { setName } from "./names.js";
import { suggestedWidth, traceOf } from "./math.js";
import { pathOf, stillState } from "./stillstate.js";
import { linkWidths } from "./stilllinks.js";
import { followTheme } from "./stillviews.js";
import { spectrumViews, titled } from "./spectrumviews.js";
import { layerList } from "./stilllayers.js";
import { staysLine, sizesLine } from "./stays.js";
import { choicePanel } from "./stillchoice.js";
import { unitStrip } from "./unitstrip.js";
import { budgetPanel, totals } from "./stillbudget.js";
import { historyPanel } from "./stillhistory.js";
import { termList } from "./stillterms.js";

const section = (name, title, ...parts) => h("section", { class: `wbw-still-section wbw-still-${name}`, "aria-label": title }, ...parts);

// What the network has, with the widths that stand below; and its score, which only Python can find anew.
function meters(state, on) {
  const steps = state.get("history");
  const now = steps[state.get("position")];
  const found = now.score !== null && state.get("metric")
    ? h("div", { class: "wbw-still-total", "data-testid": "meter-score" }, h("span", { class: "wbw-still-number" }, score(now.score)),
      h("div", { class: "wbw-bar" }, h("span", { class: "wbw-bar-fill", style: `width: ${clamp(100 * now.score, 0, 100)}%` })),
      h("span", { class: "wbw-still-caption" }, `${state.get("metric")}, ${state.get("position") ? "as committed" : "unpruned"}`))
    : null;
  return h("div", { class: "wbw-still-meters" }, ...totals(state, on), found);
}

function layerSection(state, on) {
  const plots = spectrumViews(state, on);
  const units = unitStrip(state, on, (layer) => pathOf(state, layer)?.order ?? null, "curve width");
  const [name, chip, why] = [h("span", { class: "wbw-name" }), h("span", { class: "wbw-chip" }), h("p", { class: "wbw-still-note" })];
  const losses = titled("Relative loss over width", plots.losses);
  const body = h("div", { class: "wbw-still-plots" }, plots.spectrum,
    h("div", { class: "wbw-pair" }, titled("Degrees of freedom N(λ)", plots.freedom), losses));
  const strip = h("div", { class: "wbw-still-strip" }, h("h4", {}, "Units that stay", units.words), units.holder);
  on("selected", () => {
    const layer = layerOf(state);
    setName(name, layer?.name);
    setText(chip, layer?.stale ?? "");
    chip.hidden = !layer?.stale;
    body.hidden = !layer?.count;
    strip.hidden = losses.hidden = !layer?.paths;
    setText(why, layer && !layer.prunable ? `${layer.name} is not prunable: ${layer.why_not}` : layer?.count ? "" : "Nothing is measured here.");
    why.hidden = !why.textContent;
  });
  return section("layer", "one layer",
    h("div", { class: "wbw-still-list" }, h("h3", {}, "Layers"), layerList(state, on), staysLine(state, on), sizesLine(state, on)),
    h("div", { class: "wbw-still-view" }, h("h3", {}, "Spectrum of ", name, chip), why, body),
    h("div", { class: "wbw-still-side" }, h("h3", {}, "Choice"), choicePanel(state, on)), strip);
}

export function showPage(values, root) {
  const state = stillState(values);
  const { on, watch } = subscriber(state);
  watch(root);
  followTheme(document.documentElement);
  root.classList.add("wbw-root", "wbw-still", "wbw-still-page");
  const eigenvalues = eigenvaluesOf(state);
  if (traceOf(eigenvalues) > 0) state.set({ width: suggestedWidth(eigenvalues, state.get("lam") * traceOf(eigenvalues)) });
  linkWidths(state);
  root.append(
    h("header", { class: "wbw-still-header" }, h("div", {}, h("h1", {}, values.title), h("p", {}, values.about)), meters(state, on)),
    layerSection(state, on),
    section("all", "all layers", h("h3", {}, "All layers"), budgetPanel(state, on)));
  if (values.history.length > 1) root.append(section("steps", "history", h("h3", {}, "History"), historyPanel(state, on)));
  root.append(section("terms", "what the numbers are", h("h3", {}, "What the numbers are"), termList(values.glossary)));
  root.append(h("footer", { class: "wbw-still-footer" }, h("p", {}, values.how)));
  return state;
}
