// Dark or light, as the page around the workbench has it. JupyterLab's and Voilà's themes reach it through the
// style sheet; other hosts name theirs in their own ways, and may draw into a tree that no style of the page reaches.

const BY_STYLE = "[data-jp-theme-light], .theme-light, .theme-dark";
const DARK = '.dark, .dark-theme, .vscode-dark, [data-theme="dark"], [data-bs-theme="dark"], [theme="dark"]';

export function followHost(root, on) {
  const places = [document.documentElement, document.body];
  const paint = () => {
    const dark = !places.some((one) => one.matches(BY_STYLE)) && places.some((one) => one.matches(DARK));
    root.classList.toggle("wbw-dark", dark);
  };
  const observer = new MutationObserver(paint);
  places.forEach((one) => observer.observe(one, { attributes: true }));
  on.end(() => observer.disconnect());
  paint();
}
