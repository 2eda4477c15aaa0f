// Home, End, PageUp and PageDown in lists, beside the arrows.

import { focusIn } from "./shared.js";

const TO_THE_END = 1e6; // more rows than any list has

// Rows that a key moves by in `list`, a page being what is in sight; 0 for other keys. `node`: the row that has the focus.
export function listSteps(event, list, node) {
  if (event.ctrlKey || event.metaKey || event.altKey) return 0;
  const height = node?.offsetHeight || list.firstElementChild?.offsetHeight || 1;
  const page = Math.max(1, Math.floor(list.clientHeight / height) - 1);
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -TO_THE_END, End: TO_THE_END }[event.key] ?? 0;
  if (step) event.preventDefault();
  return step;
}

// The same keys carry the focus from one row's button or box to another's; what takes keys of its own, a field or a
// slider, keeps them. `selector`: what they move among.
export function moveAmong(list, selector) {
  list.addEventListener("keydown", (event) => {
    const all = [...list.querySelectorAll(selector)].filter((one) => !one.disabled);
    const at = all.indexOf(focusIn(list));
    if (at < 0) return;
    const step = listSteps(event, list, all[at].closest("li"));
    if (!step) return;
    const to = all[Math.min(Math.max(at + step, 0), all.length - 1)];
    to.focus();
  });
}
