// What one eigenvalue is in numbers, where a hand points at its bar or the keys go along them.

import { THIN, clamp, s, setText, setAttributes, scientific, percent, freedomText, eigenvaluesOf, lamOf, arrowSteps } from "./shared.js";
import { traceOf } from "./math.js";

const NOTE = { width: 322, height: 40, gap: 12 };

// [what it is, what λ makes of it] of the eigenvalue at `index`, the largest being 0.
function inNumbers(state, index) {
  const eigenvalues = eigenvaluesOf(state);
  const lam = lamOf(state, eigenvalues);
  const share = (mu) => mu / (mu + lam) || 0;
  const mu = eigenvalues[index];
  const sum = eigenvalues.subarray(0, index + 1).reduce((total, one) => total + share(one), 0);
  return [`μ no. ${index + 1} of ${eigenvalues.length} = ${scientific(mu)}, ${percent(mu / traceOf(eigenvalues))} of Tr${THIN}Σ`,
    `share ${percent(share(mu))} · cumulative N = ${freedomText(sum)}`];
}

// Over the plot whose places `placeOf` gives (null before it is drawn): follows `surface`, and takes the keys itself.
export function eigenPointer(state, surface, placeOf) {
  const line = s("rect", { class: "wbw-pointed-bar" });
  const texts = [s("text", { class: "wbw-value", x: 9, y: 16 }), s("text", { class: "wbw-pointed-text", x: 9, y: 33 })];
  const note = s("g", {}, s("rect", { class: "wbw-pointed-note", width: NOTE.width, height: NOTE.height, rx: 4 }), ...texts);
  const shown = s("g", { style: "display:none", "data-testid": "pointed" }, line, note);
  const node = s("g", { class: "wbw-pointer", tabindex: 0, role: "slider", "aria-label": "an eigenvalue", "aria-valuemin": 1, "aria-valuenow": 1, "data-testid": "eigen-pointer" }, shown);
  let pointed = -1;
  const hide = () => {
    if (pointed < 0) return;
    pointed = -1;
    shown.style.display = "none";
  };
  const point = (index) => {
    const at = placeOf();
    const m = eigenvaluesOf(state).length;
    if (!at || !m) return hide();
    pointed = clamp(index, 0, m - 1);
    const [what, made] = inNumbers(state, pointed);
    const [left, right] = [at.x(pointed), Math.max(at.x(pointed + 1), at.x(pointed) + 1)];
    setAttributes(line, { x: left, y: at.box.top, width: right - left, height: at.strip - at.box.top });
    const beside = right + NOTE.gap + NOTE.width < at.box.right ? right + NOTE.gap : Math.max(at.box.left, left - NOTE.gap - NOTE.width);
    note.setAttribute("transform", `translate(${beside.toFixed(1)} ${at.box.top + 2})`);
    setText(texts[0], what);
    setText(texts[1], made);
    setAttributes(node, { "aria-valuemax": m, "aria-valuenow": pointed + 1, "aria-valuetext": `${what}; ${made}` });
    shown.style.display = "";
  };
  surface.addEventListener("pointermove", (event) => {
    const at = placeOf();
    if (!at || event.buttons) return hide(); // λ is dragged
    const m = eigenvaluesOf(state).length;
    point(Math.floor(at.x.invert(event.offsetX * (surface.ownerSVGElement.viewBox.baseVal.width / surface.ownerSVGElement.width.baseVal.value)) + 1e-9) % Math.max(m, 1));
  });
  surface.addEventListener("pointerleave", () => node.matches(":focus") || hide());
  node.addEventListener("focus", () => point(Math.max(pointed, 0)));
  node.addEventListener("blur", hide);
  node.addEventListener("keydown", (event) => {
    const steps = { Home: -Infinity, End: Infinity }[event.key] ?? arrowSteps(event, 10);
    if (!steps) return;
    event.preventDefault();
    point(clamp(pointed + steps, 0, eigenvaluesOf(state).length - 1));
  });
  return { node, hide };
}
