// Every plot as a file, SVG or PNG: two buttons at its corner while it is pointed at or has the focus. The file looks
// as the plot does on the screen in the light theme, whatever the theme is: what the style sheets say of each part is
// written into it, so that it needs nothing else.

import { h, s, layerOf, alive, update } from "./shared.js";

// What is inherited is written where it differs from the parent's, the rest where it differs from how SVG begins.
const INHERITED = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "paint-order",
  "font-family", "font-size", "font-weight", "font-style", "font-variant-numeric", "letter-spacing", "text-anchor", "visibility", "mix-blend-mode"];
const OWN = { opacity: "1", "dominant-baseline": "auto", "vector-effect": "none" };
const LIGHT = { "--jp-ui-font-color0": "#1a1a1a", "--jp-layout-color1": "#fff" }; // of JupyterLab's theme
const SHARPER = 2; // pixels of the PNG for one of the screen
const REST_MS = 200;
const OF_GROUP = ".wbw-spectrum"; // panels whose plots are of the selected group

const plainName = (text) => text.replace(/[^\p{L}\p{N}_.]+/gu, "-").replace(/^[-.]+|[-.]+$/g, "");

// As `svg` is drawn in the light theme, by itself: every element of `copy` gets the looks of its twin.
function dress(node, copy, above) {
  const looks = getComputedStyle(node);
  if (looks.display === "none") return copy.remove();
  const styles = INHERITED.map((name) => [name, looks.getPropertyValue(name), above?.getPropertyValue(name)])
    .concat(Object.entries(OWN).map(([name, first]) => [name, looks.getPropertyValue(name), first]))
    .filter(([, now, before]) => now && now !== before);
  for (const name of ["class", "tabindex", "role", "data-testid"]) copy.removeAttribute(name);
  if (styles.length) copy.setAttribute("style", styles.map(([name, now]) => `${name}: ${now}`).join("; "));
  const twins = [...copy.children]; // before any of them goes
  [...node.children].forEach((child, i) => dress(child, twins[i], looks));
}

export function plotFile(root, svg, title) {
  const size = svg.getBoundingClientRect();
  const copy = svg.cloneNode(true);
  const before = Object.keys(LIGHT).map((name) => [name, root.style.getPropertyValue(name)]);
  root.classList.add("wbw-light");
  for (const [name, value] of Object.entries(LIGHT)) root.style.setProperty(name, value);
  try {
    dress(svg, copy, null);
  } finally { // within one task: nothing of it is painted
    root.classList.remove("wbw-light");
    for (const [name, value] of before) value ? root.style.setProperty(name, value) : root.style.removeProperty(name);
  }
  const [left, top, width, height] = (copy.getAttribute("viewBox") ?? `0 0 ${size.width} ${size.height}`).split(" ");
  copy.prepend(s("title", {}, title), s("rect", { x: left, y: top, width, height, style: "fill: #fff; stroke: none" }));
  copy.setAttribute("width", size.width);
  copy.setAttribute("height", size.height);
  return new XMLSerializer().serializeToString(copy);
}

async function rastered(text, width, height) {
  const picture = new Image();
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await picture.decode();
  const canvas = h("canvas", { width: Math.round(SHARPER * width), height: Math.round(SHARPER * height) });
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function handOver(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// Shown where a pointer rests, and not by :hover: a style that the pointer changes as it takes hold of λ would be
// computed before the plot can be asked where it stands.
function showAtRest(holder) {
  let timer = 0;
  const later = (wait, over) => {
    clearTimeout(timer);
    timer = setTimeout(() => holder.classList.toggle("wbw-over", over), wait);
  };
  holder.addEventListener("pointerenter", (event) => event.buttons || later(REST_MS, true));
  holder.addEventListener("pointerleave", () => later(0, false));
  holder.addEventListener("pointerdown", (event) => event.target.closest("button") || later(0, false));
  holder.addEventListener("pointerup", () => later(REST_MS, true));
}

// The buttons of all plots in `root`.
export function plotFiles(state, root) {
  const save = async (holder, kind) => {
    const svg = holder.querySelector("svg");
    const group = holder.closest(OF_GROUP) ? layerOf(state)?.name : "";
    const parts = [state.get("name"), group, svg.dataset.plot ?? svg.getAttribute("aria-label") ?? "plot"].filter(Boolean);
    const name = `${parts.map(plainName).join("-")}.${kind}`;
    const text = plotFile(root, svg, parts.join(", "));
    const { width, height } = svg.getBoundingClientRect();
    handOver(kind === "svg" ? new Blob([text], { type: "image/svg+xml" }) : await rastered(text, width, height), name);
    if (alive(state)) update(state, { notice: `Saved as ${name}, where this browser puts downloads` });
  };
  for (const holder of root.querySelectorAll(".wbw-plot")) {
    const button = (kind) => h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": `save-${kind}`, "aria-label": `save this plot as ${kind.toUpperCase()}`,
      title: `This plot as a file, ${kind.toUpperCase()}`, onclick: () => save(holder, kind) }, kind.toUpperCase());
    showAtRest(holder);
    holder.append(h("div", { class: "wbw-plot-files" }, button("svg"), button("png")));
  }
}
