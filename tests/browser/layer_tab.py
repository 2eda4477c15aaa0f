"""The hand and the eye of the tests of the tab Layer: drag, wait, read, and look for what is cut off."""

from playwright.sync_api import expect

MEASURED = 60_000


# What stands outside the workbench or the window, what scrolls sideways, and words cut off by their box.
OVERFLOW = """() => {
  const root = document.querySelector('[data-testid=workbench]');
  const box = root.getBoundingClientRect();
  const all = (scope, names) => [...scope.querySelectorAll(names)].filter(node => node.checkVisibility());
  const outside = (node) => {
    const one = node.getBoundingClientRect();
    const sideways = one.right > box.right + 1 || one.left < box.left - 1;
    return one.width && (sideways || one.bottom > innerHeight + 1);
  };
  const below = (node) => {
    const panel = node.closest('.wbw-panel');
    return panel && node.getBoundingClientRect().bottom > panel.getBoundingClientRect().bottom;
  };
  const inList = (node) => node.closest('[role=listbox], .wbw-steps');
  const wide = (node) => node.scrollWidth > node.clientWidth + 1;
  const words = all(root, '.wbw-caption, .wbw-number, button, h4')
    .filter(node => getComputedStyle(node).display !== 'inline');
  return {
    cut: all(root, 'button, select, input, output, h3, h4, .wbw-caption, .wbw-number, .wbw-hint, svg')
      .filter(node => !inList(node) && (outside(node) || below(node)))
      .map(node => node.outerHTML.slice(0, 120)),
    wide: [document.scrollingElement, ...document.querySelectorAll('.jp-Notebook, .jp-OutputArea-output')]
      .filter(wide).map(node => node.className),
    clipped: words.filter(wide).map(node => node.textContent),
  };
}"""

# From now on, every λ that the line is drawn at.
WATCH_LAM = """() => {
  window.lams = [];
  const line = document.querySelector('[data-testid=lam-line]');
  new MutationObserver(() => window.lams.push(Number(line.getAttribute('aria-valuenow'))))
    .observe(line, { attributes: true, attributeFilter: ['aria-valuenow'] });
}"""


def drawn(bench):
    """Until what has happened so far is on the screen."""
    bench.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def settle(bench):
    """Until the kernel has heard of the last move and its numbers answer it, and nothing runs."""
    drawn(bench)
    bench.page.wait_for_timeout(200)
    expect(bench.page.locator("[data-current]")).to_have_attribute("data-current", "true", timeout=MEASURED)
    expect(bench.find("cancel")).to_be_hidden(timeout=MEASURED)


def expect_whole(bench):
    """Nothing stands outside its panel or the window, scrolls sideways, or has its words cut off."""
    assert bench.page.evaluate(OVERFLOW) == {"cut": [], "wide": [], "clipped": []}


def put_off(bench):
    """Answer the line that offers an earlier session, where it stands: it makes the page longer."""
    expect(bench.find("cancel")).to_be_hidden(timeout=MEASURED)
    if bench.find("offer").is_visible():
        bench.find("put-off").click()
    expect(bench.find("offer")).to_be_hidden()


def number(bench, testid):
    return float(bench.find(testid).get_attribute("data-value"))


def relative_lam(bench):
    drawn(bench)
    return float(bench.find("lam-line").get_attribute("aria-valuenow"))


def drag_lam_to(bench, share):
    """Drag the λ line to a share of the plot's height, as a hand does."""
    mouse = bench.page.mouse
    line = bench.find("lam-line").locator(".wbw-grip").bounding_box()
    plot = bench.find("spectrum-plot").locator(".wbw-surface").bounding_box()
    mouse.move(line["x"] + line["width"] / 2, line["y"] + line["height"] / 2)
    mouse.down()
    mouse.move(line["x"] + line["width"] / 2, plot["y"] + share * plot["height"], steps=5)
    mouse.up()


def readouts(bench):
    settle(bench)
    names = ("N", "N-share", "width", "guaranteed", "input-loss", "output-loss", "error", "params-saved")
    return {name: number(bench, f"readout-{name}") for name in names}
