"""What the screen finds is taken over by a press: a way to prune from a comparison, a width from the map."""

import ast
import json
import time

import pytest
from notebook_page import SESSION
from playwright.sync_api import expect
from tabs import CUT, PATIENCE, set_width, settle, to_budget

# A cell's code in the kernel, as a cell would run it; what it ended with stands in window.ended.
CELL = f"""code => {{
  const kernel = {SESSION}.session.kernel;
  kernel.requestExecute({{ code }}).done.then(reply => (window.ended = reply.content.ename ?? 'ok'));
}}"""
KERNEL_IS_BUSY = f"() => {SESSION}.session.kernel.status === 'busy'"
WIDTHS = {"conv1": 9, "conv2": 19, "conv3": 17, "fc1": 29}


@pytest.fixture(scope="module")
def compared(workbench_page):
    """Two ways compared at the budget's widths, and a sweep."""
    bench = to_budget(workbench_page)
    for name, width in WIDTHS.items():
        set_width(bench, name, width)
    bench.find("tab-compare").click()
    for name in ("leverage", "random"):
        bench.find(f"compare-{name}").uncheck()
    bench.find("compare").click()
    expect(bench.find("compare-row")).to_have_count(4, timeout=PATIENCE)
    settle(bench)
    bench.find("sweep").click()
    expect(bench.page.locator("[data-cell][data-width]")).to_have_count(32, timeout=PATIENCE)
    settle(bench)
    return bench


@pytest.fixture
def compare(compared):
    if compared.find("tab-compare").get_attribute("aria-selected") != "true":
        compared.find("tab-compare").click()
    return compared


def expect_state(bench, name, wanted):
    """The kernel has heard of it, by a way that other questions may overtake."""
    asked = f"__import__('json').dumps({name})"
    deadline = time.monotonic() + PATIENCE / 1000
    while (found := json.loads(ast.literal_eval(bench.kernel(asked)))) != wanted:
        assert time.monotonic() < deadline, (name, found, wanted)
        bench.page.wait_for_timeout(50)


def row(bench, words):
    return bench.find("compare-row").filter(has_text=words).filter(has_text="none")


def test_a_way_is_used_with_its_widths_and_says_so(compare):
    compare.find("tab-budget").click()
    compare.find("all-widths").click()
    compare.find("tab-compare").click()
    button = row(compare, "magnitude-l1").get_by_test_id("compare-use")
    expect(button).to_have_attribute("aria-pressed", "false")
    button.focus()
    compare.page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(compare.find("progress")).to_contain_text("Set: L1, none, θ 0.30; Budget: widths of the budget")
    expect_state(compare, "Out[1].state.selection", "magnitude-l1")
    expect_state(compare, "Out[1].state.reconstruction", "none")
    expect_state(compare, "Out[1].state.widths", WIDTHS)
    pressed = compare.find("compare-use").and_(compare.page.locator("[aria-pressed=true]"))
    expect(pressed).to_have_count(1)
    compare.screenshot("compare-use")
    assert compare.page.evaluate(CUT) == []
    compare.find("tab-budget").click()
    for name, width in WIDTHS.items():
        expect(compare.find(f"budget-width-{name}")).to_have_value(str(width))
    compare.find("undo-widths").click()  # what was taken over is one move
    expect(compare.find("budget-width-conv2")).to_have_value("64")
    expect(compare.find("selection")).to_have_value("magnitude-l1")


def test_a_locked_group_keeps_its_own_width(compare):
    compare.find("tab-budget").click()
    compare.find("all-widths").click() if compare.find("all-widths").is_enabled() else None
    compare.find("budget-lock-conv2").check()
    compare.find("tab-compare").click()
    row(compare, "greedy").get_by_test_id("compare-use").click()
    expect(compare.find("progress")).to_contain_text("conv2, locked, keeps its own")
    expect_state(compare, "Out[1].state.widths", {**WIDTHS, "conv2": 64})
    cell = compare.page.locator("[data-cell='conv2 0.5']")
    cell.click()
    expect(compare.find("progress")).to_contain_text("conv2 is locked and stays at 64: unlock it")
    expect_state(compare, "Out[1].state.widths['conv2']", 64)
    compare.find("tab-budget").click()
    compare.find("budget-lock-conv2").uncheck()


def test_a_cell_of_the_map_sets_this_width_by_mouse_and_by_keys(compare):
    cells = compare.page.locator("[data-cell][data-width]")
    assert [one for one in cells.evaluate_all("all => all.map(one => one.tabIndex)") if one == 0] == [0]
    compare.page.locator("[data-cell='conv2 0.5']").click()
    expect(compare.find("progress")).to_contain_text("Set: conv2 at 32 of 64 units, on the tab Budget")
    expect_state(compare, "Out[1].state.widths['conv2']", 32)
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):  # to the next group, at 25 %
        compare.page.keyboard.press(key)
    focus = compare.page.evaluate("() => document.activeElement.dataset.cell")
    assert focus == "conv3 0.25"
    compare.page.keyboard.press("Space")
    expect(compare.page.locator("[data-cell='conv3 0.25']")).to_have_attribute("aria-pressed", "true")
    expect_state(compare, "[Out[1].state.widths[one] for one in ('conv2', 'conv3')]", [32, 16])
    compare.find("heat-kind").select_option("losses")
    expect(compare.page.locator("[data-cell='conv3 0.25']")).to_have_attribute("aria-pressed", "true")
    for theme in ("Dark", "Light"):
        compare.theme(f"JupyterLab {theme}")
        compare.page.wait_for_timeout(600)
        compare.screenshot(f"compare-taken-{theme.lower()}")
    assert compare.page.evaluate(CUT) == []


def test_the_kernels_interrupt_ends_what_runs_in_the_background_and_a_cell_as_ever(compare):
    interrupt = "() => window.jupyterapp.commands.execute('notebook:interrupt-kernel')"
    compare.find("tab-budget").click()
    compare.find("commit-all").click()
    expect(compare.find("undo")).to_be_enabled(timeout=PATIENCE)
    settle(compare)
    compare.find("tab-tune").click()
    compare.find("tune-unit").select_option("steps")
    compare.find("tune-amount").fill("50000")
    compare.find("tune-start").click()
    expect(compare.find("tune-how")).to_contain_text("running, step", timeout=PATIENCE)
    compare.page.evaluate(interrupt)  # between two cells
    expect(compare.find("tune-how")).to_contain_text("stopped", timeout=PATIENCE)
    settle(compare)
    compare.find("tune-start").click()
    expect(compare.find("tune-how")).to_contain_text("running, step", timeout=PATIENCE)
    compare.page.evaluate(CELL, "import time\nfor _ in range(6000): time.sleep(0.01)")
    compare.page.wait_for_function(KERNEL_IS_BUSY)
    compare.page.evaluate(interrupt)  # in the middle of one
    expect(compare.find("tune-how")).to_contain_text("stopped", timeout=PATIENCE)
    compare.wait_idle()
    assert compare.page.evaluate("() => window.ended") == "KeyboardInterrupt"
    settle(compare)
    compare.find("reset").click()
    settle(compare)
    compare.page.evaluate(interrupt)  # where nothing runs it is ignored, as ever
    assert compare.kernel("1 + 1") == "2"
