// Names where there may be no room for them: of groups and of steps, with the whole on hover.

import { h } from "./shared.js";

// A name that is cut where there is no room for it: whole numbers between dots and its end stay, since they
// tell 'encoder.layers.28.linear1' from its neighbours.
// Where that end alone is too long, it is cut at its start. `whole` is what stands in the hint, and what a name below
// its block's is the end of.
export function setName(node, text = "", whole = text) {
  node.title = whole;
  if (node.dataset.name === text) return;
  node.dataset.name = text;
  const dot = text.lastIndexOf(".");
  const end = dot > 0 ? dot : text.length > 16 ? text.length - 8 : text.length;
  const parts = text.slice(0, end).split(/((?:^|\.)\d+(?=\.|$))/).filter(Boolean);
  const flexible = parts.map((part) => h("span", { class: /^\.?\d+$/.test(part) ? null : "wbw-bends" }, part));
  const rest = text.slice(end);
  node.classList.add("wbw-cut");
  node.replaceChildren(...flexible, ...(rest ? [h("span", { class: "wbw-end" }, h("bdi", {}, rest))] : []));
}

// The name of a step is cut at its end: in its middle, numbers would run together. Of a group's step the group's
// name bends, and what was done to it stays.
export function setStep(node, text) {
  const [, group, widths] = text.match(/^(\S+)( \d+ → .*)$/) ?? [];
  setName(node, group);
  node.classList.toggle("wbw-cut", Boolean(group));
  if (group) node.append(h("span", {}, widths));
  else node.textContent = text;
  node.dataset.name = node.title = text;
}
