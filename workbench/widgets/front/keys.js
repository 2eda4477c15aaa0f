// Keys that act anywhere in the workbench; the rest is kept from JupyterLab, whose shortcuts would
// otherwise insert cells while a number is typed.

import { busy, send, showCard } from "./shared.js";
import { project } from "./projector.js";

export function keys(state) {
  return (event) => {
    const undo = (event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "z";
    const modified = event.ctrlKey || event.metaKey || event.altKey || (event.shiftKey && event.key === "Enter");
    if (event.key === "Escape" && state.card) {
      showCard(state, "");
    } else if (event.key === "Escape" && state.projected && !event.currentTarget.querySelector(":popover-open")) {
      project(state, false);
    } else if (undo && event.target.matches("input:not([type=range], [type=checkbox])")) {
      // The entry's own undo.
    } else if (undo) {
      event.preventDefault();
      const command = event.shiftKey ? "redo" : "undo";
      if (!busy(state) && state.get(`can_${command}`)) send(state, command);
    } else if (modified) return;
    else if (event.key === "Enter" && !event.target.closest("button, select, input[type=number], input[type=text], a, form")) {
      event.preventDefault();
      const commit = { layer: "commit", budget: "commit-all" }[state.get("tab")];
      if (!event.repeat && commit) event.currentTarget.querySelector(`[data-testid="${commit}"]`)?.click();
    }
    event.stopPropagation();
  };
}
