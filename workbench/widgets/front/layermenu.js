// The groups as a menu, for a workbench too narrow for a list beside the plots: the chosen one's row stands next to it.

import { h } from "./shared.js";
import { blocksOf } from "./blocks.js";

export function layerMenu(state, on, choose) {
  const menu = h("select", { class: "wbw-select", "data-testid": "layer-menu", "aria-label": "unit group", onchange: () => choose(menu.value) });
  const [before, after] = [-1, 1].map((step) => h("button", { type: "button", class: "wbw-button wbw-small wbw-icon", "data-testid": step < 0 ? "layer-before" : "layer-after", "aria-label": step < 0 ? "group before" : "next group", title: step < 0 ? "The group before" : "The next group",
    onclick: () => choose(menu.options[menu.selectedIndex + step]?.value) }, step < 0 ? "◂" : "▸"));
  const node = h("div", { class: "wbw-layer-menu" }, h("span", { class: "wbw-caption" }, "layer"), before, menu, after);
  on("layers", () => {
    const layers = state.get("layers") ?? [];
    const blocks = blocksOf(layers.map(({ name }) => name)).map(([outer = ""]) => outer);
    const option = (layer) => h("option", { value: layer.name }, `${layer.name}  ·  ${layer.width < layer.original ? `${layer.original} → ${layer.width}` : layer.width}${layer.prunable ? "" : ", not prunable"}`);
    const parts = [];
    let [block, into] = [null, null];
    layers.forEach((layer, i) => {
      if (blocks[i] !== block) {
        block = blocks[i];
        into = block ? h("optgroup", { label: block }) : null;
        if (into) parts.push(into);
      }
      if (into) into.append(option(layer));
      else parts.push(option(layer));
    });
    menu.replaceChildren(...parts);
  });
  on("layers selected", () => {
    menu.value = menu.title = state.get("selected");
    before.disabled = menu.selectedIndex <= 0;
    after.disabled = menu.selectedIndex >= menu.options.length - 1;
  });
  return node;
}
