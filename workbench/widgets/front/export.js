// Where the pruned network goes: exported for use without this package, or saved as a session to go on with.

import { FORMATS } from "./constants.js";
import { h, setText, send, update } from "./shared.js";
import { entry, checkBox, plainButton, card } from "./cards.js";

export function drawExport(state, el, on) {
  const folder = entry("folder", "Folder, from the notebook's own", "");
  const boxes = FORMATS.map(([name, label, hint]) => checkBox(name, label, hint));
  boxes[0].input.checked = true;
  boxes[0].input.disabled = true;
  let answer = () => {};
  const where = () => folder.input.value.trim();
  const ask = (command, rest) => () => {
    answer = (yes, over) => yes && send(state, command, { folder: where(), replace: true, ...rest(), ...over });
    send(state, command, { folder: where(), replace: false, ...rest() });
  };
  const askOpen = () => {
    answer = (yes) => send(state, "open_saved", { folder: where(), take_over: yes, read_only: !yes });
    send(state, "open_saved", { folder: where(), take_over: false, read_only: false });
  };
  const formats = () => ({ formats: FORMATS.map(([name]) => name).filter((name, i) => boxes[i].input.checked) });
  const save = plainButton("save", "Save session", () => save.getAttribute("aria-disabled") !== "true" && ask("save", () => ({ take_over: false }))());
  save.title = "Recipe, moments and weights of every branch, up to its present step: Session.open goes on from there";
  const open = plainButton("open-saved", "Open session", () => open.getAttribute("aria-disabled") !== "true" && askOpen());
  open.title = "The session that was saved in this folder, in place of the present one, which is kept";
  const page = plainButton("page", "Page (HTML)", () => page.getAttribute("aria-disabled") !== "true" && ask("page", () => ({}))());
  page.title = "One file that moves without Python: spectra, λ, widths, losses and totals, for any browser";
  page.hidden = !state.get("pages");
  const words = h("span", {});
  const answered = (yes) => () => {
    const over = state.get("question").take_over ? { take_over: true } : {};
    update(state, { question: {} });
    folder.input.focus();
    answer(yes, over);
  };
  const replace = plainButton("replace", "Replace", answered(true));
  const keep = plainButton("keep", "Keep", answered(false));
  const question = h("div", { class: "wbw-replacing", "data-testid": "question" }, words, replace, keep);
  const undone = h("p", { class: "wbw-hint", "data-testid": "undone" }, "Undone steps are not written: press Redo first to keep them.");
  const frame = card(state, el, on, { name: "export", title: "Export, save or open", sub: "", submitText: "Export", submit: ask("export", formats),
    body: [h("div", { class: "wbw-fields" }, folder.node), h("div", { class: "wbw-choices" }, ...boxes.map((box) => box.node)), undone, question],
    aside: [save], buttons: [open, page], commands: ["export", "save", "page", "open_saved"] });
  frame.form.addEventListener("input", () => state.get("question").words && update(state, { question: {} }));

  on("can_redo", () => (undone.hidden = !state.get("can_redo")));
  let offered = "";
  on("folder", () => {
    const wanted = state.get("folder");
    if (folder.input.value === offered) folder.input.value = wanted;
    offered = wanted;
  });
  on("unavailable", () => {
    boxes.forEach((box, i) => {
      const [name, , hint] = FORMATS[i];
      const reason = state.get("unavailable")[name];
      if (i) box.input.disabled = Boolean(reason);
      if (reason) box.input.checked = false;
      setText(box.note, reason ?? hint);
      box.note.title = reason ?? "";
    });
  });
  on("question", () => {
    const { words: asked, yes = "Replace", no = "Keep" } = state.get("question");
    setText(replace, yes);
    setText(keep, no);
    const fresh = asked && question.hidden;
    question.hidden = !asked;
    setText(words, asked ?? "");
    if (fresh && state.card === "export") keep.focus({ preventScroll: true });
  });
}
