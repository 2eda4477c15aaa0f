"""What swaps won is said in one line where the selection is chosen, for that selection alone."""

import re

import pytest
from layer_tab import MEASURED, expect_whole, relative_lam, settle
from notebook_page import THEMES
from playwright.sync_api import expect

LIMIT = "setattr(__import__('workbench.pruning.problem').pruning.problem, 'SWAPS_WORK', {})"


@pytest.fixture(scope="module")
def bench(workbench_page):
    expect(workbench_page.find("readout-N")).not_to_have_attribute("data-value", "", timeout=MEASURED)
    workbench_page.find("layer-conv2").click()
    workbench_page.find("follow").uncheck()
    return workbench_page


def shown(bench, width):
    """The line at a width, in short and in a sentence, when the kernel has answered."""
    bench.kernel(f"setattr(Out[1].state, 'width', {width})")
    settle(bench)
    expect_whole(bench)
    return bench.find("swaps").inner_text(), bench.find("swaps").get_attribute("title")


@pytest.mark.parametrize("theme", THEMES)
def test_the_panel_says_what_the_swaps_won(bench, digits, theme):
    bench.theme(theme)
    expect(bench.find("swaps")).to_be_hidden()
    bench.find("selection").select_option("greedy-swap")
    said = set()
    for width in (7, 22, 10):
        text, sentence = shown(bench, width)
        lam = relative_lam(bench) * digits.spectrum("conv2").trace
        found = digits.preview("conv2", width=width, lam=lam, selection="greedy-swap").swaps
        expect(bench.find("swaps")).to_have_attribute("data-value", str(found.swaps))
        numbers = [float(one) for one in re.findall(r"\d+\.\d+", sentence)]
        wanted = [found.before, found.after] if found.swaps else [found.after]
        assert numbers == pytest.approx([100 * one for one in wanted], abs=0.051)
        assert numbers == sorted(set(numbers), reverse=True)  # before and after look different
        said.add(text)
    assert {"no swap helps", "1 swap won < 0.1\u202f%"} < said
    assert re.fullmatch(r"2 swaps \d\d\.\d→\d\d\.\d\u202f%", text)
    bench.screenshot("swaps-" + theme.split()[-1].lower())
    bench.find("selection").select_option("greedy")
    expect(bench.find("swaps")).to_be_hidden()


def test_there_is_room_for_many_swaps_and_a_limit_is_said(bench):
    bench.find("selection").select_option("greedy-swap")
    settle(bench)
    many = "{'swaps': {'swaps': 128, 'before': 0.1234, 'after': 0.1109, 'settled': False}}"
    bench.kernel(f"setattr(Out[1].state, 'preview', Out[1].state.preview | {many})")
    expect(bench.find("swaps")).to_have_text("128 swaps 12.3→11.1\u202f%")
    assert "that is the limit" in bench.find("swaps").get_attribute("title")
    right = "node => node.getBoundingClientRect().right"
    assert bench.find("swaps").evaluate(right) <= bench.find("selection").evaluate(right) + 1
    expect_whole(bench)
    bench.kernel(LIMIT.format(10))
    assert shown(bench, 30)[0] == "too wide for swaps"
    bench.kernel(LIMIT.format("1024**3"))
    bench.find("selection").select_option("greedy")
