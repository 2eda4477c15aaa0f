"""The theory tab in the browser: λ moves its numbers in the page, the kernel's answers follow."""

import json
import re

import pytest
from notebook_page import expect_measured
from playwright.sync_api import expect
from tabs import CUT, CUT_SIDEWAYS, PATIENCE, settle

NUMBER = re.compile(r"\d")
# What is called by a name that its cell does not show whole.
CUT_NAMES = """() => [...document.querySelectorAll('.wbw-claim > span:first-child')]
  .filter(cell => cell.checkVisibility() && cell.scrollWidth > cell.clientWidth + 1)
  .map(cell => cell.textContent)"""


@pytest.fixture
def tab(workbench_page):
    expect_measured(workbench_page.page)
    if workbench_page.find("reset").is_enabled():
        workbench_page.find("reset").click()
    settle(workbench_page)
    workbench_page.find("tab-theory").click()
    return workbench_page


def measured(bench):
    """Until the kernel has answered what the screen asks."""
    expect(bench.page.locator(".wbw-theory .wbw-lag")).to_have_count(0, timeout=PATIENCE)
    expect(bench.find("theory-output-measured")).to_have_text(NUMBER, timeout=PATIENCE)
    expect(bench.find("theory-row").first).to_be_visible(timeout=PATIENCE)


def value(bench, expression):
    return json.loads(bench.kernel(f"__import__('json').dumps({expression})").strip("'"))


def shown(text: str) -> float:
    """A number as the page writes it: 1.23 × 10⁻⁴."""
    plain = text.replace("\u202f", "").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    found = re.search(r"([\d.]+)(?:×10(-?\d+))?", plain)
    return float(found[1]) * 10 ** int(found[2] or 0)


def test_lam_moves_the_bounds_in_the_page_and_they_are_pythons(tab):
    tab.find("theory-group").select_option("fc1")
    settle(tab)
    for exponent, words in ((-3.0, "promises nothing here"), (-1.0, "of 128 units")):
        tab.find("theory-lam").evaluate(
            "(node, value) => { node.value = value; node.dispatchEvent(new Event('input')); }", exponent
        )
        tab.page.wait_for_timeout(100)
        trace = "Out[1].session.spectrum('fc1').trace"
        freedom = value(tab, f"Out[1].session.spectrum('fc1').degrees_of_freedom({10**exponent} * {trace})")
        assert float(tab.find("theory-dimension-theory").inner_text()) == pytest.approx(freedom, abs=0.006)
        asked = f"__import__('workbench.spectral.bounds').spectral.bounds.guaranteed_width({freedom})"
        assert int(tab.find("theory-guarantee-theory").inner_text()) == value(tab, asked)
        expect(tab.page.locator(".wbw-theory .wbw-claim").nth(2)).to_contain_text(words)
        assert shown(tab.find("theory-sampled-theory").inner_text().split("=")[1]) == pytest.approx(
            4 * 10**exponent, rel=0.01
        )


def test_the_kernels_answers_are_those_of_the_session(tab):
    tab.find("theory-group").select_option("fc1")
    tab.find("theory-lam").evaluate("(node) => { node.value = -2; node.dispatchEvent(new Event('input')); }")
    settle(tab)
    measured(tab)
    tab.kernel("globals().__setitem__('s', Out[1].session)")
    tab.kernel("globals().__setitem__('one', s.theory('fc1', lam=1e-2 * s.spectrum('fc1').trace))")
    tab.kernel("globals().__setitem__('net', s.network_theory(1e-2))")
    for testid, expression in (
        ("theory-choice-measured", "one.largest_loss / s.spectrum('fc1').trace"),
        ("theory-local-theory", "one.local_bound"),
        ("theory-local-measured", "one.local_measured"),
        ("theory-output-theory", "one.propagated_bound"),
        ("theory-output-measured", "one.output_change"),
    ):
        assert shown(tab.find(testid).inner_text()) == pytest.approx(value(tab, expression), rel=0.01), testid
    total = tab.find("theory-sum").inner_text()
    assert shown(total.split("output")[1]) == pytest.approx(value(tab, "net.output_change"), rel=0.01)
    expect(tab.find("theory-row")).to_have_count(4)
    best = float(tab.find("theory-bias-least").get_attribute("data-lam"))
    assert best == pytest.approx(value(tab, "s.bias_variance().best"), rel=1e-9)
    said = [shown(part) for part in tab.find("theory-now").inner_text().split("=")[1:]]
    swept = value(tab, "(lambda b: [b.bias[0], b.variance[0]])(s.bias_variance([1e-2]))")
    assert said == pytest.approx(swept, rel=0.01)
    tab.find("theory-samples").fill("60000")
    tab.find("theory-samples").press("Tab")
    tab.page.wait_for_timeout(300)
    best = float(tab.find("theory-bias-least").get_attribute("data-lam"))
    assert best == pytest.approx(value(tab, "s.bias_variance(samples=60000).best"), rel=1e-9)
    assert value(tab, "s.position") == 0


def test_a_commit_is_seen_and_the_choice_is_shared_with_the_layer_tab(tab):
    tab.find("theory-of").select_option("committed")
    expect(tab.find("theory-sum")).to_have_text("Nothing is committed yet.", timeout=PATIENCE)
    tab.find("theory-bias-lam").focus()
    before = value(tab, "Out[1].state.lam")
    tab.page.keyboard.press("ArrowRight")
    settle(tab)
    assert value(tab, "Out[1].state.lam") == pytest.approx(before * 10**0.05)
    tab.find("tab-layer").click()
    tab.find("commit").click()
    expect(tab.find("undo")).to_be_enabled(timeout=PATIENCE)
    tab.find("tab-theory").click()
    expect(tab.find("theory-row")).to_have_count(1, timeout=PATIENCE)
    tab.find("theory-of").select_option("lam")
    expect(tab.find("theory-row")).to_have_count(4, timeout=PATIENCE)
    tab.find("undo").click()
    settle(tab)


def test_it_fits_the_screen(tab):
    measured(tab)
    tab.in_both_themes("theory")
    assert tab.page.evaluate(CUT) == []
    assert tab.page.evaluate(CUT_NAMES) == []
    tab.page.set_viewport_size({"width": 700, "height": 1000})
    tab.page.wait_for_timeout(600)
    tab.screenshot("theory-narrow")
    assert tab.page.evaluate(CUT_SIDEWAYS) == []
    tab.page.set_viewport_size({"width": 1280, "height": 800})
    assert tab.page.errors == []
