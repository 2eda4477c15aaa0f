// The network as a picture: a box where a group begins, small ones where other layers write into it, and lines from
// writers to readers, through the joints where numbers are added, multiplied or put side by side.

import { THIN, clamp, h, s, setText, setAttributes, focusIn, layerOf, alive, update, errorBox } from "./shared.js";
import { chooseGroup } from "./choosing.js";
import { layOut, inLines, pathThrough } from "./layering.js";

const SIZES = { group: [176, 44], writer: [150, 24], plain: [150, 24], input: [52, 24], output: [58, 24] };
const JOINT = [20, 20];
const JOINTS = { add: ["+", "added up"], gate: ["×", "multiplied, one number with one"], concat: ["‖", "put side by side"], product: ["∙", "multiplied as matrices, as in attention"], meet: ["∘", "brought together"] };
const STRAIGHT = { stream: 8, read: 2 }; // how much a line wants to be short
const ZOOMS = [1.3, 1.15, 1, 0.85, 0.7, 0.6, 0.5, 0.4, 0.32, 0.25, 0.2, 0.16, 0.12];
const LEGIBLE = 0.85;
const KINDS_SHOWN = [["stream", "stream, added up"], ["gate", "gate"], ["concat", "side by side"]];

const sizeOf = ([kind]) => SIZES[kind] ?? JOINT;
const LETTERS = 20; // of a name in a box

// The end of a name, which tells it from its neighbours, in whole parts where they fit; with the last number before it,
// that of a block.
function endOf(name) {
  if (name.length <= LETTERS) return name;
  const parts = name.split(".");
  let end = parts.pop();
  while (parts.length && `${parts.at(-1)}.${end}`.length < LETTERS) end = `${parts.pop()}.${end}`;
  const block = /^\d+\./.test(end) ? "" : parts.findLast((part) => /^\d+$/.test(part)) ?? "";
  if (!block) return `…${end.slice(1 - LETTERS)}`;
  while (end.includes(".") && block.length + end.length + 2 > LETTERS) end = end.slice(end.indexOf(".") + 1);
  return `…${block}…${end.slice(2 + block.length - LETTERS)}`;
}
const isBox = ([kind]) => kind === "group" || kind === "writer" || kind === "plain";
const percentOf = (layer) => `${Math.round((100 * layer.width) / layer.original)}${THIN}%`;

function hintOf([kind, module, group], layer) {
  if (!layer) return module ? `${module}: in no group` : (JOINTS[kind]?.[1] ?? kind);
  const what = `${layer.kind}, ${layer.width} of ${layer.original} ${layer.unit} kept`;
  const role = kind === "writer" ? `${module} writes into ${group}: ` : `${group}: `;
  return `${role}${what}${layer.prunable ? "" : `; not prunable: ${layer.why_not}`}`;
}

function boxNode(state, [kind, module, group]) {
  if (!isBox([kind])) {
    return h("span", { class: `wbw-net-node wbw-net-${JOINTS[kind] ? `joint wbw-net-${kind}` : "end"}`, title: hintOf([kind, module]), "data-kind": kind }, JOINTS[kind]?.[0] ?? kind);
  }
  const name = h("span", { class: "wbw-name" }, endOf(kind === "group" ? group : module));
  const widths = kind === "group" ? h("span", { class: "wbw-net-widths" }) : null;
  const node = h("button", { type: "button", class: `wbw-net-node wbw-net-box wbw-net-${kind}`, tabindex: -1, "data-group": group, "data-kind": kind,
    "data-testid": kind === "group" ? `net-${group}` : "net-writer" }, name, widths);
  return Object.assign(node, { widths });
}

// The edges from the writers of a group up to its readers.
function tiesOf({ nodes, edges }, group) {
  const found = new Set();
  const reached = new Set(nodes.flatMap((node, i) => (isBox(node) && node[2] === group ? [i] : [])));
  const own = new Set(reached);
  for (let grown = -1; grown < found.size;) {
    grown = found.size;
    edges.forEach(([from, to], i) => {
      if (!reached.has(from) || (isBox(nodes[from]) && !own.has(from))) return;
      found.add(i);
      if (!isBox(nodes[to])) reached.add(to);
    });
    if (grown === found.size) break;
  }
  return found;
}

