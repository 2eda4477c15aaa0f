// Files on the kernel's side for the fields of the Load card: a button beside each opens the list, which begins in the
// notebook's folder (browsing.py). Arrows move, Enter takes or opens, Backspace goes up, Escape closes.

import { h, setText, alive, send, focusIn } from "./shared.js";
import { cellTable } from "./cellkeys.js";
import { told } from "./telling.js";

const CHOSEN_FROM = ["model", "checkpoint", "calibration", "evaluation", "training", "targets"];
const OPENED = new Set(["folder", "code"]);

export function filePicker(state, on, fields) {
  let [field, from] = [null, null]; // for which it is open, and the button that opened it
  const where = h("span", { class: "wbw-caption" });
  const outside = h("p", { class: "wbw-picker-outside", "data-testid": "picker-outside" }, "Outside the notebook's folder: the path is written in full.");
  const wrong = told(state, on, h("p", { class: "wbw-picker-wrong", "data-testid": "picker-wrong" }));
  const list = h("ol", { class: "wbw-picker-list wbw-scroll", "data-testid": "picker-list", "aria-label": "files" });
  const more = h("p", { class: "wbw-caption" });
  const up = h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": "picker-up", title: "The folder above (Backspace)", onclick: () => ask(state.get("listing").up) }, "Up");
  const whole = h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": "picker-folder", title: "A folder of images, or of IDX files", onclick: () => take(state.get("listing").value) }, "Use this folder");
  const close = h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": "picker-close", onclick: () => shut() }, "Close");
  const title = h("h4", {});
  const node = h("div", { class: "wbw-picker", role: "group", "aria-label": "choose a file", "data-testid": "picker", tabindex: -1, hidden: true },
    h("div", { class: "wbw-picker-head" }, title, where, up, whole, close), outside, wrong, list, more);
  const fill = cellTable(list);
  let fresh = false; // whether the list takes the focus once it is there

  const ask = (folder) => {
    fresh = true;
    if (focusIn(node) === whole) node.focus({ preventScroll: true });
    whole.disabled = true; // what is listed until the answer comes is another folder
    list.setAttribute("aria-busy", "true");
    send(state, "browse", { folder, field: field.key });
  };
  const shut = () => {
    if (node.hidden) return;
    node.hidden = true;
    from?.focus({ preventScroll: true });
  };
  const take = (value) => {
    field.input.value = value;
    field.input.dispatchEvent(new Event("input"));
    node.hidden = true;
    field.input.focus({ preventScroll: true });
  };
  const row = (entry) => {
    const opens = OPENED.has(entry.kind);
    const button = h("button", { type: "button", class: `wbw-picker-entry wbw-picker-${entry.kind}`, "data-testid": "picker-entry", "data-cell": entry.name, title: entry.name,
      "aria-label": `${entry.name}, ${entry.kind}${entry.note ? `, ${entry.note}` : ""}`, onclick: () => (opens ? ask(entry.value) : take(entry.value)) },
    h("span", { class: "wbw-picker-name" }, entry.name + (entry.kind === "folder" ? "/" : "")), h("span", { class: "wbw-caption" }, entry.note));
    return h("li", {}, button);
  };
  for (const one of fields.filter(({ key }) => CHOSEN_FROM.includes(key))) {
    const name = one.label.split(/[:,]/)[0];
    const open = h("button", { type: "button", class: "wbw-button wbw-small wbw-browse", "data-testid": `browse-${one.key}`, "aria-label": `browse for ${name}`, title: `Browse for ${name} in the notebook's folder`,
      onclick: () => {
        [field, from] = [one, open];
        setText(title, name);
        fill([]); // what is there may have been listed for another field
        node.hidden = false;
        node.focus({ preventScroll: true }); // so that Escape is the list's from now on
        ask("");
      } }, "…");
    one.input.setAttribute("aria-label", one.label); // the label holds the button too
    one.node.classList.add("wbw-with-browse");
    one.node.append(open);
    on("kernel measured", () => (open.disabled = !alive(state)));
  }
  node.addEventListener("keydown", (event) => {
    if (event.key === "Escape") shut();
    else if (event.key === "Backspace" && !up.disabled) ask(state.get("listing").up);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  on("listing", () => {
    const answer = state.get("listing") ?? {};
    if (node.hidden || answer.field !== field?.key) return;
    whole.disabled = false;
    list.removeAttribute("aria-busy");
    wrong.hidden = !answer.wrong;
    setText(wrong, answer.wrong ? `${answer.wrong}.` : "");
    if (answer.wrong) return; // what was listed before stays
    setText(where, answer.place);
    where.title = answer.path;
    outside.hidden = !answer.outside;
    up.disabled = !answer.up;
    whole.hidden = !answer.value;
    setText(more, answer.more ? `${answer.more} more are not listed: type the path.` : answer.entries.length ? "" : "Nothing here that this field can load.");
    more.hidden = !more.textContent;
    fill(answer.entries.map(row));
    list.scrollTop = 0;
    if (fresh && node.contains(focusIn(node))) (list.querySelector("[data-cell]") ?? up).focus({ preventScroll: true });
    fresh = false;
  });
  on("card", () => state.card === "load" || (node.hidden = true));
  return node;
}
