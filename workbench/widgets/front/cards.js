// Cards: forms that open over the areas when a button of the header asks for them. Not modal: the rest stays
// usable. Escape closes, and the focus goes into the card and back.

import { h, setText, setAttributes, alive, busy, update, showCard, errorBox } from "./shared.js";

// A labelled text entry; the caption stands above it, the hint beside the caption.
export function entry(key, label, placeholder, hint = "", columns = 12) {
  const input = h("input", { type: "text", class: "wbw-select", "data-testid": key, placeholder, spellcheck: "false", autocomplete: "off" });
  const node = h("label", { class: "wbw-field", style: `grid-column: span ${columns}`, title: hint }, h("span", { class: "wbw-caption" }, label), input);
  return { key, label, input, node };
}
// A labelled menu in the same form; `options`: [value, words, …, hint] each. Its title is the chosen one's hint.
export function pick(key, label, options, columns) {
  const input = h("select", { class: "wbw-select", "data-testid": key },
    ...options.map(([value, words, ...more]) => h("option", { value, title: more.at(-1) || null }, words)));
  const node = h("label", { class: "wbw-field", style: `grid-column: span ${columns}` }, h("span", { class: "wbw-caption" }, label), input);
  const hint = () => (node.title = input.selectedOptions[0]?.title ?? "");
  input.addEventListener("change", hint);
  hint();
  return { key, label, input, node, hint };
}
export function checkBox(key, label, hint = "") {
  const input = h("input", { type: "checkbox", "data-testid": key });
  const note = h("span", { class: "wbw-caption" }, hint);
  return { key, input, note, node: h("label", { class: "wbw-check" }, input, h("span", {}, label), note) };
}
export const plainButton = (testid, text, onclick) => h("button", { type: "button", class: "wbw-button", "data-testid": testid, onclick }, text);

// The card `name` in `el`: heading, `body`, errors, `buttons` with the one that `submit` belongs to first.
// `commands` are those whose success closes it; `aside` are buttons that may be pressed while something runs.
export function card(state, el, on, { name, title, sub, body, submitText, submit, buttons, aside = [], commands }) {
  const heading = h("h3", { class: "wbw-heading" }, title, h("span", { class: "wbw-sub" }, sub));
  const go = h("button", { type: "submit", class: "wbw-button wbw-primary", "data-testid": `${name}-go` }, submitText);
  const close = () => {
    if (state.card !== name) return;
    if (state.get("error") && state.get("error_at") === name) update(state, { error: "" });
    showCard(state, "");
  };
  const why = h("span", { class: "wbw-status-text" });
  const form = h("form", { class: "wbw-form", novalidate: true, onsubmit: (event) => {
    event.preventDefault();
    if (go.getAttribute("aria-disabled") !== "true") submit();
  } }, heading, ...body, errorBox(state, on, name),
  h("div", { class: "wbw-form-deeds" }, go, ...aside, ...buttons, plainButton(`${name}-close`, "Close", close), why));
  setAttributes(el, { role: "dialog", "aria-label": title, "data-testid": `${name}-card` });
  el.classList.add("wbw-card");
  el.append(form);

  on("card", () => {
    const shown = state.card === name;
    if (shown === !el.hidden) return;
    el.hidden = !shown;
    if (shown) form.querySelector("input:not(:disabled)").focus({ preventScroll: true });
  });
  on("progress kernel", () => {
    const reason = !alive(state) ? "This needs a running kernel" : busy(state) ? state.get("progress").what || "Something is running: see above" : "";
    for (const button of [go, ...buttons]) button.setAttribute("aria-disabled", Boolean(reason));
    for (const button of aside) button.setAttribute("aria-disabled", !alive(state));
    setText(why, reason);
  });
  let ended = state.get("ended").count;
  on("ended", () => {
    const { command, how, count } = state.get("ended");
    if (count === ended) return;
    ended = count;
    if (how === "done" && commands.includes(command) && !state.get("question").words) close();
  });
  let told = state.get("error");
  on("error error_at", () => {
    const error = state.get("error_at") === name ? state.get("error") : "";
    if (error && error !== told && state.card !== name) showCard(state, name);
    told = error;
  });
  return { form, close };
}
