"""Ways to prune side by side, and fine-tuning that is seen, in the browser."""

import json
import math

import numpy as np
import pytest
from notebook_page import expect_measured
from playwright.sync_api import expect
from tabs import CUT, CUT_SIDEWAYS, PATIENCE, set_width, settle, to_budget

VALUES = "options => options.map(option => option.value)"
HARM = "cells => cells.map(cell => cell.dataset.harm)"


@pytest.fixture
def budget(workbench_page):
    return to_budget(workbench_page)


def test_ways_are_compared_at_the_budgets_widths(budget, lab):
    budget.find("tab-compare").click()
    expect(budget.find("compare-at")).to_contain_text("set widths on the tab Budget")
    expect(budget.find("compare")).to_be_disabled()
    budget.find("tab-budget").click()
    for name, width in (("conv1", 9), ("conv2", 19), ("conv3", 17), ("fc1", 29)):
        set_width(budget, name, width)
    budget.find("tab-compare").click()
    budget.find("compare-kernel-reconstruction").check()
    budget.find("compare-apoz").check()
    for name in ("leverage", "random"):
        budget.find(f"compare-{name}").uncheck()
    settle(budget)
    assert budget.page.evaluate(CUT) == []
    budget.find("compare").click()
    expect(budget.find("compare-row")).to_have_count(9, timeout=PATIENCE)
    settle(budget)
    scores = [float(text) for text in budget.find("compare-score").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    assert budget.kernel("Out[1].session.position") == "0"
    budget.find("compare-save").click()
    expect(budget.find("progress")).to_contain_text("Saved comparison.csv", timeout=PATIENCE)
    assert (lab.notebooks / "comparison.csv").read_text().count("\n") == 10
    assert "<svg" in (lab.notebooks / "comparison.svg").read_text()
    assert (lab.notebooks / "comparison.png").stat().st_size > 10_000
    budget.find("sweep").click()
    expect(budget.find("heat")).to_have_count(32, timeout=PATIENCE)
    settle(budget)
    budget.in_both_themes("compare")
    assert budget.page.evaluate(CUT) == []
    kinds = ("scores", "changes", "divergences", "losses")
    assert budget.find("heat-kind").locator("option:not([disabled])").evaluate_all(VALUES) == [*kinds]
    for kind in kinds:
        budget.find("heat-kind").select_option(kind)
        harm = [float(one) for one in budget.find("heat").evaluate_all(HARM)]
        values = np.array(json.loads(budget.kernel(f"Out[1].state.sweep['{kind}']")))
        worst = values.argmin() if kind == "scores" else values.argmax()
        assert harm[worst] == max(harm) == 1  # the darkest is what hurts most
        assert budget.page.evaluate(CUT) == []
    expect(budget.find("heat").first).to_contain_text("%")
    expect(budget.find("heat-legend")).to_contain_text("harmful")


def test_fine_tuning_is_seen_paused_and_stopped(budget):
    set_width(budget, "conv2", 9)
    budget.find("commit-all").click()
    expect(budget.find("undo")).to_be_enabled(timeout=PATIENCE)
    settle(budget)
    budget.find("tab-tune").click()
    expect(budget.find("tune-pause")).to_be_disabled()
    budget.find("tune-unit").select_option("steps")
    budget.find("tune-amount").fill("5000")
    budget.find("tune-rate").fill("0.003")
    settle(budget)
    assert budget.page.evaluate(CUT) == []
    budget.find("tune-start").click()
    expect(budget.find("tune-how")).to_contain_text("running, step", timeout=PATIENCE)
    budget.find("tune-pause").click()
    expect(budget.find("tune-how")).to_contain_text("paused")
    expect(budget.find("tune-pause")).to_have_text("Go on")
    budget.find("tune-pause").click()
    expect(budget.find("tune-pause")).to_have_text("Pause")
    budget.find("tune-stop").click()
    expect(budget.find("tune-how")).to_contain_text("stopped", timeout=PATIENCE)
    settle(budget)
    assert budget.kernel("Out[1].session.history[-1].tuning is not None") == "True"
    budget.find("undo").click()
    settle(budget)
    budget.find("tune-amount").fill("40")
    budget.find("tune-start").click()
    expect(budget.find("tune-how")).to_contain_text("done, step 40 of 40", timeout=PATIENCE)
    settle(budget)
    budget.in_both_themes("tune")
    assert budget.page.evaluate(CUT) == []


def test_ways_are_compared_at_several_budgets(budget):
    budget.find("tab-compare").click()
    budget.find("compare-where").select_option("least")
    budget.find("compare-taylor").check()
    for name in ("leverage", "random", "magnitude-l1", "apoz", "kernel-reconstruction"):
        budget.find(f"compare-{name}").uncheck()
    budget.find("compare-theta").focus()
    for _ in range(3):
        budget.page.keyboard.press("Shift+ArrowRight")
    settle(budget)
    assert budget.page.evaluate(CUT) == []
    budget.find("compare").click()
    expect(budget.find("compare-row").first).to_be_visible(timeout=PATIENCE)
    settle(budget)
    kinds = ("selections", "reconstructions")
    ways = math.prod(int(budget.kernel(f"len(Out[1].state.ways[{kind!r}])")) for kind in kinds)
    expect(budget.find("compare-row")).to_have_count(ways)
    expect(budget.find("compare-score")).to_have_count(4 * ways)
    expect(budget.find("compare-plot").locator(".wbw-line-group")).to_have_count(ways)
    assert budget.kernel("{row['theta'] for row in Out[1].state.comparison['rows']}") == "{0.6}"
    assert budget.kernel("[one['title'] for one in Out[1].state.comparison['budgets']]") == (
        "['1.5×', '2×', '3×', '5×']"
    )
    macs = json.loads(budget.kernel("[one['macs'] for one in Out[1].state.comparison['budgets']]"))
    whole = int(budget.kernel("Out[1].session.macs"))
    for found, ratio in zip(macs, (1.5, 2, 3, 5), strict=True):
        assert 0.9 * whole / ratio < found <= whole / ratio
    budget.find("compare-row").nth(1).hover()
    expect(budget.find("compare-plot").locator(".wbw-faint")).to_have_count(ways - 1)
    budget.in_both_themes("compare-budgets")
    budget.find("compare-where").select_option("budget")


def test_shares_of_the_loss_give_way_to_each_other_and_a_refit_is_a_step(budget):
    set_width(budget, "conv2", 9)
    budget.find("tab-tune").click()
    expect(budget.find("refit")).to_be_disabled()
    budget.find("tab-budget").click()
    budget.find("commit-all").click()
    expect(budget.find("undo")).to_be_enabled(timeout=PATIENCE)
    settle(budget)
    budget.find("tab-tune").click()
    budget.find("tune-distill").focus()
    for _ in range(3):
        budget.page.keyboard.press("Shift+ArrowRight")
    expect(budget.find("tune-labels")).to_have_text("40\u202f%")
    budget.find("tune-match").focus()
    for _ in range(5):
        budget.page.keyboard.press("Shift+ArrowRight")
    expect(budget.find("tune-labels")).to_have_text("0\u202f%")
    expect(budget.find("tune-distill")).to_have_attribute("aria-valuetext", "0\u202f%")
    budget.find("tune-unit").select_option("steps")
    budget.find("tune-amount").fill("12")
    budget.find("tune-batch").fill("64")
    budget.find("tune-rate").fill("0.0001")
    budget.find("tune-shifts").fill("1")
    budget.find("tune-flips").check()
    budget.find("tune-start").click()
    expect(budget.find("tune-how")).to_contain_text("done, step 12 of 12", timeout=PATIENCE)
    settle(budget)
    tuning = "Out[1].session.history[-1].tuning"
    assert budget.kernel(f"({tuning}.match, {tuning}.distill, {tuning}.batch)") == "(1.0, 0.0, 64)"
    assert budget.kernel(f"({tuning}.flips, {tuning}.shifts)") == "(True, 1)"
    budget.find("refit").click()
    expect(budget.page.locator("[data-testid^=history-item-][aria-current]")).to_contain_text(
        "refitted", timeout=PATIENCE
    )
    settle(budget)
    assert budget.page.evaluate(CUT) == []
    budget.find("undo").click()
    settle(budget)
    assert budget.kernel("Out[1].session.history[Out[1].session.position].label") == "'fine-tuned, 12 steps'"
    for key in ("tune-match", "tune-distill"):
        budget.find(key).focus()
        for _ in range(6):
            budget.page.keyboard.press("Shift+ArrowLeft")
    expect(budget.find("tune-labels")).to_have_text("100\u202f%")


def test_taylor_is_measured_once_it_is_chosen(budget):
    budget.find("tab-layer").click()
    budget.find("selection").select_option("taylor")
    settle(budget)
    expect(budget.page.locator("[data-current]")).to_have_attribute("data-current", "true", timeout=PATIENCE)
    assert budget.kernel("Out[1].session.has_gradients") == "True"
    expect(budget.find("readout-output-loss")).to_contain_text("%")
    budget.find("selection").select_option("greedy")
    settle(budget)


def test_a_narrow_window_cuts_nothing(budget):
    page = budget.page
    wide = page.viewport_size
    page.set_viewport_size({"width": 800, "height": 1400})
    try:
        for tab in ("budget", "compare", "tune"):
            budget.find(f"tab-{tab}").click()
            settle(budget)
            budget.screenshot(f"narrow-{tab}")
            assert page.evaluate(CUT_SIDEWAYS) == [], tab
            box = budget.find(f"tab-{tab}").bounding_box()
            assert box["y"] == budget.find("tab-layer").bounding_box()["y"]
    finally:
        page.set_viewport_size(wide)


def test_no_script_failed(budget):
    assert budget.page.errors == []
    assert budget.page.foreign == []
    assert budget.cell_errors() == []


PIXELS = """
import torch, workbench as wb

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 12, 3), torch.nn.ReLU(), torch.nn.Conv2d(12, 4, 1)).eval()
x, y = torch.randn(16, 3, 7, 7), torch.randint(0, 4, (16, 5, 5))
wb.Workbench(wb.Session(net, [(x, y)], [(x, y)], data_name="random pixels"))
"""
OVER = """() => [...document.querySelectorAll('.wbw-root .wbw-steps-head > *')]
  .filter(node => node.checkVisibility() && node.scrollWidth > node.clientWidth + 1)
  .map(node => node.textContent)"""


def test_a_score_of_two_words_has_room_above_its_column(open_notebook):
    bench = open_notebook(PIXELS)
    bench.press_shift_enter()
    expect_measured(bench.page)
    heads = bench.page.locator(".wbw-steps-head").filter(has_text="pixel accuracy")
    expect(heads.first).to_be_visible()
    assert bench.page.evaluate(OVER) == []
    bench.find("tab-budget").click()
    expect(bench.find("budget-row-0")).to_be_visible(timeout=PATIENCE)
    settle(bench)
    set_width(bench, "0", 5)
    expect(bench.find("commit-all")).to_be_enabled()
    bench.find("tab-compare").click()
    settle(bench)
    bench.find("compare").click()
    expect(bench.find("compare-row").first).to_be_visible(timeout=PATIENCE)
    expect(heads).to_have_count(2)
    assert bench.page.evaluate(OVER) == []
    bench.screenshot("compare-pixels")
