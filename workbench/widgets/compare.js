// Ways to prune side by side at the budget's widths, and how much each group bears alone.

const WAY_NAMES = { channel: "Â", kernel: "kernel", original: "original", none: "none" };
const COMPARED = [...SELECTIONS.filter(([name]) => name !== "reader-l2"), ["taylor", "Taylor"]];

// A check box for every option of one kind, kept in the trait `ways`.
function wayBoxes(state, on, key, options, caption) {
  const boxes = options.map(([name, text]) => {
    const box = checkBox(`compare-${name}${key === "reconstructions" ? "-reconstruction" : ""}`, text);
    box.input.addEventListener("change", () => {
      const chosen = options.map(([one]) => one).filter((one, i) => boxes[i].input.checked);
      update(state, { ways: { ...state.get("ways"), [key]: chosen } });
    });
    return box;
  });
  on("ways", () => boxes.forEach((box, i) => (box.input.checked = state.get("ways")[key].includes(options[i][0]))));
  return { boxes, node: h("fieldset", { class: "wbw-ways" }, h("legend", { class: "wbw-caption" }, caption), ...boxes.map((box) => box.node)) };
}

const sortedRows = (answer) => [...(answer.rows ?? [])].sort((a, b) => (b.score ?? -1) - (a.score ?? -1));
const lowest = (answer) => Math.min(...answer.rows.map((row) => row.score ?? 0), answer.unpruned ?? 1);

function tableOf(answer) {
  const best = Math.max(answer.unpruned ?? 0, ...answer.rows.map((row) => row.score ?? 0), 1e-9);
  const row = (one) => h("li", { class: "wbw-compare-row", "data-testid": "compare-row" },
    h("span", { class: "wbw-name" }, one.selection), h("span", {}, WAY_NAMES[one.reconstruction] + (one.reestimate ? ", norms" : "")),
    h("span", { class: "wbw-bar" }, h("span", { class: "wbw-bar-fill", style: `width: ${(100 * Math.max(one.score ?? 0, 0)) / best}%` })),
    h("span", { class: "wbw-cell", "data-testid": "compare-score" }, score(one.score)), h("span", { class: "wbw-cell" }, `${one.seconds.toFixed(1)}${THIN}s`));
  return [h("li", { class: "wbw-compare-row wbw-steps-head" }, h("span", {}, "selection"), h("span", {}, "reconstruct"), h("span", {}),
    h("span", { class: "wbw-cell" }, answer.metric), h("span", { class: "wbw-cell" }, "took")), ...sortedRows(answer).map(row)];
}

const MARKS = { // a shape a reconstruction, so that no colour is needed to tell them
  none: "M-4-4L4 4M4-4L-4 4", channel: "M0-5A5 5 0 1 1 0 5A5 5 0 1 1 0-5Z", kernel: "M-4.5-4.5H4.5V4.5H-4.5Z", original: "M0-6L5.5 4.5H-5.5Z" };
const mark = (kind, x, y) => s("path", { class: `wbw-way wbw-way-${kind}`, d: MARKS[kind], transform: `translate(${x} ${y})` });

function dotPlot(state, on, holder) {
  const all = s("g");
  const redraw = () => {
    const answer = state.get("comparison");
    const { width, height } = view.size;
    all.replaceChildren();
    if (!width || !answer.rows?.some((row) => row.score !== null)) return;
    const names = [...new Set(sortedRows(answer).map((row) => row.selection))];
    const kinds = [...new Set(answer.rows.map((row) => row.reconstruction))];
    const box = { left: 44, right: width - 84, top: 10, bottom: height - 22 };
    const values = [...answer.rows.map((row) => row.score).filter((one) => one !== null), ...(answer.unpruned === null ? [] : [answer.unpruned])];
    const spread = Math.max(Math.max(...values) - lowest(answer), 0.01);
    const [low, high] = [Math.min(...values) - 0.08 * spread, Math.max(...values) + 0.08 * spread];
    const y = scale(low, high, box.bottom, box.top);
    const x = (name) => box.left + ((names.indexOf(name) + 0.5) / names.length) * (box.right - box.left);
    const yTicks = linearTicks(low, high, Math.max(3, Math.floor((box.bottom - box.top) / 26)));
    const digits = Math.max(2, ...yTicks.map((value) => (String(value).split(".")[1] ?? "").length));
    const short = (name) => ({ "magnitude-l1": "L1", "magnitude-l2": "L2", "mean-activation": "mean" })[name] ?? name;
    const grid = s("g");
    axes(grid, box, names.map((name) => [x(name), short(name)]), yTicks.map((value) => [y(value), value.toFixed(digits)]));
    all.append(grid);
    if (answer.unpruned !== null) {
      all.append(s("line", { class: "wbw-unpruned", x1: box.left, x2: box.right, y1: y(answer.unpruned), y2: y(answer.unpruned) }),
        s("text", { class: "wbw-label", x: box.right + 6, y: y(answer.unpruned) + 4 }, "unpruned"));
    }
    const shift = (kind) => (kinds.indexOf(kind) - (kinds.length - 1) / 2) * Math.min(13, (box.right - box.left) / names.length / (kinds.length + 0.5));
    for (const row of answer.rows.filter((one) => one.score !== null)) {
      const point = mark(row.reconstruction, x(row.selection) + shift(row.reconstruction), y(row.score));
      point.append(s("title", {}, `${row.selection}, ${row.reconstruction}: ${score(row.score)}`));
      all.append(point);
    }
    kinds.forEach((kind, i) => {
      const line = box.bottom - 4 - 16 * (kinds.length - 1 - i);
      all.append(mark(kind, box.right + 14, line - 4), s("text", { class: "wbw-label", x: box.right + 24, y: line }, WAY_NAMES[kind]));
    });
  };
  const view = plot(holder, on, redraw, { "aria-label": "score of every way", "data-testid": "compare-plot" });
  view.svg.append(all);
  return redraw;
}

