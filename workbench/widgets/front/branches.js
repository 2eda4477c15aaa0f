// The branches: a menu in the header; a new one's name, and whether one is to go, are asked in the same place.

import { h, setText, setOff, alive, busy, send } from "./shared.js";

const NEW = "\u0000new"; // no branch is called so
const DROP = "\u0000drop"; // before the name of the one that is to go

export function branchMenu(state, on) {
  const menu = h("select", { class: "wbw-select", "data-testid": "branch", "aria-label": "branch", title: "Several ways from the same original network, kept by name" });
  const name = h("input", { type: "text", class: "wbw-select", "data-testid": "branch-name", placeholder: "name of the new branch", "aria-label": "name of the new branch", spellcheck: "false", autocomplete: "off" });
  const make = h("button", { type: "submit", class: "wbw-button wbw-small", "data-testid": "branch-make" }, "Branch");
  const stop = h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": "branch-stop", onclick: () => asking(false) }, "Close");
  const form = h("form", { class: "wbw-branch-form", novalidate: true, hidden: true, onsubmit: (event) => {
    event.preventDefault();
    if (!name.value.trim() || busy(state)) return name.focus();
    send(state, "fork", { name: name.value });
    asking(false);
  } }, name, make, stop);
  const words = h("span", { class: "wbw-name" });
  const gone = h("button", { type: "submit", class: "wbw-button wbw-small", "data-testid": "branch-drop-go" }, "Drop");
  const keep = h("button", { type: "button", class: "wbw-button wbw-small", "data-testid": "branch-drop-stop", onclick: () => dropping("") }, "Keep");
  const question = h("form", { class: "wbw-branch-form", hidden: true, onsubmit: (event) => {
    event.preventDefault();
    if (busy(state)) return;
    send(state, "drop", { name: question.dataset.name });
    dropping("");
  } }, words, gone, keep);
  const label = h("label", { class: "wbw-branch" }, h("span", { class: "wbw-caption" }, "branch"), menu);
  const asking = (yes) => {
    form.hidden = !yes;
    label.hidden = yes;
    menu.value = state.get("branch");
    if (yes) name.value = "";
    (yes ? name : menu).focus({ preventScroll: true });
  };
  const dropping = (branch) => {
    question.hidden = !branch;
    label.hidden = Boolean(branch);
    question.dataset.name = branch;
    menu.value = state.get("branch");
    setText(words, `Drop ${branch}?`);
    words.title = words.textContent;
    (branch ? keep : menu).focus({ preventScroll: true });
  };
  question.addEventListener("keydown", (event) => event.key === "Escape" && (event.stopPropagation(), dropping("")));
  form.addEventListener("keydown", (event) => event.key === "Escape" && (event.stopPropagation(), asking(false)));
  menu.addEventListener("change", () => {
    if (menu.value === NEW) asking(true);
    else if (menu.value.startsWith(DROP)) dropping(menu.value.slice(DROP.length));
    else send(state, "switch", { name: menu.value });
  });
  on("branch branches error", () => {
    const names = (state.get("branches") ?? []).map((one) => one.name);
    const others = names.filter((one) => one !== state.get("branch"));
    menu.replaceChildren(...names.map((one) => h("option", { value: one }, one)), h("hr", {}), h("option", { value: NEW }, "New branch…"),
      ...others.map((one) => h("option", { value: DROP + one }, `Drop ${one}…`)));
    menu.value = state.get("branch");
  });
  on("progress kernel measured", () => setOff(menu, busy(state) || !alive(state) || !state.get("measured"), "This needs a measured network, and nothing that runs"));
  return h("div", { class: "wbw-branches" }, label, form, question);
}
