"""Single units and eigenvalues in the browser: kept and lost, pictures, and numbers under the pointer."""

import re

import pytest
from layer_tab import drag_lam_to, number, put_off, settle
from playwright.sync_api import expect
from tabs import PATIENCE


@pytest.fixture
def bench(workbench_page):
    put_off(workbench_page)
    workbench_page.find("tab-layer").click()
    if workbench_page.find("show-units").get_attribute("aria-pressed") == "true":
        workbench_page.find("show-units").click()
    workbench_page.find("layer-conv1").click()
    settle(workbench_page)
    return workbench_page


def choice_now(bench, digits):
    lam = number(bench, "readout-N") and float(bench.kernel("Out[1].state.lam"))
    width = int(bench.find("width-input").input_value())
    return digits.preview("conv1", width=width, lam=lam * digits.spectrum("conv1").trace)


def test_kept_and_lost_are_the_choices_and_follow_lam(bench, digits):
    bench.find("show-units").click()
    expect(bench.find("unit")).to_have_count(32, timeout=PATIENCE)
    kept = (
        "nodes => nodes.filter(node => node.dataset.kept === 'true').map(node => Number(node.dataset.unit))"
    )
    widths = set()
    for _ in range(2):
        settle(bench)
        choice = choice_now(bench, digits)
        assert tuple(bench.find("unit").evaluate_all(kept)) == choice.kept
        assert bench.find("units-kept").get_attribute("data-units") == " ".join(map(str, choice.kept))
        widths.add(choice.width)
        for _ in range(10):
            bench.find("lam-slider").press("ArrowRight")
    assert len(widths) == 2
    sizes = "nodes => nodes.map(node => [node.dataset.kind, node.naturalWidth, node.naturalHeight])"
    pictures = bench.find("unit").first.locator("img").evaluate_all(sizes)
    assert pictures == [["weights", 3, 3], ["map", 8, 8]]


def test_pointing_at_a_unit_says_rank_and_leverage(bench, digits):
    bench.find("show-units").click()
    expect(bench.find("unit")).to_have_count(32, timeout=PATIENCE)
    settle(bench)
    choice = choice_now(bench, digits)
    leverage = digits.spectrum("conv1").leverage(choice.lam)
    unit = choice.order[2]
    bench.page.locator(f"[data-testid=unit][data-unit='{unit}']").hover()
    words = bench.find("unit-words")
    expect(words).to_contain_text(f"unit {unit}: kept, taken 3rd of 32")
    said = re.search(r"leverage ([\d.]+)", words.inner_text())[1]
    assert abs(float(said) / 100 - float(leverage[unit])) < 6e-5
    lost = min(set(range(32)) - set(choice.kept))
    bench.find("units").focus()
    bench.page.keyboard.press("Home")
    for _ in range(lost):
        bench.page.keyboard.press("ArrowRight")
    expect(words).to_contain_text(f"unit {lost}: lost")
    assert bench.find("units").get_attribute("aria-valuetext").startswith(f"unit {lost}: lost")


def test_pointing_at_an_eigenvalue_says_its_share_and_the_sum_so_far(bench, digits):
    eigenvalues = digits.spectrum("conv1").eigenvalues
    lam = float(bench.kernel("Out[1].state.lam")) * float(eigenvalues.sum())
    surface = bench.find("spectrum-plot").locator(".wbw-surface")
    box = surface.bounding_box()
    index = 11
    bench.page.mouse.move(box["x"] + box["width"] * (index + 0.5) / 32, box["y"] + box["height"] * 0.7)
    pointed = bench.find("pointed")
    expect(pointed).to_be_visible()
    sum_so_far = float((eigenvalues[: index + 1] / (eigenvalues[: index + 1] + lam)).sum())
    share = float(eigenvalues[index] / (eigenvalues[index] + lam))
    text = pointed.text_content()
    assert f"μ no. {index + 1} of 32" in text
    assert abs(float(re.search(r"share ([\d.]+)", text)[1]) - 100 * share) < 0.06
    assert abs(float(re.search(r"N = ([\d.]+)", text)[1]) - sum_so_far) < 0.06
    mantissa, power = re.search(r"= ([\d.]+)\s×\s10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", text).groups()
    exponent = int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    assert abs(float(mantissa) * 10**exponent / float(eigenvalues[index]) - 1) < 0.006
    # keys go along, and the hand that drags λ has nothing in its way
    bench.find("eigen-pointer").focus()
    bench.page.keyboard.press("End")
    expect(pointed).to_contain_text("μ no. 32 of 32")
    assert bench.find("eigen-pointer").get_attribute("aria-valuenow") == "32"
    drag_lam_to(bench, 0.5)
    expect(pointed).to_be_hidden()


def test_units_close_again_and_the_kernel_looks_no_more(bench):
    bench.find("show-units").click()
    expect(bench.find("units-body")).to_be_visible()
    bench.find("show-units").click()
    expect(bench.find("units-body")).to_be_hidden()
    expect(bench.find("spectrum-plot")).to_be_visible()
    settle(bench)
    assert bench.kernel("Out[1].state.units_shown") == "0"
    assert bench.page.errors == []