// Rows are groups, columns shares of the width kept; the stronger the blue the better.
function heatMap(answer, kind) {
  const values = answer[kind];
  const flat = values.flat().filter((value) => value !== null);
  const [low, high] = [Math.min(...flat), Math.max(...flat, ...(kind === "scores" ? [answer.unpruned ?? 0] : []))];
  const cell = (value) => {
    const share = value === null ? 0 : (kind === "scores" ? value - low : high - value) / Math.max(high - low, 1e-12);
    const text = value === null ? "–" : kind === "scores" ? value.toFixed(3) : percent(value);
    return h("span", { class: `wbw-heat${share > 0.55 ? " wbw-heat-strong" : ""}`, style: `--wbw-heat: ${Math.round(100 * share)}%`, "data-testid": "heat" }, text);
  };
  const head = h("li", { class: "wbw-heat-row wbw-steps-head" }, h("span", {}, "kept, alone"), ...answer.shares.map((one) => h("span", { class: "wbw-cell" }, percent(one).replace(/\.0+(?=\D)/, ""))));
  return [head, ...answer.groups.map((name, i) => {
    const title = h("span", { class: "wbw-name" });
    setName(title, name);
    return h("li", { class: "wbw-heat-row" }, title, ...values[i].map(cell));
  })];
}