// All of the picture at one zoom, in `sheet`; its boxes and edges by their numbers.
function drawLines(state, sheet, network, places, zoom, room) {
  const sizes = network.nodes.map(sizeOf);
  const lines = inLines(places, sizes, Math.max(room.width / zoom, 240));
  const [boxes, edges] = [new Map(), new Map()];
  let [top, widest] = [0, 0];
  const drawn = lines.map((line) => {
    const [width, height] = [line.right - line.left, line.bottom - line.top];
    const paths = line.edges.map((i) => {
      const path = s("path", { class: `wbw-net-edge wbw-net-${network.edges[i][2]}`, d: pathThrough(places.edges[i]), "data-from": network.edges[i][0], "data-to": network.edges[i][1] });
      edges.set(i, [...(edges.get(i) ?? []), path]);
      return path;
    });
    const svg = s("svg", { class: "wbw-net-lines", width, height, viewBox: `${line.left} ${line.top} ${width} ${height}`, "aria-hidden": "true" }, ...paths);
    const nodes = line.nodes.map((i) => {
      const node = boxNode(state, network.nodes[i]);
      const [[x, y], [w, tall]] = [places.nodes[i], sizes[i]];
      node.style.cssText = `left:${(x - w / 2 - line.left).toFixed(1)}px;top:${(y - tall / 2 - line.top).toFixed(1)}px;width:${w}px;height:${tall}px`;
      node.dataset.number = i;
      boxes.set(i, node);
      return node;
    });
    const place = h("div", { class: "wbw-net-line", style: `top:${top.toFixed(1)}px;width:${width.toFixed(1)}px;height:${height.toFixed(1)}px` }, svg, ...nodes);
    top += height + 10;
    widest = Math.max(widest, width);
    return place;
  });
  sheet.replaceChildren(...drawn);
  setAttributes(sheet, { style: `--wbw-zoom:${zoom};width:${widest.toFixed(0)}px;height:${top.toFixed(0)}px` });
  setAttributes(sheet.parentNode, { style: `width:${(widest * zoom).toFixed(0)}px;height:${(top * zoom).toFixed(0)}px` });
  return { boxes, edges };
}

// The zoom at which all of it stands in the room, in the fewest lines that can be read; where all of it is too small
// to read, `LEGIBLE`, unless the whole is wanted.
function fitting(network, places, room, whole) {
  const found = ZOOMS.map((zoom) => {
    const lines = inLines(places, network.nodes.map(sizeOf), room.width / zoom);
    return { zoom, count: lines.length, height: zoom * lines.reduce((sum, line) => sum + line.bottom - line.top + 10, 0) };
  }).filter(({ height }) => height <= room.height);
  const read = found.filter(({ zoom }) => zoom >= LEGIBLE);
  const fewest = Math.min(...read.map(({ count }) => count));
  return read.find(({ count }) => count === fewest)?.zoom ?? (whole ? (found[0]?.zoom ?? ZOOMS.at(-1)) : LEGIBLE);
}

