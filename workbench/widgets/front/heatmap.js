// The sensitivity map: rows are groups, columns shares of the width kept; the stronger the colour, the more harm.

import { TERM_OF } from "./constants.js";
import { THIN, h, percent, trimmed } from "./shared.js";
import { setName } from "./names.js";

const TOO_WIDE = 9.995; // of a change, above which a cell has no room for it
const share2 = (value) => (value > TOO_WIDE ? ">999%" : value < 0.0005 ? "<.1%" : `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)}${THIN}%`);
const nats = (value) => (value < 0.0005 ? "<.001" : value.toFixed(value < 0.9995 ? 3 : value < 99.5 ? 1 : 0));

// By kind: what it is called, its text in a cell, and how much harm a value is, of the most (`worst`) and the least.
export const HEATS = {
  scores: { text: "score", term: "score", cell: (value) => value.toFixed(3), harm: (value, answer, { low, high }) => (high - value) / (high - low) },
  changes: { text: "change of outputs", term: TERM_OF.damage, cell: share2, harm: (value, answer, { high }) => Math.min(value, 1) / Math.min(high, 1) },
  divergences: { text: "divergence, nats", term: "divergence", cell: nats, harm: (value, answer, { high }) => value / high },
  losses: { text: "output loss", term: "output loss", cell: share2, harm: (value, answer, { high }) => value / high },
};
export const hasKind = (answer, kind) => Boolean(answer[kind]?.some((row) => row.some((value) => value !== null)));

function rangeOf(answer, kind) {
  const flat = answer[kind].flat().filter((value) => value !== null);
  const start = kind === "scores" && answer.unpruned !== null ? [answer.unpruned] : [];
  return { low: Math.min(...flat), high: Math.max(...flat, ...start) };
}

// Between the shares where dark words and where light ones can be read there is a step in the colour.
const mixed = (harm) => Math.round(100 * (harm < 0.6 ? harm : 0.72 + 0.7 * (harm - 0.6)));

// `use(name, width)`: what pressing a cell does.
export function heatMap(answer, kind, use) {
  const { cell, harm } = HEATS[kind];
  const range = rangeOf(answer, kind);
  const paint = (value, name, i, j) => {
    if (value === null) return h("span", { class: "wbw-heat", "data-testid": "heat" }, "–");
    const part = range.high > range.low ? Math.min(Math.max(harm(value, answer, range), 0), 1) : 0;
    const words = kind === "changes" || kind === "losses" ? percent(value) : String(value);
    const looks = { class: `wbw-heat${part < 0.6 ? "" : " wbw-heat-strong"}`, style: `--wbw-heat: ${mixed(part)}%`, "data-testid": "heat", "data-harm": part.toFixed(3) };
    const width = answer.widths?.[i][j];
    if (!width) return h("span", { ...looks, title: words }, cell(value));
    const label = `${name} at ${width} ${width === 1 ? "unit" : "units"}: ${HEATS[kind].text} ${words}`;
    return h("button", { ...looks, type: "button", "data-cell": `${name} ${answer.shares[j]}`, "data-name": name, "data-width": width, "aria-label": `${label}; set this width in the Budget`, title: `${label}. Press: this width in the Budget`, onclick: () => use(name, width) }, cell(value));
  };
  const columns = `--wbw-heat-columns: ${answer.shares.length}`;
  const head = h("li", { class: "wbw-heat-row wbw-steps-head", style: columns }, h("span", {}, "kept, alone"),
    ...answer.shares.map((one) => h("span", { class: "wbw-cell", title: trimmed(percent(one)) }, `${Math.round(100 * one)}${THIN}%`)));
  const [least, most] = kind === "scores" ? [range.high, range.low] : [range.low, range.high];
  const legend = h("li", { class: "wbw-heat-legend", "data-testid": "heat-legend" }, h("span", { class: "wbw-heat-hint", title: "A cell's width goes into the Budget" }, answer.widths ? "press a cell to set it" : ""), h("span", {}, `harmless: ${cell(least)}`), h("span", { class: "wbw-heat-scale" }), h("span", {}, `${cell(most)}: harmful`));
  return [head, ...answer.groups.map((name, i) => {
    const title = h("span", { class: "wbw-name" });
    setName(title, name);
    return h("li", { class: "wbw-heat-row", style: columns }, title, ...answer[kind][i].map((value, j) => paint(value, name, i, j)));
  }), legend];
}
