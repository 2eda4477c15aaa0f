// What of a long list of groups is shown, and in which order: a filter, an order, blocks that fold. A list of a dozen
// groups has none of it.

import { h, setText, focusIn } from "./shared.js";
import { setName } from "./names.js";
import { blocksOf } from "./blocks.js";
import { told } from "./telling.js";

export const MANY_GROUPS = 12; // groups, up to which a list stays as it is
const AT_ONCE = 60; // groups, up to which all blocks are open at first
const IN_ORDER_AFTER = 500; // milliseconds without a move, after which a list is put in order again

const IN_ORDER = "order";
const byName = (a, b) => a.layer.name.localeCompare(b.layer.name, "en", { numeric: true });

// `orders`: [name, words, value(row), up] each, besides the network's own; value gives null where it is not known, and
// what is not known stands last; up to `limit` groups the list stays as it is. `sum(rows)` is the text beside a block. `show(entries)` draws the list: { node } each,
// of rows { node, layer, title } and of blocks. `wanted(order)` hears which order is asked for. Returns the tools'
// node; of(rows) for other rows; stir() where values have moved; and unfold(name), find(node), step(…) for the keys.
export function arranger(state, on, { testid, list, orders, sum, show, wanted = () => {}, limit = MANY_GROUPS }) {
  const values = Object.fromEntries(orders.map(([name, , value]) => [name, value]));
  const up = Object.fromEntries([[IN_ORDER, true], ["name", true], ...orders.map(([name, , , rises]) => [name, rises])]);
  const folded = new Set();
  let [rows, entries, heads, many, reversed, late, network] = [[], [], new Map(), false, false, 0, ""];

  const filter = h("input", { type: "text", class: "wbw-select wbw-filter", placeholder: "filter", "aria-label": "show groups whose name has", "data-testid": `${testid}-filter`, spellcheck: "false", autocomplete: "off", oninput: () => arrange() });
  const order = h("select", { class: "wbw-select", "aria-label": "order of the groups", "data-testid": `${testid}-order`, onchange: () => ((reversed = false), wanted(order.value), arrange()) },
    ...[[IN_ORDER, "in order"], ["name", "by name"], ...orders.map(([name, words]) => [name, `by ${words}`])].map(([value, text]) => h("option", { value }, text)));
  const turn = h("button", { type: "button", class: "wbw-button wbw-small wbw-icon", title: "The other way round", "aria-label": "the other way round", "data-testid": `${testid}-turn`, onclick: () => ((reversed = !reversed), arrange()) });
  const all = h("button", { type: "button", class: "wbw-button wbw-small wbw-icon", "data-testid": `${testid}-fold`, onclick: () => {
    const open = folded.size > 0;
    folded.clear();
    if (!open) for (const block of heads.keys()) folded.add(block);
    arrange();
  } });
  const found = told(state, on, h("span", { class: "wbw-caption wbw-found", "data-testid": `${testid}-found` }));
  const tools = h("div", { class: "wbw-tools", role: "group", "aria-label": "filter and order", hidden: true }, filter, order, turn, all, found);
  filter.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && filter.value) {
      event.stopPropagation();
      filter.value = "";
      arrange();
    } else if (event.key === "ArrowDown") {
      event.preventDefault();
      entries.find(({ node }) => node.tabIndex === 0)?.node.focus();
    }
  });

  const toggle = (block, open = folded.has(block)) => {
    if (open) folded.delete(block);
    else folded.add(block);
    arrange();
    heads.get(block)?.node.focus({ preventScroll: true });
  };
  function head(block, above) {
    const [name, part, size] = [h("span", { class: "wbw-name" }), h("span", { class: "wbw-block-sum" }), h("span", { class: "wbw-of" })];
    const sign = h("span", { class: "wbw-block-sign", "aria-hidden": "true" });
    const node = h("li", { class: "wbw-block", role: "treeitem", tabindex: "-1", "aria-level": above.length + 1, "data-testid": `${testid}-block-${block}`, style: `--wbw-level: ${above.length}`, onclick: () => toggle(block) }, sign, name, size, part);
    setName(name, above.length ? block.slice(above.at(-1).length + 1) : block, block);
    const entry = { node, block, members: [], paint: () => setText(part, sum(entry.members)) };
    entry.open = (open) => {
      node.setAttribute("aria-expanded", open);
      setText(sign, open ? "▾" : "▸");
      setText(size, `(${entry.members.length})`);
    };
    return entry;
  }

  // The blocks' lines go before the first row of each; what lies in a folded one is left out.
  function inBlocks(shown, opened) {
    const found = [];
    let before = [];
    for (const entry of heads.values()) entry.members = [];
    for (const row of shown) for (const block of row.blocks) heads.get(block).members.push(row);
    for (const row of shown) {
      const closed = opened ? -1 : row.blocks.findIndex((block) => folded.has(block));
      row.blocks.forEach((block, level) => {
        if (before[level] === block && before.slice(0, level).every((one, i) => one === row.blocks[i])) return;
        if (closed >= 0 && closed < level) return;
        heads.get(block).open(opened || !folded.has(block));
        if (!found.includes(heads.get(block))) found.push(heads.get(block));
      });
      before = row.blocks;
      if (closed < 0) found.push(row);
    }
    return found;
  }
  function sorted(shown) {
    const key = order.value;
    const way = up[key] === reversed ? -1 : 1;
    if (key === IN_ORDER) return way > 0 ? shown : [...shown].reverse();
    if (key === "name") return [...shown].sort((a, b) => way * byName(a, b));
    const of = new Map(shown.map((row) => [row, values[key](row)]));
    return [...shown].sort((a, b) => {
      const [x, y] = [of.get(a), of.get(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return way * (x - y);
    });
  }
  function arrange() {
    clearTimeout(late);
    late = 0;
    const words = many ? filter.value.trim().toLowerCase().split(/\s+/).filter(Boolean) : [];
    const matching = words.length ? rows.filter(({ layer }) => words.every((word) => `${layer.name} ${layer.kind}`.toLowerCase().includes(word))) : rows;
    const blocks = many && order.value === IN_ORDER && !reversed && heads.size > 0;
    const next = blocks ? inBlocks(matching, words.length > 0) : many ? sorted(matching) : rows;
    for (const row of rows) {
      const above = blocks ? row.blocks.at(-1) : "";
      setName(row.title, above ? row.layer.name.slice(above.length + 1) : row.layer.name, row.hint?.() ?? row.layer.name);
      row.node.style.setProperty("--wbw-level", blocks ? row.blocks.length : 0);
    }
    const isTree = heads.size > 0;
    if (isTree !== (list.dataset.tree === "true")) list.dataset.tree = isTree;
    all.hidden = !blocks;
    turn.hidden = order.value === IN_ORDER;
    setText(turn, (up[order.value] !== reversed) ? "↑" : "↓");
    setText(all, folded.size ? "⊞" : "⊟");
    all.title = folded.size ? "Open all blocks" : "Fold all blocks";
    all.setAttribute("aria-label", all.title);
    setText(found, words.length ? (matching.length ? `${matching.length} of ${rows.length}` : `none of ${rows.length} groups has “${filter.value.trim()}” in its name`) : "");
    found.hidden = !words.length;
    if (next.length === entries.length && next.every((one, i) => one === entries[i])) return heads.forEach((one) => one.paint());
    entries = next;
    show(entries);
  }

  return {
    tools,
    of(next) {
      const names = next.map(({ layer }) => layer.name);
      const same = network === String(names);
      network = String(names);
      rows = next;
      many = rows.length > limit;
      tools.hidden = !many;
      list.classList.toggle("wbw-many", many);
      const blocks = many ? blocksOf(names) : [];
      rows.forEach((row, i) => (row.blocks = blocks[i] ?? []));
      heads = new Map();
      for (const { blocks: mine } of rows) mine.forEach((block, level) => heads.has(block) || heads.set(block, head(block, mine.slice(0, level))));
      if (!same) {
        folded.clear();
        filter.value = "";
        if (rows.length > AT_ONCE) for (const block of heads.keys()) folded.add(block);
        for (const block of rows.find(({ layer }) => layer.name === state.get("selected"))?.blocks ?? []) folded.delete(block);
      }
      entries = [];
      arrange();
    },
    // Values have moved: once they rest the list is put in order again, but not under a hand that is in it.
    stir() {
      if (!many || [IN_ORDER, "name"].includes(order.value)) return;
      clearTimeout(late);
      late = setTimeout(() => (list.contains(focusIn(list)) ? 0 : arrange()), IN_ORDER_AFTER);
    },
    unfold(name) {
      const shut = rows.find(({ layer }) => layer.name === name)?.blocks.filter((block) => folded.has(block)) ?? [];
      if (!shut.length) return;
      shut.forEach((block) => folded.delete(block));
      arrange();
    },
    toggle,
    isMany: () => many,
    entries: () => entries,
  };
}
