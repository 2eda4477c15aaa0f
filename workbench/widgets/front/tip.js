// The whole of a name that is cut, beside the row that the keyboard stands on: a hint of the mouse shows on hover alone.

import { h, setText } from "./shared.js";

const AT_SIDES = 8; // pixels

// `rowOf(node)`: the row of what has the focus, null for none.
export function nameTip(list, on, rowOf) {
  const tip = h("div", { class: "wbw-tip", role: "tooltip", "data-testid": "name-tip", hidden: true });
  const hide = () => (tip.hidden = true);
  const show = (event) => {
    const name = event.target.matches(":focus-visible") ? rowOf(event.target)?.querySelector(".wbw-name") : null;
    const isCut = name && [name, ...name.querySelectorAll("span")].some((one) => one.scrollWidth > one.clientWidth + 1);
    tip.hidden = !name || !(isCut || name.dataset.name !== name.title);
    if (tip.hidden) return;
    setText(tip, name.title);
    const [box, place] = [name.getBoundingClientRect(), list.parentElement.getBoundingClientRect()];
    const larger = place.width / list.parentElement.offsetWidth || 1;
    tip.style.top = `${(box.bottom - place.top) / larger + 2}px`;
    tip.style.maxWidth = `${list.parentElement.offsetWidth - 2 * AT_SIDES}px`;
  };
  list.addEventListener("focusin", show);
  for (const away of ["focusout", "scroll", "pointerdown"]) list.addEventListener(away, hide);
  return tip;
}
