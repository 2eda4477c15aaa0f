// Which examples changed: how many answers, of which classes, which confusions grew, and the examples themselves.

import { FLIPS_AGAINST, FLIPS_PAGE } from "./constants.js";
import { THIN, h, setText, setAttributes, focusIn, percent, score, points, signed, alive, busy, showCard, errorBox } from "./shared.js";
import { openFlips, unbroken } from "./flipslink.js";
import { question } from "./glossary.js";
import { told } from "./telling.js";

const SIDES = { lost: "right → wrong", won: "wrong → right", other: "otherwise" };
const PICTURED = 64; // pixels of a thumbnail's side on the screen
const exact = (number) => Number(number).toLocaleString("en").replaceAll(",", THIN);

// Words for answers: names of classes where there are any, yes and no of labels, plain numbers of values.
function wordsFor(flips) {
  const named = (number) => flips.names[number] ?? String(number);
  const number = (value) => (Number.isInteger(value) ? String(value) : value.toPrecision(3)).replace("-", "−");
  const said = (answer) => (flips.kind === "values" ? number(answer) : flips.kind === "labels" ? (answer ? "yes" : "no") : named(answer));
  return { named, said, noun: flips.kind === "labels" ? "label" : "class" };
}

function scoresLine(flips) {
  const [before, after] = flips.scores;
  const on = `${exact(flips.examples)} ${flips.data} examples${flips.answers === flips.examples || flips.kind === "values" ? "" : `, ${exact(flips.answers)} answers`}`;
  if (before === null || after === null) return on;
  const change = flips.metric.endsWith("accuracy") ? points(after - before) : signed(after - before);
  return `${flips.metric} ${score(before)} → ${score(after)} (${change}), on ${on}`;
}

// Right answers by class before and after, and on either side of a middle line how many were lost and won.
function classTable(flips, pick) {
  const { named, noun } = wordsFor(flips);
  const most = Math.max(1, ...flips.classes.map(([, , , , lost, won]) => Math.max(lost, won)));
  const bar = (kind, value) => h("span", { class: `wbw-flips-half wbw-flips-${kind}` },
    h("span", { class: "wbw-flips-count" }, value ? (kind === "lost" ? `−${value}` : `+${value}`) : ""), h("span", { class: "wbw-flips-bar", style: `--wbw-part: ${value / most}` }));
  const [were, left, came] = flips.labelled ? ["right", "lost", "won"] : ["answers", "left", "came"];
  const head = h("div", { class: "wbw-flips-row wbw-flips-head", role: "row" },
    ...[flips.labelled || flips.kind === "labels" ? noun : "answer", `${were} before`, "after", left, came].map((text) => h("span", { role: "columnheader" }, text)));
  const rows = flips.classes.map(([number, total, before, after, lost, won]) => {
    const chosen = flips.pick === `class:${number}`;
    const button = h("button", { type: "button", class: "wbw-flips-class", "aria-pressed": String(chosen), "data-testid": `flips-class-${number}`, title: `Show those of ${noun} ${named(number)} alone`,
      onclick: () => pick(chosen ? "all" : `class:${number}`) }, named(number));
    return h("div", { class: `wbw-flips-row${chosen ? " wbw-flips-chosen" : ""}`, role: "row", "data-testid": "flips-row" },
      h("span", { role: "cell" }, button), h("span", { role: "cell", title: flips.labelled ? `of ${total}` : null }, exact(before)), h("span", { role: "cell" }, exact(after)),
      ...[["lost", lost], ["won", won]].map(([kind, value]) => fillRole(bar(kind, value))));
  });
  const more = flips.more_classes ? h("p", { class: "wbw-caption" }, `and ${flips.more_classes} others that changed less`) : null;
  return h("div", { class: "wbw-flips-classes", role: "table", "aria-label": `changes by ${noun}` }, head, ...rows, more);
}
const fillRole = (node) => (node.setAttribute("role", "cell"), node);

// "4 → 9 +5": what is taken for what more often than before; of labels, which is said wrongly.
function confusionList(flips, pick) {
  const { named, said } = wordsFor(flips);
  return flips.confusions.map(([first, second, growth]) => {
    const name = `pair:${first}:${second}`;
    const text = flips.kind === "labels" ? `${named(first)}, wrongly ${said(second)}` : `${named(first)} → ${named(second)}`;
    return h("button", { type: "button", class: "wbw-button wbw-small wbw-flips-pair", "aria-pressed": String(flips.pick === name), "data-testid": "flips-pair",
      title: flips.labelled ? "So many answers more than before; show those alone" : "So many answers went this way; show them alone", onclick: () => pick(flips.pick === name ? "all" : name) },
    text, h("b", {}, ` +${growth}`));
  });
}

