// Fine-tuning of the network as it is now: settings, a live plot of loss and score, pause and stop.

function coursePlot(state, on, holder, title, valueOf) {
  const [grid, line, dots] = [s("g"), s("path", { class: "wbw-line wbw-kept-line" }), s("g")];
  const redraw = () => {
    const { reports = [], start = null } = state.get("tuned");
    const { width, height } = view.size;
    for (const group of [grid, dots]) group.replaceChildren();
    line.setAttribute("d", "");
    const total = reports.at(-1)?.[1] ?? 0;
    const points = reports.map((one) => [one[0], valueOf(one)]).filter(([, value]) => value !== null);
    if (title === "score" && start !== null && total) points.unshift([0, start]);
    if (!width || !points.length) return;
    const values = points.map(([, value]) => value);
    const spread = Math.max(Math.max(...values) - Math.min(...values), title === "score" ? 0.01 : 1e-6);
    const [low, high] = [title === "loss" ? 0 : Math.min(...values) - 0.12 * spread, Math.max(...values) + 0.12 * spread];
    const box = { left: 52, right: width - 16, top: 8, bottom: height - 34 };
    const [x, y] = [scale(0, total, box.left, box.right), scale(low, high, box.bottom, box.top)];
    const yTicks = linearTicks(low, high, Math.max(3, Math.floor((box.bottom - box.top) / 26)));
    const digits = Math.max(2, ...yTicks.map((value) => (String(value).split(".")[1] ?? "").length));
    axes(grid, box, linearTicks(0, total, Math.floor((box.right - box.left) / 60), true).map((step) => [x(step), String(step)]), yTicks.map((value) => [y(value), value.toFixed(digits)]));
    grid.append(s("text", { class: "wbw-title-x", x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, "step"));
    line.setAttribute("d", points.map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join(""));
    if (title === "score") dots.append(...points.map(([step, value]) => s("circle", { class: "wbw-dot", cx: x(step), cy: y(value), r: 4.5 }, s("title", {}, score(value)))));
  };
  const view = plot(holder, on, redraw, { "aria-label": `${title} against step`, "data-testid": `tune-${title}` });
  view.svg.append(grid, line, dots);
  return redraw;
}

function draw(state, el, on) {
  const form = (values) => update(state, { tuning: { ...state.get("tuning"), ...values } });
  const change = (key) => (event) => form({ [key]: event.target.value.trim() });
  const amount = entry("amount", "train for", "1", "", 6);
  const rate = entry("rate", "learning rate, at most", "0.001", "AdamW under a one-cycle schedule; this is its peak", 6);
  for (const field of [amount, rate]) {
    field.input.addEventListener("change", change(field.key));
    field.input.dataset.testid = `tune-${field.key}`;
  }
  const unit = h("select", { class: "wbw-select", "data-testid": "tune-unit", "aria-label": "epochs or steps", onchange: change("unit") }, h("option", { value: "epochs" }, "epochs"), h("option", { value: "steps" }, "steps"));
  const distill = slider("tune-distill", "share of the loss that follows the original network", (value) => form({ distill: String(clamp(Math.round(value * 20) / 20, 0, 1)) }), 0.05, () => 4);
  const distillText = h("span", { class: "wbw-set" });
  const data = h("p", { class: "wbw-hint", "data-testid": "tune-data" });
  const only = h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": "tune-distill-only", onclick: () => form({ distill: "1" }) }, "Distil only: needs no labels");
  const fill = () => ({ ...state.get("tuning"), amount: amount.input.value.trim(), rate: rate.input.value.trim() });
  const start = h("button", { class: "wbw-button wbw-primary", "data-testid": "tune-start", "data-hint": "The best network found becomes a step of the history", onclick: () => send(state, "finetune", { tuning: fill() }) }, "Start");
  // These are heard while the run goes on, so they are sent past what counts as busy.
  const signal = (command) => state.send({ command });
  const pause = h("button", { class: "wbw-button", "data-testid": "tune-pause", onclick: () => signal(state.get("tuned").how === "paused" ? "go_on_tuning" : "pause_tuning") }, "Pause");
  const stop = h("button", { class: "wbw-button", "data-testid": "tune-stop", "data-hint": "End now; the best network so far is kept. Cancel, in the header, keeps nothing.", onclick: () => (signal("go_on_tuning"), signal("stop_tuning")) }, "Stop (keeps the best)");
  const [lossHolder, scoreHolder] = [h("div", { class: "wbw-plot" }), h("div", { class: "wbw-plot" })];
  const empty = h("p", { class: "wbw-empty" }, "Fine-tuning goes on from the network as it is now. Loss and score appear here while it runs; the best network found becomes a step of the history, and Undo takes it back.");
  const chip = h("span", { class: "wbw-sub", "data-testid": "tune-how", role: "status" });
  const [lossTitle, scoreTitle] = [h("h4", {}, "Loss"), h("h4", {}, "Score")];
  const plots = h("div", { class: "wbw-tune-plots" }, lossTitle, lossHolder, scoreTitle, scoreHolder);
  setAttributes(el, { role: "tabpanel", "aria-label": "Fine-tune" });
  el.append(
    h("div", { class: "wbw-compare-form wbw-tune-form" }, h("h3", { class: "wbw-heading" }, "Fine-tune"),
      h("div", { class: "wbw-controls" }, data, only,
        h("div", { class: "wbw-fields" }, amount.node, h("label", { class: "wbw-field", style: "grid-column: span 6" }, h("span", { class: "wbw-caption" }, "\u00a0"), unit), rate.node),
        h("div", { title: "0: the labels alone. 1: the original network's outputs alone, which needs no labels" }, h("div", { class: "wbw-row" }, h("span", { class: "wbw-caption" }, "distilled from the original"), distillText), distill)),
      h("div", { class: "wbw-deeds" }, errorBox(state, on, "tune"), h("div", { class: "wbw-buttons" }, start, pause), stop)),
    h("div", { class: "wbw-tune-course" }, h("h3", { class: "wbw-heading" }, "Course", chip), empty, plots));
  const redraws = [coursePlot(state, on, lossHolder, "loss", (one) => one[2]), coursePlot(state, on, scoreHolder, "score", (one) => one[3])];

  on("tuning tab", () => {
    const settings = state.get("tuning");
    for (const { key, input } of [amount, rate]) if (document.activeElement !== input) input.value = settings[key];
    unit.value = settings.unit;
    const share = Number(settings.distill);
    distill.paint(0, 1, share, percent(share));
    setText(distillText, percent(share).replace(/\.0+(?=\D)/, ""));
  });
  on("targets calibration_size data_name tuning", () => {
    const size = state.get("calibration_size");
    const labels = state.get("targets");
    setText(data, `On the calibration data: ${size ? `${count(size)} examples` : "its batches"}${state.get("data_name") ? ` of ${state.get("data_name")}` : ""}, ${labels ? "with labels" : "without labels"}.`);
    only.hidden = labels || Number(state.get("tuning").distill) >= 1;
  });
  on("tuned metric tab", () => {
    const { reports, how = "", start: before = null } = state.get("tuned");
    const filled = Boolean(reports);
    empty.hidden = filled;
    plots.hidden = !filled;
    const last = reports?.at(-1);
    setText(chip, filled ? `${how}${last ? `, step ${last[0]} of ${last[1]}` : ""}${before === null ? "" : `, ${state.get("metric")} before ${score(before)}`}` : "");
    setText(scoreTitle, state.get("metric") ? state.get("metric")[0].toUpperCase() + state.get("metric").slice(1) : "There is no score: the last network counts as the best");
    setText(pause, how === "paused" ? "Go on" : "Pause");
    redraws.forEach((redraw) => redraw());
  });
  on("progress kernel measured targets tuning tuned", () => {
    const running = ["running", "paused"].includes(state.get("tuned").how) && busy(state);
    const why = !alive(state) ? "This needs a running kernel" : running ? "It is running" : busy(state) ? "Something is running: see above" : !state.get("name") ? "No model is loaded"
      : !state.get("targets") && Number(state.get("tuning").distill) < 1 ? "The calibration data has no labels: distil only, or load data with labels" : "";
    setOff(start, why, why);
    setOff(pause, !running, "Nothing is fine-tuned now");
    setOff(stop, !running, "Nothing is fine-tuned now");
  });
}

export default panel(draw);
