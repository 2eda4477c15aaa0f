// The height of the window, to its end: what the panels have beyond their least stands in --wbw-extra.

const SCROLLERS = ".jp-WindowedPanel-outer, .jp-NotebookPanel-notebook, .jp-LinkedOutputView"; // of JupyterLab; else the window
const FREE_BELOW = 24; // pixels that stay free below the workbench
const NEAR_THE_TOP = 0.3; // of the height: what stands above the workbench counts where it is no more than this
// The least height of all below the header, with the gaps: of the wide layout, of the middle one without its history,
// and of what is projected without its plot.
const LEAST_WIDE = 8 + 398 + 8 + 131;
const LEAST_BETWEEN = 8 + 46 + 8 + 398;
const LEAST_PROJECTED = 8 + 46 + 8 + 8 + 82;

// Returns what measures anew, for what changes the type's size.
export function useRoom(root, header, on) {
  let scroller = null;
  let size = null; // of the window, the header and what stands above: read when they change, and not between two writes
  const shown = { extra: "", between: false };
  const apply = () => {
    if (!size) return;
    const isLayer = root.dataset.tab === "layer";
    const between = size.width > 600 && size.width <= 900;
    const least = isLayer && size.larger > 1 ? LEAST_PROJECTED : size.width > 900 ? LEAST_WIDE : between && isLayer ? LEAST_BETWEEN : Infinity;
    const extra = `${Math.max(0, Math.floor(size.room - size.header - least))}px`;
    const menu = isLayer && (between || size.larger > 1);
    if (extra !== shown.extra) root.style.setProperty("--wbw-extra", extra);
    if (menu !== shown.between) root.classList.toggle("wbw-between", menu);
    Object.assign(shown, { extra, between: menu });
  };
  const measure = () => {
    if (!header.offsetHeight) return;
    if (!scroller) {
      scroller = root.closest(SCROLLERS) ?? window;
      if (scroller !== window) observer.observe(scroller);
    }
    const height = scroller.clientHeight ?? window.innerHeight;
    const top = root.getBoundingClientRect().top;
    const above = scroller === window ? top + window.scrollY : top - scroller.getBoundingClientRect().top + scroller.scrollTop;
    const larger = Number(root.style.zoom) || 1;
    const room = (height - (above <= NEAR_THE_TOP * height ? above : 0) - FREE_BELOW) / larger;
    size = { larger, room, width: header.offsetWidth, header: header.offsetHeight };
    apply();
  };
  const observer = new ResizeObserver(measure);
  observer.observe(header);
  window.addEventListener("resize", measure);
  on("tab", apply);
  on.end(() => (observer.disconnect(), window.removeEventListener("resize", measure)));
  return measure;
}