function exampleFigure(flips, one) {
  const { named, said } = wordsFor(flips);
  const sure = (value) => (value === null ? "" : ` ${value.toFixed(2)}`);
  const several = one.answers > 1 && flips.kind !== "values";
  const truth = flips.kind === "labels" ? `label ${named(one.position)}` : one.target === null ? "" : `true ${said(one.target)}`;
  const count = several ? `${one.lost + one.won + one.other} of ${one.answers}: −${one.lost} +${one.won}` : "";
  const grew = flips.kind === "values" ? `${flips.labelled ? "error " : ""}${one.change < 0 ? "−" : "+"}${percent(Math.abs(one.change))}` : "";
  const picture = one.image
    ? h("img", { src: one.image, width: PICTURED, height: PICTURED, alt: `example ${one.example}`, class: "wbw-flips-picture" })
    : h("p", { class: "wbw-flips-text" }, one.text);
  const how = one.how === "stretched" ? ", contrast stretched" : "";
  const side = flips.labelled || flips.kind === "values" ? SIDES[one.side] : "";
  return h("figure", { class: `wbw-flip wbw-flip-${one.side}`, "data-testid": "flip", "data-example": one.example, "data-side": one.side,
    title: `Example ${one.example}${side ? `: ${flips.kind === "values" ? { lost: "its error grew", won: "its error fell", other: "its outputs moved" }[one.side] : side}` : ""}, change ${one.change.toFixed(2)}${several ? `, most at ${one.position}` : ""}${how}` },
  picture, h("figcaption", {}, truth ? h("span", { class: "wbw-flips-true" }, truth) : null, h("span", {}, `${said(one.before)}${sure(one.sure_before)}`),
    h("span", { class: "wbw-flips-after" }, `→ ${said(one.after)}${sure(one.sure_after)}`), count || grew ? h("span", { class: "wbw-caption" }, count || grew) : null));
}

