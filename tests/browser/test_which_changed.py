"""Which examples changed, in the browser: beside Try and each step, by class, confusion and picture."""

import re

import pytest
from layer_tab import OVERFLOW, put_off
from own_networks import OVERLAPPING
from playwright.sync_api import expect
from tabs import PATIENCE, set_width, settle, to_budget

# Words cut off by their box, and what stands outside the card or the window.
OUTSIDE = """() => {
  const card = document.querySelector('[data-testid=flips-card]');
  const box = card.getBoundingClientRect();
  const all = [...card.querySelectorAll('*')].filter(node => node.checkVisibility());
  const scrolled = node => node.closest('.wbw-flips-left, .wbw-flips-right, .wbw-flips-body');
  const out = all.filter(node => {
    const one = node.getBoundingClientRect();
    const below = !scrolled(node) && one.bottom > box.bottom + 1;
    return one.right > box.right + 1 || one.left < box.left - 1 || below;
  });
  const cut = all.filter(node => node.matches('button, h3, h4, .wbw-caption, .wbw-flips-count'))
    .filter(node => node.scrollWidth > node.clientWidth + 1);
  return [...out, ...cut].map(node => node.outerHTML.slice(0, 140));
}"""


@pytest.fixture
def bench(workbench_page):
    put_off(workbench_page)
    if workbench_page.find("flips-card").is_visible():
        workbench_page.find("flips-close").click()
    to_budget(workbench_page)
    workbench_page.find("tab-layer").click()
    return workbench_page


def counts(text):
    """(changed, right → wrong, wrong → right, wrong → wrong) in a line."""
    whole = int(re.match(r"(\d+) answers? changed", text)[1])
    parts = [
        int(found[1]) if (found := re.search(rf"(\d+) {words}", text)) else 0
        for words in ("right → wrong", "wrong → right", "wrong → wrong")
    ]
    return whole, *parts


def tried(bench, width):
    bench.find("layer-conv1").click()
    bench.find("width-input").fill(str(width))
    bench.find("width-input").press("Tab")
    settle(bench)
    bench.find("try").click()
    expect(bench.find("flips-choice")).to_be_visible(timeout=PATIENCE)
    settle(bench)
    assert bench.page.evaluate(OVERFLOW) == {"cut": [], "wide": [], "clipped": []}
    return counts(bench.find("flips-choice").get_attribute("data-line"))


def test_a_try_says_which_before_anything_is_kept(bench, digits):
    whole, lost, won, other = tried(bench, 8)
    lam = float(bench.kernel("Out[1].state.lam"))
    trace = digits.spectrum("conv1").trace
    found = digits.changes(digits.preview("conv1", width=8, lam=lam * trace))
    assert (lost, won, other) == (found.lost, found.won, found.other)
    assert whole == lost + won + other > 10
    expect(bench.find("flips-choice")).to_have_text(f"{lost} right → wrong, {won} wrong → right")
    bench.find("flips-choice").click()
    expect(bench.find("flips-card")).to_be_visible()
    expect(bench.find("flips-line")).to_contain_text(f"{whole} answers changed", timeout=PATIENCE)
    expect(bench.find("flip")).to_have_count(min(24, whole))
    first = bench.find("flip").first
    assert int(first.get_attribute("data-example")) == found.order[0]
    one = found.flip(found.order[0])
    expect(first).to_contain_text(f"true {one.target:.0f}")
    expect(first).to_contain_text(f"{one.before:.0f} {one.sure_before:.2f}")
    expect(first).to_contain_text(f"→ {one.after:.0f} {one.sure_after:.2f}")
    assert first.locator("img").evaluate("node => [node.naturalWidth, node.naturalHeight]") == [8, 8]
    assert bench.page.evaluate(OUTSIDE) == []
    # a class, a confusion, one side, more
    bench.find("flips-won").click()
    expect(bench.find("flip")).to_have_count(won, timeout=PATIENCE)
    bench.find("flips-pair").first.click()
    pair = found.confusions[0]
    expect(bench.find("flip").first).to_contain_text(f"→ {pair.predicted}", timeout=PATIENCE)
    expect(bench.find("flip").first).to_contain_text(f"true {pair.true}")
    bench.find("flips-all").click()
    settle(bench)
    bench.find("flips-more").click()
    expect(bench.find("flip")).to_have_count(whole, timeout=PATIENCE)
    bench.page.keyboard.press("Escape")
    expect(bench.find("flips-card")).to_be_hidden()
    expect(bench.find("flips-choice")).to_be_focused()
    assert bench.kernel("Out[1].state.position") == "0"


def test_each_step_says_it_and_against_the_original_too(bench):
    _, *first = tried(bench, 12)
    bench.find("commit").click()
    button = bench.find("history-flips-1")
    expect(button).to_have_text(f"−{first[0]} +{first[1]}", timeout=PATIENCE)
    bench.find("layer-conv2").click()
    bench.find("width-input").fill("30")
    bench.find("width-input").press("Tab")
    settle(bench)
    bench.find("commit").click()
    expect(bench.find("history-flips-2")).to_have_text(re.compile("−|none"), timeout=PATIENCE)
    assert bench.page.evaluate(OVERLAPPING.replace(".wbw-meter-row, ", "")) == []  # others are hidden
    bench.find("history-flips-2").click()
    expect(bench.find("flips-line")).not_to_have_text("", timeout=PATIENCE)
    settle(bench)
    before = bench.find("flips-line").inner_text()
    bench.find("flips-against").select_option("original")
    settle(bench)
    expect(bench.find("flips-line")).not_to_have_text("", timeout=PATIENCE)
    wanted = bench.kernel("str(Out[1].session.changes(2, 'original'))").strip("'")
    expect(bench.find("flips-line")).to_have_text(f"{wanted[0].upper()}{wanted[1:]}.", timeout=PATIENCE)
    assert before
    bench.find("undo").click()
    expect(bench.find("flips-card")).to_be_hidden(timeout=PATIENCE)


def test_a_plan_says_it_too_in_a_narrow_window_and_in_the_dark(bench):
    bench.find("tab-budget").click()
    set_width(bench, "conv1", 10)
    set_width(bench, "conv2", 20)
    settle(bench)
    bench.find("try-all").click()
    expect(bench.find("flips-plan")).to_be_visible(timeout=PATIENCE)
    settle(bench)
    bench.find("flips-plan").click()
    expect(bench.find("flip").first).to_be_visible(timeout=PATIENCE)
    settle(bench)
    bench.page.set_viewport_size({"width": 700, "height": 900})
    try:
        bench.page.wait_for_timeout(200)
        assert bench.page.evaluate(OUTSIDE) == []
    finally:
        bench.page.set_viewport_size({"width": 1280, "height": 800})
    bench.find("flips-close").click()
    expect(bench.find("flips-card")).to_be_hidden()
