"""What the tests of the tabs beside Layer share: the way to a fresh budget, a look for what is cut off."""

from playwright.sync_api import expect

PATIENCE = 90_000

# Words cut off by their box, and what stands outside the panel of the tab or the window.
CUT = """() => {
  const panels = [...document.querySelectorAll('.wbw-root [role=tabpanel]')];
  const panel = panels.find(node => node.checkVisibility());
  const all = [...panel.querySelectorAll('*')].filter(node => node.checkVisibility());
  const box = panel.getBoundingClientRect();
  const listed = node => node.closest('.wbw-budget-list, .wbw-scroll');
  const out = all.filter(node => {
    const one = node.getBoundingClientRect();
    const below = !listed(node) && (one.bottom > box.bottom + 1 || one.bottom > innerHeight + 1);
    return one.width && (one.right > box.right + 1 || one.left < box.left - 1 || below);
  });
  const words = '.wbw-caption, .wbw-cell, .wbw-of, button, h3, .wbw-check, .wbw-hint';
  const cut = all.filter(node => node.matches(words))
    .filter(node => node.scrollWidth > node.clientWidth + 1);
  return [...out, ...cut].map(node => node.outerHTML.slice(0, 140));
}"""

# The same sideways alone: in a narrow window the tab may be as long as it likes.
CUT_SIDEWAYS = CUT.replace("|| below", "").replace("const below", "const _below")


def to_budget(bench):
    """The budget tab on the original digits network with all its units."""
    if bench.kernel("Out[1].state.name") != "'digits-cnn'":
        bench.find("model-select").select_option("digits-cnn")
    settle(bench)
    if bench.find("reset").is_enabled():
        bench.find("reset").click()
        expect(bench.find("reset")).to_be_disabled()
    bench.find("tab-budget").click()
    expect(bench.find("budget-row-conv1")).to_be_visible(timeout=PATIENCE)
    for name in ("conv1", "conv2", "conv3", "fc1"):
        bench.find(f"budget-lock-{name}").uncheck()
    if bench.find("all-widths").is_enabled():
        bench.find("all-widths").click()
    settle(bench)
    return bench


def settle(bench):
    """Until nothing runs, and what was sent is on the screen."""
    bench.page.wait_for_timeout(250)
    expect(bench.find("cancel")).to_be_hidden(timeout=PATIENCE)


def set_width(bench, name, width):
    bench.find(f"budget-width-{name}").fill(str(width))
    bench.find(f"budget-width-{name}").press("Tab")
