// The history: score against parameters, a point a step, and the list of steps with a way back to each.

function draw(state, el, on) {
  const holder = h("div", { class: "wbw-plot" });
  const list = h("ol", { class: "wbw-steps", "aria-label": "steps" });
  const hint = h("p", { class: "wbw-empty" }, "Each commit becomes a line here, and a point of the plot.");
  const title = h("h3", { class: "wbw-heading" }, "History", h("span", { class: "wbw-sub" }));
  const unscored = h("p", { class: "wbw-empty" }, "There is no score: it takes evaluation data.");
  el.append(h("div", { class: "wbw-history-plot" }, title, unscored, holder), h("div", { class: "wbw-history-list" }, list, hint));
  const grid = s("g");
  const line = s("path", { class: "wbw-line wbw-path" });
  const dots = s("g");

  const redraw = () => {
    const steps = state.get("history");
    const position = state.get("position");
    const { width, height } = view.size;
    const scored = steps.map((step, index) => ({ ...step, index })).filter((step) => step.score !== null);
    if (!width || !scored.length) return [grid, dots].forEach((group) => group.replaceChildren()), line.setAttribute("d", "");
    const box = { left: 52, right: width - 16, top: 10, bottom: height - 33 };
    const most = Math.max(...steps.map((step) => step.parameters)) * 1.06;
    const scores = scored.map((step) => step.score);
    const spread = Math.max(Math.max(...scores) - Math.min(...scores), 0.01);
    const middle = (Math.max(...scores) + Math.min(...scores)) / 2;
    const low = Math.max(Math.min(...scores, middle - spread * 0.7) - spread * 0.15, Math.min(0, ...scores));
    const high = Math.max(...scores, middle + spread * 0.7) + spread * 0.15;
    const x = scale(0, most, box.left, box.right);
    const y = scale(low, high, box.bottom, box.top);
    const yTicks = linearTicks(low, high, Math.max(3, Math.floor((box.bottom - box.top) / 24)));
    const digits = Math.max(2, ...yTicks.map((value) => (String(value).split(".")[1] ?? "").length));
    axes(grid, box,
      linearTicks(0, most, Math.floor((box.right - box.left) / 70), true).map((value) => [x(value), value ? count(value).replace(/\.0+(?=\D)/, "") : "0"]),
      yTicks.map((value) => [y(value), value.toFixed(digits)]));
    grid.append(s("text", { class: "wbw-title-x", x: (box.left + box.right) / 2, y: height - 3, "text-anchor": "middle" }, "parameters"));
    const way = scored.filter((step) => step.index <= position);
    line.setAttribute("d", way.map((step, i) => `${i ? "L" : "M"}${x(step.parameters)} ${y(step.score)}`).join(""));
    dots.replaceChildren(...scored.map((step) =>
      s("circle", { class: `wbw-dot${step.index === position ? " wbw-here" : step.index > position ? " wbw-undone" : ""}`, cx: x(step.parameters), cy: y(step.score), r: step.index === position ? 6 : 4.5 },
        s("title", {}, `${step.label}: ${score(step.score)}, ${count(step.parameters)} parameters`))));
    const start = scored[0];
    const below = scored[1]?.score > start.score; // then the line goes up from here
    dots.append(s("text", { class: "wbw-tick", x: x(start.parameters) - 10, y: below ? Math.min(y(start.score) + 16, box.bottom - 4) : y(start.score) - 8, "text-anchor": "end" }, "original"));
  };
  const view = plot(holder, on, redraw, { "aria-label": "score against parameters" });
  view.svg.append(grid, line, dots);

  const item = (step, index, position) => {
    const here = index === position;
    const name = h("span", { class: "wbw-name" });
    setName(name, step.label);
    const back = h("button", { class: "wbw-button wbw-small", "data-testid": `history-back-${index}`, onclick: () => send(state, "goto", { position: index }) },
      index > position ? "forward to here" : "back to here");
    return h("li", { class: `wbw-step${here ? " wbw-here" : ""}${index > position ? " wbw-undone" : ""}`, "data-testid": `history-item-${index}`, "aria-current": here ? "step" : null },
      name,
      h("span", { class: "wbw-cell" }, score(step.score)),
      h("span", { class: "wbw-cell" }, count(step.parameters)),
      h("span", { class: "wbw-cell" }, count(step.macs)),
      here ? h("span", { class: "wbw-caption wbw-now" }, "now") : back);
  };
  on("history position metric", () => {
    const steps = state.get("history");
    const position = state.get("position");
    const metric = state.get("metric") || "score";
    setText(title.querySelector(".wbw-sub"), `${metric} against parameters`);
    hint.hidden = steps.length > 1;
    unscored.hidden = Boolean(state.get("metric")) || !steps.length;
    const head = h("li", { class: "wbw-step wbw-steps-head", "aria-hidden": "true" }, h("span", {}, "step"), h("span", { class: "wbw-cell" }, metric),
      h("span", { class: "wbw-cell" }, "parameters"), h("span", { class: "wbw-cell" }, "MACs"), h("span", {}));
    list.replaceChildren(head, ...steps.map((step, index) => item(step, index, position)));
    reveal(list, list.children[position + 1], head.offsetHeight);
    redraw();
  });
  on("history position metric progress kernel", () => {
    const waiting = busy(state) || !alive(state);
    list.querySelectorAll("button").forEach((button) => (button.disabled = waiting));
  });
}

export default panel(draw);
