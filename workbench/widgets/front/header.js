// The header: model, data, procedure, the three meters from the original to now, undo to export, progress.

import { PROCEDURES } from "./constants.js";
import {
  clamp, h, setText, setOff, count, percent, score, points, signed, seconds, alive, busy, send, showCard,
  errorBox,
} from "./shared.js";
import { asking, question } from "./glossary.js";
import { tourButton, tourOffer } from "./tour.js";
import { tabList } from "./tabs.js";
import { branchMenu } from "./branches.js";
import { offerBox, keptLine, askBeforeLeaving } from "./recovery.js";

function meter(state, name, caption, term) {
  const value = h("span", { class: "wbw-meter-value" });
  const share = h("span", { class: "wbw-meter-share" });
  const bar = h("span", { class: "wbw-bar-fill" });
  const node = h("div", { class: "wbw-meter", role: "group", "data-testid": `meter-${name}` },
    h("div", { class: "wbw-meter-row" }, h("span", { class: "wbw-caption" }, caption), question(state, term, caption), share),
    value, h("div", { class: "wbw-bar" }, bar));
  const paint = (start, now, format, aside) => {
    const known = start !== null && start !== undefined && now !== null && now !== undefined;
    setText(value, known ? `${format(start)} → ${format(now)}` : "–");
    setText(share, known ? aside(start, now) : "");
    node.dataset.value = known ? now : "";
    node.dataset.original = known ? start : "";
    bar.style.width = known && start > 0 ? `${clamp((100 * now) / start, 0, 100)}%` : "0";
    node.title = known ? `${caption}: ${start} in the original, ${now} now` : "";
    const called = node.querySelector(".wbw-caption").textContent;
    node.setAttribute("aria-label", `${called}: ${known ? `${format(start)} in the original, ${format(now)} now${share.textContent && `, ${share.textContent}`}` : "not known yet"}`);
  };
  return { node, paint };
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

// What Cancel leaves, where that is not nothing: the words of the button, and what they mean.
const KEEPS = {
  finetune: ["Stop, keep best", "End now; the best network so far becomes a step"],
  measure_damage: ["Stop, keep measured", "End now; what is measured so far is kept, and measured no more"],
};
function progressLine(state, on) {
  const bar = h("span", { class: "wbw-bar-fill" });
  const text = h("span", { class: "wbw-status-text" });
  const cancel = h("button", { class: "wbw-button wbw-small", "data-testid": "cancel", onclick: () => send(state, "cancel") }, "Cancel");
  const line = h("div", { class: "wbw-status", "data-testid": "progress" }, text,
    h("div", { class: "wbw-bar wbw-progress" }, bar), cancel);
  let since = 0;
  const paint = () => {
    const { what = state.shared.sent && "starting", done, total, elapsed = 0, command } = state.get("progress");
    const [label, left] = KEEPS[command] ?? ["Cancel", "Stop what runs; nothing of it is kept"];
    setText(cancel, label);
    cancel.title = left;
    line.classList.toggle("wbw-working", Boolean(what));
    line.classList.toggle("wbw-endless", Boolean(what) && !total);
    if (!what) text.title = state.get("notice");
    if (!what) return setText(text, alive(state) ? state.get("notice") : "The kernel is gone: run the cell again to go on. λ still moves here.");
    const spent = (performance.now() - since) / 1000;
    setText(text, `${total ? `${done} of ${total} · ` : ""}${what}${spent >= 1 ? ` · ${seconds(spent)}` : ""}`);
    bar.style.width = total ? `${(100 * done) / total}%` : "100%";
    text.title = text.textContent;
    since = Math.min(since, performance.now() - 1000 * elapsed);
  };
  on("progress notice kernel", () => {
    since = performance.now() - 1000 * (state.get("progress").elapsed ?? 0);
    paint();
  });
  const clock = setInterval(() => busy(state) && paint(), 500);
  on.end(() => clearInterval(clock));
  return line;
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
  const error = errorBox(state, on, "header");
  el.append(
    h("div", { class: "wbw-top" }, h("h2", { class: "wbw-title" }, "Spectral Pruning Workbench"), tabList(state, on), branchMenu(state, on), progressLine(state, on), tourOffer(state, on), tourButton(state)),
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
  on("history position metric", () => {
    const steps = state.get("history");
    const start = steps[0] ?? {};
    const now = steps[state.get("position")] ?? {};
    const part = (from, to) => (from > 0 ? percent(to / from) : "");
    const gained = (from, to) => (to === from ? "" : state.get("metric").endsWith("accuracy") ? points(to - from) : signed(to - from));
    setText(meters[2].node.querySelector(".wbw-caption"), state.get("metric") || "score");
    meters[0].paint(start.parameters, now.parameters, count, part);
    meters[1].paint(start.macs, now.macs, count, part);
    meters[2].paint(start.score, now.score, score, gained);
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
