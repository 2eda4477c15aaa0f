// The header: model, data, procedure, the three meters from the original to now, undo to export, progress.

import { PROCEDURES } from "./constants.js";
import {
  clamp, h, setText, setOff, count, percent, score, points, signed, alive, busy, send, showCard,
  errorBox,
} from "./shared.js";
import { projectorButton } from "./projector.js";
import { latencyNote } from "./latency.js";
import { progressLine } from "./progressline.js";
import { asking, question } from "./glossary.js";
import { tourButton, tourOffer } from "./tour.js";
import { tabList } from "./tabs.js";
import { branchMenu } from "./branches.js";
import { offerBox, keptLine, askBeforeLeaving } from "./recovery.js";

const known = (value) => value !== null && value !== undefined;

function meter(state, name, caption, term) {
  const value = h("span", { class: "wbw-meter-value" });
  const share = h("span", { class: "wbw-meter-share" });
  const bar = h("span", { class: "wbw-bar-fill" });
  const node = h("div", { class: "wbw-meter", role: "group", "data-testid": `meter-${name}` },
    h("div", { class: "wbw-meter-row" }, h("span", { class: "wbw-caption" }, caption), question(state, term, caption), share),
    value, h("div", { class: "wbw-bar" }, bar));
  const paint = (start, now, format, aside) => {
    const both = known(start) && known(now);
    setText(value, both ? `${format(start)} → ${format(now)}` : "–");
    setText(share, both ? aside(start, now) : "");
    node.dataset.value = both ? now : "";
    node.dataset.original = both ? start : "";
    bar.style.width = both && start > 0 ? `${clamp((100 * now) / start, 0, 100)}%` : "0";
    node.title = both ? `${caption}: ${start} in the original, ${now} now` : "";
    const called = node.querySelector(".wbw-caption").textContent;
    node.setAttribute("aria-label", `${called}: ${both ? `${format(start)} in the original, ${format(now)} now${share.textContent && `, ${share.textContent}`}` : "not known yet"}`);
  };
  // What is known of a part alone stands there as that.
  const paintPart = (text, aside) => {
    setText(value, text);
    setText(share, aside);
    node.title = `${caption}: ${text} ${aside}; of all it is not known yet`;
  };
  return { node, paint, paintPart };
}

function select(testid, label, choose) {
  const node = h("select", { class: "wbw-select", "data-testid": testid, "aria-label": label, onchange: () => choose(node.value) });
  node.paint = (options, value) => {
    const key = JSON.stringify(options);
    if (node.dataset.options !== key) {
      node.replaceChildren(...options.map(([id, text]) => h("option", { value: id }, text)));
      node.dataset.options = key;
    }
    node.value = value;
  };
  return node;
}

