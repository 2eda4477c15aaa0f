// All groups of a page: the width of each with what it costs and loses, and the totals, original → with these widths.

import { costAt } from "./cost.js";
import { h, setText, count, percent } from "./shared.js";
import { layersOf, widthsOf, budgetList } from "./budgetrows.js";
import { setOne } from "./stilllinks.js";
import { pathOf } from "./stillstate.js";

function totalBar(name, caption) {
  const value = h("span", { class: "wbw-still-number", "data-testid": `total-${name}` });
  const share = h("span", { "data-testid": `share-${name}` });
  const bar = h("span", { class: "wbw-bar-fill" });
  const node = h("div", { class: "wbw-still-total" },
    value, h("div", { class: "wbw-bar" }, bar), h("span", { class: "wbw-still-caption" }, `${caption}: `, share));
  return { node, paint: (original, planned) => {
    setText(value, `${count(original)} → ${count(planned)}`);
    value.dataset.value = planned;
    setText(share, `${percent(planned / original)}`);
    bar.style.width = `${(100 * planned) / original}%`;
  } };
}

// Parameters and MACs of the whole network.
export function totals(state, on) {
  const bars = [totalBar("parameters", "parameters"), totalBar("macs", "MACs")];
  on("widths", () => {
    const { original } = state.get("budget");
    const total = costAt(state.get("budget"), widthsOf(state));
    bars[0].paint(original[0], total.parameters);
    bars[1].paint(original[1], total.macs);
  });
  return bars.map((one) => one.node);
}

export function budgetPanel(state, on) {
  const outputs = () => layersOf(state).map((layer) => pathOf(state, layer)?.output);
  const rows = budgetList(state, on, (index, width) => setOne(state, index, width), { lossesNow: outputs, limit: Infinity });
  const node = h("div", { class: "wbw-still-budget" }, rows.list);
  let seen = true; // what nobody sees is not painted while λ is dragged
  const paint = () => {
    if (!seen || !rows.filled()) return;
    const widths = widthsOf(state);
    rows.paint(widths, costAt(state.get("budget"), widths));
  };
  const observer = new IntersectionObserver(([one]) => ((seen = one.isIntersecting), paint()), { rootMargin: "60px" });
  observer.observe(node);
  on.end(() => observer.disconnect());
  rows.built = paint;
  on("widths budget_lam", paint);
  return node;
}