export function drawFlips(state, el, on) {
  const sub = h("span", { class: "wbw-sub wbw-flips-title" });
  const against = h("select", { class: "wbw-select", "data-testid": "flips-against", "aria-label": "set against",
    onchange: () => (waiting() ? paint() : openFlips(state, state.get("flips").of, against.value)) }, ...FLIPS_AGAINST.map(([value, words]) => h("option", { value }, words)));
  const close = h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": "flips-close", onclick: () => shut() }, "Close");
  const line = h("p", { class: "wbw-flips-line", "data-testid": "flips-line" });
  told(state, on, line);
  const scores = h("p", { class: "wbw-caption wbw-flips-scores" });
  const [sides, classes, pairs, gallery] = [h("div", { class: "wbw-flips-sides" }), h("div", {}), h("div", { class: "wbw-flips-pairs" }), h("div", { class: "wbw-flips-gallery", "data-testid": "flips-gallery" })];
  const pairsTitle = h("span", {});
  const pairsHead = h("h4", {}, pairsTitle, question(state, "confusion", "a confusion"));
  const note = h("p", { class: "wbw-caption wbw-flips-note" });
  const more = h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": "flips-more", onclick: () => again(state.get("flips").pick, state.get("flips").count + FLIPS_PAGE) });
  const right = h("div", { class: "wbw-flips-right", tabindex: 0, role: "region", "aria-label": "examples that changed" }, gallery, h("div", { class: "wbw-flips-more" }, more, note, question(state, "margin", "the largest change")));
  const left = h("div", { class: "wbw-flips-left", tabindex: 0, role: "region", "aria-label": "changes by class" }, classes, pairsHead, pairs);
  const body = h("div", { class: "wbw-flips-body" }, left, right);
  const again = (pick, count = FLIPS_PAGE) => waiting() || openFlips(state, state.get("flips").of, state.get("flips").against, pick, count);
  const waiting = () => busy(state) || !alive(state);
  const shut = () => state.wbwFlipsOpen && showCard(state, "");
  setAttributes(el, { role: "dialog", "aria-label": "Which examples changed", "data-testid": "flips-card" });
  el.classList.add("wbw-card");
  el.append(h("div", { class: "wbw-flips-top" }, h("h3", { class: "wbw-heading" }, "Which examples changed", question(state, "answers that changed", "a changed answer"), sub), against, close), errorBox(state, on, "flips"), line, scores, sides, body);

  // Buttons are not disabled while they are answered, which would take the focus from them.
  const off = () => el.querySelectorAll(".wbw-flips-sides button, .wbw-flips-left button, .wbw-flips-more button").forEach((node) => node.setAttribute("aria-disabled", waiting()));
  // What had the focus is drawn anew, or is gone: it stays in the card, where Escape is heard.
  const keepingFocus = (draw) => {
    const held = el.contains(focusIn(el)) ? focusIn(el) : null;
    draw();
    if (!held || (held.isConnected && held.checkVisibility())) return;
    const same = held.dataset.testid === "flips-pair" ? null : el.querySelector(`[data-testid="${held.dataset.testid}"]`);
    (same?.checkVisibility() ? same : right.checkVisibility() ? right : close).focus({ preventScroll: true });
  };
  const paint = () => {
    const flips = state.get("flips");
    const asked = state.wbwFlips ?? {};
    const mine = flips.line && flips.of === asked.of && flips.against === asked.against;
    const { what = "", done = 0, total = 0 } = state.get("progress");
    setText(line, mine ? `${unbroken(`${flips.line[0].toUpperCase()}${flips.line.slice(1)}`)}.` : what ? `${what}${total ? ` ${done} of ${total}` : ""} …` : "");
    for (const node of [scores, sides, body]) node.hidden = !mine;
    against.hidden = typeof asked.of !== "number";
    against.value = asked.against ?? FLIPS_AGAINST[0][0];
    if (!mine) return setText(sub, "");
    setText(sub, `${flips.title}${typeof flips.of === "number" ? "" : ", against the present network"}`);
    setText(scores, scoresLine(flips));
    if (el.wbwShown === flips) return off();
    el.wbwShown = flips;
    body.hidden = !flips.changed;
    sides.hidden = !flips.changed || (!flips.lost && !flips.won);
    sides.replaceChildren(...[["all", "all that changed"], ...Object.entries(SIDES)].filter(([side]) => flips.sides[side]).map(([side, text]) =>
      h("button", { type: "button", class: `wbw-button wbw-small wbw-flips-side wbw-flips-${side}`, "aria-pressed": String(flips.pick === side), "data-testid": `flips-${side}`, onclick: () => again(side) },
        flips.kind === "values" && side !== "all" ? { lost: "error grew", won: "error fell", other: "moved" }[side] : text, h("b", {}, ` ${exact(flips.sides[side])}`))));
    left.hidden = !flips.classes.length;
    classes.replaceChildren(...(flips.classes.length ? [classTable(flips, again)] : []));
    pairsHead.hidden = !flips.confusions.length;
    setText(pairsTitle, flips.labelled ? "Confusions that grew" : "Where answers went");
    pairs.replaceChildren(...confusionList(flips, again));
    gallery.replaceChildren(...flips.items.map((one) => exampleFigure(flips, one)));
    if (!flips.items.length) gallery.append(h("p", { class: "wbw-empty" }, flips.pick.startsWith("pair:") ? "These answers were wrong in both, or are not their example's largest change." : "None of these changed."));
    const last = Math.min(flips.count, flips.most);
    more.hidden = flips.picked <= last || last >= flips.most;
    setText(more, `${Math.min(FLIPS_PAGE, flips.picked - last)} more`);
    setText(note, `${exact(flips.items.length)} of ${exact(flips.picked)}, the largest change first${flips.items.some((one) => one.how) ? "; contrast stretched from each image's least to its largest number" : ""}${flips.kind === "values" ? `; changes relative to the spread of the ${flips.labelled ? "targets" : "outputs"}` : ""}`);
    off();
  };
  on("card", () => {
    state.wbwFlipsOpen = state.card === "flips";
    if (state.wbwFlipsOpen === !el.hidden) return;
    el.hidden = !state.wbwFlipsOpen;
    if (!state.wbwFlipsOpen) {
      // The history's button was drawn anew meanwhile, with what is known of its step now.
      const focus = focusIn(el);
      if (!focus || focus === document.body || el.contains(focus)) el.closest(".wbw-root")?.querySelector(`[data-testid="history-flips-${state.wbwFlips?.of}"]`)?.focus({ preventScroll: true });
      return;
    }
    close.focus({ preventScroll: true });
    el.scrollIntoView({ block: "nearest" }); // Try stands at the end of the page, the card begins at its top
  });
  on("flips progress card", () => keepingFocus(paint));
  on("progress kernel", off);
  on("revision", () => state.get("flips").line && state.get("flips").revision !== state.get("revision") && shut()); // of another network
}