function draw(state, el, on) {
  const at = h("p", { class: "wbw-hint", "data-testid": "compare-at" });
  const selections = wayBoxes(state, on, "selections", COMPARED, "select");
  const reconstructions = wayBoxes(state, on, "reconstructions", RECONSTRUCTIONS.map(([name]) => [name, WAY_NAMES[name]]), "reconstruct");
  const norms = checkBox("compare-reestimate", "re-estimate norms, for all");
  norms.input.addEventListener("change", () => update(state, { ways: { ...state.get("ways"), reestimate: norms.input.checked } }));
  const taylor = selections.boxes.at(-1);
  const present = () => Object.fromEntries((state.get("budget").names ?? []).map((name, i) => [name, Math.min(state.get("widths")[name] ?? Infinity, state.get("budget").widths[i])]));
  const chosenWays = () => ({ ...state.get("ways"), selections: state.get("ways").selections.filter((name) => name !== "taylor" || state.get("targets")) });
  const go = h("button", { class: "wbw-button wbw-primary", "data-testid": "compare", "data-hint": "Score every selection with every reconstruction; nothing is committed", onclick: () => send(state, "compare", { ways: chosenWays(), widths: present() }) }, "Compare");
  const save = h("button", { class: "wbw-button wbw-small", "data-testid": "compare-save", "data-hint": "comparison.csv, .png and .svg, beside the notebook", onclick: () => send(state, "save_comparison") }, "Save CSV, PNG, SVG");
  const sweep = h("button", { class: "wbw-button wbw-small", "data-testid": "sweep", "data-hint": "Each group alone at 75, 50 and 25 % of its width, selected and reconstructed as on the tab Layer",
    onclick: () => send(state, "sweep_groups", { options: Object.fromEntries(["theta", "selection", "reconstruction"].map((key) => [key, state.get(key)])) }) }, "Sweep");
  const table = h("ol", { class: "wbw-compare-table wbw-scroll" });
  const holder = h("div", { class: "wbw-plot" });
  const [none, noSweep] = [h("p", { class: "wbw-empty" }), h("p", { class: "wbw-empty" }, "How much each group bears alone: Sweep prunes one group at a time, and keeps nothing.")];
  const heat = h("ol", { class: "wbw-heat-list wbw-scroll" });
  const shown = h("select", { class: "wbw-select wbw-heat-kind", "data-testid": "heat-kind", "aria-label": "what the heat map shows", onchange: () => paintHeat() }, h("option", { value: "scores" }, "score"), h("option", { value: "losses" }, "output loss"));
  const [stale, staleSweep] = [h("span", { class: "wbw-chip" }, "before the last change"), h("span", { class: "wbw-chip" }, "before the last change")];
  setAttributes(el, { role: "tabpanel", "aria-label": "Compare" });
  el.append(
    h("div", { class: "wbw-compare-form" }, h("h3", { class: "wbw-heading" }, "Ways to prune"),
      h("div", { class: "wbw-controls" }, at, selections.node, reconstructions.node, norms.node), h("div", { class: "wbw-deeds" }, errorBox(state, on, "compare"), go)),
    h("div", { class: "wbw-compared" }, h("h3", { class: "wbw-heading" }, "Comparison", stale, save), none, table, holder),
    h("div", { class: "wbw-swept" }, h("h3", { class: "wbw-heading" }, "Sensitivity", staleSweep, shown, sweep), noSweep, heat));
  const redraw = dotPlot(state, on, holder);
  const paintHeat = () => {
    const answer = state.get("sweep");
    const scored = answer.scores?.some((row) => row.some((value) => value !== null));
    if (!scored) shown.value = "losses";
    shown.disabled = !scored;
    heat.replaceChildren(...(answer.groups ? heatMap(answer, shown.value) : []));
  };
  on("comparison tab", () => {
    const answer = state.get("comparison");
    const filled = Boolean(answer.rows?.length);
    table.hidden = holder.hidden = save.hidden = !filled;
    none.hidden = filled;
    table.replaceChildren(...(filled ? tableOf(answer) : []));
    redraw();
  });
  on("sweep", () => {
    noSweep.hidden = Boolean(state.get("sweep").groups);
    heat.hidden = shown.hidden = !noSweep.hidden;
    if (state.get("sweep").groups) shown.value = "scores";
    paintHeat();
  });
  on("ways norms targets", () => {
    norms.input.checked = state.get("ways").reestimate;
    norms.input.disabled = !state.get("norms");
    norms.node.title = state.get("norms") ? "" : "This network has no batch norm that keeps running statistics";
    taylor.input.disabled = !state.get("targets");
    setText(taylor.note, state.get("targets") ? "" : "needs labels");
    taylor.node.title = state.get("targets") ? "Activation × gradient of the loss on the calibration data" : "The calibration data has no targets";
  });
  on("widths budget measured metric progress kernel comparison sweep revision ways targets tab", () => {
    if (state.get("tab") !== "compare") return;
    const { names = [], widths = [], macs } = state.get("budget");
    const wanted = present();
    const less = names.some((name, i) => wanted[name] < widths[i]);
    const total = less ? costAt(state.get("budget"), names.map((name) => wanted[name])).macs : macs;
    setText(at, !names.length ? "" : less ? `At the budget's widths: ${count(total)} MACs (now ${count(macs)}).` : "The budget keeps all units: set widths on the tab Budget first.");
    setText(none, less ? "Compare scores every selection with every reconstruction, from the network as it is now; nothing is committed." : "First set widths on the tab Budget: by hand, or by a rule for a target.");
    const waiting = !alive(state) ? "This needs a running kernel" : busy(state) ? "Something is running: see above" : !state.get("measured") ? "Nothing is measured yet" : "";
    const why = waiting || (!state.get("metric") ? "There is no evaluation data, so no score to compare" : !less ? "Set widths on the tab Budget first"
      : !chosenWays().selections.length || !chosenWays().reconstructions.length ? "Choose at least one selection and one reconstruction" : "");
    setOff(go, why, why);
    setOff(save, waiting, waiting);
    setOff(sweep, waiting || !names.length, waiting || "No group can be pruned");
    stale.hidden = !state.get("comparison").rows || state.get("comparison").revision === state.get("revision");
    staleSweep.hidden = !state.get("sweep").groups || state.get("sweep").revision === state.get("revision");
  });
}

export default panel(draw);