export function drawHeader(state, el, on) {
  const model = select("model-select", "model", (name) => send(state, "load", { name }));
  const procedure = select("procedure-select", "procedure", (name) => send(state, "set_procedure", { name }));
  const data = h("span", { class: "wbw-data" });
  const meters = [meter(state, "parameters", "parameters", "parameters"), meter(state, "macs", "MACs", "MACs"), meter(state, "score", "score", "score")];
  const button = (name, text, hint) =>
    h("button", { class: "wbw-button", "data-testid": name, "data-hint": hint, onclick: () => send(state, name) }, text);
  const undo = button("undo", "Undo", "Undo the last commit (Ctrl+Z)");
  const redo = button("redo", "Redo", "Redo (Ctrl+Shift+Z)");
  const reset = button("reset", "Reset", "Back to the original network");
  const opener = (name, text, hint) =>
    h("button", { class: "wbw-button", "data-testid": name, "data-hint": hint, "aria-haspopup": "dialog", onclick: () => showCard(state, name) }, text);
  const load = opener("load", "Load…", "A model and data of your own");
  const out = opener("export", "Export…", "Export the pruned network; save the session, or open one");
  const scoreNow = h("button", { class: "wbw-button wbw-small", "data-testid": "score-now", title: "This step has no score yet: run it on the evaluation data", onclick: () => send(state, "score") }, "Score it");
  meters[2].node.querySelector(".wbw-meter-row").append(scoreNow);
  const error = errorBox(state, on, "header");
  el.append(
    h("div", { class: "wbw-top" }, h("h2", { class: "wbw-title" }, "Spectral Pruning Workbench"), latencyNote(state, on), tabList(state, on), branchMenu(state, on), progressLine(state, on), tourOffer(state, on), tourButton(state), projectorButton(state, on)),
    h("div", { class: "wbw-bottom" },
      h("div", { class: "wbw-what" },
        h("label", { class: "wbw-field" }, h("span", { class: "wbw-caption" }, "model", data), model),
        load,
        asking(state, h("label", { class: "wbw-field" }, h("span", { class: "wbw-caption" }, "procedure"), procedure), "simultaneous", "the procedure")),
      h("div", { class: "wbw-meters" }, ...meters.map((one) => one.node)),
      h("div", { class: "wbw-actions" }, undo, redo, reset, out)),
    offerBox(state, on), keptLine(state, on), error);
  askBeforeLeaving(state, on);

  on("name data_name examples procedure position branch branches measured progress kernel", () => {
    const name = state.get("name");
    const examples = state.get("examples").map((one) => [one, one]);
    if (!state.get("examples").includes(name) && name) examples.unshift([name, name]);
    model.paint(examples, name);
    model.disabled = busy(state) || !alive(state);
    setText(data, state.get("data_name") ? ` on ${state.get("data_name")}` : "");
    procedure.paint(PROCEDURES.map((one) => [one, one]), state.get("procedure"));
    const others = (state.get("branches") ?? []).filter((one) => one.name !== state.get("branch") && one.steps.length > 1);
    const begun = state.get("position") > 0 || others.length > 0;
    procedure.disabled = begun || busy(state) || !alive(state) || !state.get("measured");
    procedure.title = state.get("position") > 0
      ? "Something is committed: press Reset first, then change the procedure"
      : begun ? `Other branches were made under this procedure: drop ${others.map((one) => one.name).join(", ")} first`
      : "Simultaneous: all moments from the original network. Sequential: groups after a commit are measured again.";
  });
  on("history position metric scoring revision", () => {
    const steps = state.get("history");
    const start = steps[0] ?? {};
    const now = steps[state.get("position")] ?? {};
    const part = (from, to) => (from > 0 ? percent(to / from) : "");
    const gained = (from, to) => (to === from ? "" : state.get("metric").endsWith("accuracy") ? points(to - from) : signed(to - from));
    setText(meters[2].node.querySelector(".wbw-caption"), state.get("metric") || "score");
    meters[0].paint(start.parameters, now.parameters, count, part);
    meters[1].paint(start.macs, now.macs, count, part);
    meters[2].paint(start.score, now.score, score, gained);
    const first = state.get("scoring") ?? {};
    if (first.examples && first.revision === state.get("revision") && !known(now.score)) meters[2].paintPart(score(first.score), `on the first ${count(first.examples)}`);
  });
  on("history position metric measured progress kernel", () => {
    const open = state.get("metric") && state.get("measured") && !known(state.get("history")[state.get("position")]?.score);
    scoreNow.hidden = !open || busy(state) || !alive(state);
  });
  on("can_undo can_redo history progress measured kernel", () => {
    const waiting = !alive(state) ? "This needs a running kernel" : busy(state) ? "Something is running: see above" : "";
    const off = (button, free, why) => setOff(button, waiting || !free, waiting || why);
    off(undo, state.get("can_undo"), "Nothing to undo");
    off(redo, state.get("can_redo"), "Nothing to redo");
    off(reset, state.get("can_undo"), "This is the original network");
    setOff(load, !alive(state), "This needs a running kernel");
    const why = !alive(state) ? "This needs a running kernel" : state.get("measured") ? "" : "Nothing is measured yet";
    setOff(out, why, why);
  });
  on("card", () => [load, out].forEach((one) => one.setAttribute("aria-expanded", state.card === one.dataset.testid)));
}