export function drawNetwork(state, el, on) {
  const sub = h("span", { class: "wbw-sub", "data-testid": "net-words" });
  const key = h("span", { class: "wbw-net-key" });
  const button = (testid, text, hint, onclick) => h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": testid, title: hint, onclick }, text);
  const open = button("net-open", "Open on Layer", "The chosen group on the Layer tab (Enter on its box)", () => update(state, { tab: "layer" }));
  const tools = h("span", { class: "wbw-net-tools" }, open,
    button("net-smaller", "−", "Smaller", () => step(1)), button("net-larger", "+", "Larger", () => step(-1)), button("net-fit", "Fit", "All of it at once", () => zoomTo("fit")));
  const sheet = h("div", { class: "wbw-net-sheet" });
  const scroller = h("div", { class: "wbw-net-scroller", role: "group", "aria-label": "the network from input to output", "data-testid": "net" }, h("div", { class: "wbw-net-paper" }, sheet));
  const empty = h("p", { class: "wbw-empty", "data-testid": "net-empty" });
  let [shown, places, zoom, wish] = [null, null, 1, "auto"];
  let drawn = { boxes: new Map(), edges: new Map() };
  const room = { width: 0, height: 0 };
  setAttributes(el, { role: "tabpanel", "aria-label": "Network" });
  el.append(h("h3", { class: "wbw-heading" }, "Network", sub, key, tools), errorBox(state, on, "network"), empty, scroller);

  const boxOf = (name) => [...drawn.boxes.values()].find((node) => node.dataset.kind === "group" && node.dataset.group === name);
  const inView = (node) => {
    if (!node || !scroller.clientHeight) return;
    const [box, all] = [node.getBoundingClientRect(), scroller.getBoundingClientRect()];
    if (box.top < all.top) scroller.scrollTop -= all.top - box.top + 12;
    else if (box.bottom > all.bottom) scroller.scrollTop += box.bottom - all.bottom + 12;
    if (box.left < all.left) scroller.scrollLeft -= all.left - box.left + 12;
    else if (box.right > all.right) scroller.scrollLeft += box.right - all.right + 12;
  };
  const paint = () => {
    for (const [i, node] of drawn.boxes) {
      const layer = isBox(shown.nodes[i]) && layerOf(state, shown.nodes[i][2]);
      if (!layer) continue;
      node.style.setProperty("--wbw-part", `${(100 * layer.width) / layer.original}%`);
      node.classList.toggle("wbw-net-fixed", !layer.prunable);
      node.title = hintOf(shown.nodes[i], layer);
      node.dataset.share = layer.width / layer.original;
      node.setAttribute("aria-label", node.title);
      const now = layer.width < layer.original ? `${layer.original} → ${layer.width} · ${percentOf(layer)}` : `${layer.width} ${layer.unit}`;
      if (node.widths) setText(node.widths, layer.prunable ? now : `${layer.width}, not prunable`);
    }
    mark();
  };
  const mark = () => {
    if (!shown) return;
    const name = state.get("selected");
    const ties = tiesOf(shown, name);
    for (const node of drawn.boxes.values()) {
      const chosen = node.dataset.group === name;
      node.classList.toggle("wbw-net-chosen", chosen);
      if (node.dataset.kind !== "group") continue;
      setAttributes(node, { "aria-pressed": chosen, tabindex: chosen ? 0 : -1 });
    }
    for (const [i, paths] of drawn.edges) paths.forEach((path) => path.classList.toggle("wbw-net-mine", ties.has(i)));
  };
  const redraw = () => {
    if (!places || !room.width || !room.height) return;
    const held = scroller.contains(focusIn(scroller));
    zoom = typeof wish === "number" ? wish : fitting(shown, places, room, wish === "fit");
    drawn = drawLines(state, sheet, shown, places, zoom, room);
    paint();
    const node = boxOf(state.get("selected"));
    inView(node);
    if (held) node?.focus({ preventScroll: true });
  };
  const zoomTo = (next) => ((wish = next), redraw());
  const step = (by) => {
    const at = ZOOMS.findIndex((one) => one <= zoom + 1e-9);
    zoomTo(ZOOMS[clamp(at + by, 0, ZOOMS.length - 1)]);
  };
  const choose = (name, focus) => {
    if (!name || !chooseGroup(state, name)) return;
    if (focus) boxOf(name)?.focus({ preventScroll: true });
  };
  scroller.addEventListener("click", (event) => choose(event.target.closest(".wbw-net-box")?.dataset.group, true));
  scroller.addEventListener("dblclick", (event) => event.target.closest(".wbw-net-box") && update(state, { tab: "layer" }));
  scroller.addEventListener("keydown", (event) => {
    const names = shown ? shown.nodes.filter(([kind]) => kind === "group").map(([, , group]) => group) : [];
    if (event.key === "Enter" && event.target.closest(".wbw-net-box")) {
      event.preventDefault();
      return update(state, { tab: "layer" });
    }
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -names.length, End: names.length }[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(names[clamp(names.indexOf(state.get("selected")) + by, 0, names.length - 1)], true);
  });

  const show = async () => {
    const [network, layouter] = [state.get("network") ?? {}, state.get("layouter")];
    const here = state.get("tab") === "network";
    const ready = Boolean(network.nodes && layouter);
    if (!here || (ready && network === shown)) return;
    setText(empty, ready ? "Finding places for the boxes …" : alive(state) ? "Looking at how the network runs …" : "The picture needs a running kernel.");
    empty.hidden = false;
    if (!ready) return;
    [shown, places] = [network, null];
    sheet.replaceChildren();
    const found = await layOut(layouter, { nodes: network.nodes.map(sizeOf), edges: network.edges.map(([from, to, kind]) => [from, to, STRAIGHT[kind] ?? 1]) });
    if (shown !== network) return; // another came meanwhile
    places = found;
    empty.hidden = true;
    redraw();
  };
  const words = () => {
    const network = state.get("network") ?? {};
    const groups = (network.nodes ?? []).filter(([kind]) => kind === "group").length;
    setText(sub, groups ? `${groups} group${groups > 1 ? "s" : ""} from input to output, each filled by the share of its units that is kept` : "");
    const kinds = new Set((network.edges ?? []).map(([, , kind]) => kind));
    key.replaceChildren(...KINDS_SHOWN.filter(([kind]) => kinds.has(kind)).map(([kind, text]) =>
      h("span", { class: "wbw-caption" }, s("svg", { width: 26, height: 10 }, s("path", { class: `wbw-net-edge wbw-net-${kind}`, d: "M1 5H25" })), text)));
  };
  const observer = new ResizeObserver(() => {
    const [width, height] = [scroller.clientWidth - 4, scroller.clientHeight - 4];
    if (width <= 0 || (width === room.width && height === room.height)) return;
    Object.assign(room, { width, height });
    redraw();
  });
  observer.observe(scroller);
  on.end(() => observer.disconnect());
  on("network layouter tab kernel", show);
  on("network", words);
  on("layers", () => shown && places && paint());
  on("selected", () => places && (mark(), state.get("tab") === "network" && inView(boxOf(state.get("selected")))));
}
