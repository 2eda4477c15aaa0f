"""The window that there is: its height, the layout between, the projector, λ's ends, the history's names."""

import re

import pytest
from layer_tab import drawn, relative_lam, settle
from playwright.sync_api import expect

from workbench.widgets.constants import LAM_MAX, LAM_MIN

PATIENCE = 60_000
CELL = "import workbench as wb\nview = wb.Workbench('digits-cnn', autosave=False)\nview"
SMALL, LARGE = {"width": 1280, "height": 800}, {"width": 1920, "height": 1080}
BETWEEN = {"width": 960, "height": 800}

BOXES = """() => Object.fromEntries('header layers spectrum choice history budget'.split(' ').map(name => {
  const box = document.querySelector(`.wbw-${name}`).getBoundingClientRect();
  return [name, [box.left, box.top, box.right, box.bottom]];
}))"""
FREE_BELOW = """() => {
  const panel = document.querySelector('.jp-WindowedPanel-outer').getBoundingClientRect();
  return panel.bottom - document.querySelector('.wbw-root').getBoundingClientRect().bottom;
}"""
# Pairs of names of the history that overlap, and names that a dot or a line runs through.
CROSSED = """() => {
  const svg = document.querySelector('.wbw-history-plot svg');
  const names = [...svg.querySelectorAll('[data-testid=way-names] text')];
  const boxes = names.map(name => name.getBBox());
  const inside = (box, x, y, r = 0) => x > box.x - r && x < box.x + box.width + r
    && y > box.y + 2 - r && y < box.y + box.height - 2 + r;
  const found = [];
  boxes.forEach((a, i) => boxes.slice(0, i).forEach((b, j) => {
    const apart = a.x > b.x + b.width || b.x > a.x + a.width || a.y > b.y + b.height || b.y > a.y + a.height;
    if (!apart) found.push([names[i].textContent, names[j].textContent]);
  }));
  const points = [...svg.querySelectorAll('.wbw-path, .wbw-other, .wbw-front')].flatMap(path => {
    const length = path.getTotalLength();
    return Array.from({ length: Math.ceil(length / 3) }, (_, i) => path.getPointAtLength(3 * i));
  });
  const dots = [...svg.querySelectorAll('.wbw-dot')].map(dot => [dot.cx.baseVal.value, dot.cy.baseVal.value]);
  boxes.forEach((box, i) => {
    const name = names[i].textContent;
    const runs = points.some(({ x, y }) => inside(box, x, y));
    if (runs || dots.some(([x, y]) => inside(box, x, y, 3))) found.push(name);
    if (box.x < 0 || box.x + box.width > svg.viewBox.baseVal.width) found.push(`${name} is cut`);
  });
  return found;
}"""
TICKS = """() => {
  const ticks = [...document.querySelectorAll('.wbw-history-plot svg .wbw-tick')];
  const at = (anchor) => ticks.filter(tick => tick.getAttribute('text-anchor') === anchor).length;
  return [at('middle'), at('end')];
}"""


@pytest.fixture(scope="module")
def notebook(measured_notebook):
    return measured_notebook(CELL)


@pytest.fixture
def bench(notebook):
    sized(notebook, SMALL)
    notebook.find("tab-layer").click()
    notebook.find("layer-conv1").click()
    settle(notebook)
    return notebook


def sized(bench, size):
    bench.page.set_viewport_size(size)
    bench.page.wait_for_timeout(300)
    drawn(bench)


def boxes(bench):
    return bench.page.evaluate(BOXES)


def test_a_small_network_has_no_tools_and_its_list_no_blocks(bench):
    expect(bench.find("layers-filter")).to_be_hidden()
    expect(bench.find("layers-order")).to_be_hidden()
    assert bench.page.locator(".wbw-block").count() == 0
    assert bench.page.locator(".wbw-layers .wbw-list").get_attribute("role") == "listbox"


def test_the_height_of_the_window_is_used(bench):
    small = boxes(bench)
    bench.find("workbench").scroll_into_view_if_needed()
    assert -1 < bench.page.evaluate(FREE_BELOW) <= 80
    sized(bench, LARGE)
    large = boxes(bench)
    assert -1 < bench.page.evaluate(FREE_BELOW) <= 80
    heights = {name: large[name][3] - large[name][1] - small[name][3] + small[name][1] for name in large}
    assert heights["spectrum"] == heights["layers"] == heights["choice"] >= 150
    assert heights["history"] >= 50
    plot = bench.page.locator(".wbw-history-plot .wbw-plot").bounding_box()
    assert plot["height"] >= 110
    bench.find("tab-budget").click()
    drawn(bench)
    assert -1 < bench.page.evaluate(FREE_BELOW) <= 80
    box = boxes(bench)["budget"]
    assert box[3] - box[1] >= 560


def test_between_a_menu_stands_above_the_spectrum_beside_the_choice(bench):
    sized(bench, BETWEEN)
    found = boxes(bench)
    width = found["header"][2] - found["header"][0]
    assert 600 < width <= 900
    assert found["spectrum"][1] == found["choice"][1]
    assert found["spectrum"][2] < found["choice"][0]
    assert found["layers"][3] < found["spectrum"][1]
    assert found["layers"][3] - found["layers"][1] <= 60
    assert found["choice"][3] <= BETWEEN["height"]
    menu = bench.find("layer-menu")
    menu.select_option("conv2")
    expect(bench.find("layer-conv2")).to_have_attribute("aria-selected", "true")
    expect(bench.find("layer-conv2")).to_be_visible()
    expect(bench.find("layer-conv1")).to_be_hidden()
    bench.find("layer-after").click()
    expect(menu).to_have_value("conv3")
    settle(bench)
    assert bench.kernel("view.selected") == "'conv3'"
    outside = "all => all.filter(one => one.getBoundingClientRect().right > innerWidth).length"
    assert bench.page.locator(".wbw-root *").evaluate_all(outside) == 0
    sized(bench, SMALL)
    expect(menu).to_be_hidden()
    expect(bench.find("layer-conv1")).to_be_visible()


def test_the_projector_is_one_plot_over_the_whole_width_in_larger_type(bench):
    tick = bench.find("spectrum-plot").locator(".wbw-tick").first
    height = tick.bounding_box()["height"]
    traits = bench.kernel("sorted(view.keys)")
    bench.find("projector").click()
    drawn(bench)
    assert tick.bounding_box()["height"] >= 1.4 * height
    plot, root = bench.find("spectrum-plot").bounding_box(), bench.find("workbench").bounding_box()
    assert plot["width"] >= 0.97 * root["width"]
    expect(bench.page.locator(".wbw-pair")).to_be_hidden()
    expect(bench.find("lam-slider")).to_be_hidden()
    expect(bench.find("readout-N")).to_be_in_viewport()
    # λ goes where the hand is, in larger units too.
    surface = bench.find("spectrum-plot").locator(".wbw-surface").bounding_box()
    at = surface["x"] + surface["width"] / 3, surface["y"] + surface["height"] / 3
    bench.page.mouse.click(*at)
    drawn(bench)
    line = bench.find("lam-line").locator(".wbw-lam-line").bounding_box()
    assert line["y"] + line["height"] / 2 == pytest.approx(at[1], abs=2)
    bench.find("plot-losses").click()
    expect(bench.find("spectrum-plot")).to_be_hidden()
    assert bench.find("width-line").locator("xpath=..").bounding_box()["width"] >= 0.97 * root["width"]
    bench.page.keyboard.press("Escape")
    expect(bench.find("lam-slider")).to_be_visible()
    expect(bench.find("projector")).to_have_attribute("aria-pressed", "false")
    bench.find("projector").click()
    bench.page.evaluate("() => document.activeElement.blur()")
    bench.page.keyboard.press("Escape")  # wherever the focus is
    expect(bench.find("lam-slider")).to_be_visible()
    bench.find("projector").click()
    bench.find("projector").click()
    expect(bench.find("lam-slider")).to_be_visible()
    assert bench.kernel("sorted(view.keys)") == traits


def test_home_end_and_pages_move_lam_and_the_width(bench):
    line = bench.find("lam-line")
    line.focus()
    for key, wanted in (
        ("Home", LAM_MIN),
        ("PageUp", LAM_MIN * 10**0.5),
        ("End", LAM_MAX),
        ("PageDown", LAM_MAX / 10**0.5),
    ):
        bench.page.keyboard.press(key)
        assert relative_lam(bench) == pytest.approx(wanted)
    width = bench.find("width-line")
    width.focus()
    bench.page.keyboard.press("Home")
    expect(width).to_have_attribute("aria-valuenow", "1")
    bench.page.keyboard.press("End")
    expect(width).to_have_attribute("aria-valuenow", "32")


def test_lam_on_the_plots_reaches_what_the_slider_reaches(bench):
    mouse = bench.page.mouse
    for plot in (
        bench.find("spectrum-plot").locator(".wbw-surface"),
        bench.find("freedom-point").locator("xpath=.."),
    ):
        bench.find("lam-slider").fill("-3")
        drawn(bench)
        box = plot.bounding_box()
        upright = box["height"] < box["width"] and "surface" in (plot.get_attribute("class") or "")
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        least = (x, box["y"] + box["height"] + 200) if upright else (box["x"] - 200, y)
        most = (x, box["y"] - 60) if upright else (box["x"] + box["width"] + 60, y)
        mouse.move(x, y)
        mouse.down()
        before = relative_lam(bench)
        mouse.move(*least, steps=8)
        assert relative_lam(bench) == pytest.approx(LAM_MIN)
        mouse.move(*most, steps=8)
        assert relative_lam(bench) == pytest.approx(LAM_MAX)
        mouse.move(x, y, steps=3)
        assert relative_lam(bench) == pytest.approx(before)  # there and back under one hand
        mouse.up()
        bench.find("lam-slider").fill("-9")
        drawn(bench)
        mouse.move(x, y)
        mouse.down()
        mouse.up()
        drawn(bench)
        ticks = bench.find("spectrum-plot").locator(".wbw-tick").all_inner_texts()
        assert "10⁻⁹" not in ticks  # the axis is again that of the spectrum
    bench.find("lam-slider").fill("-3")


def committed(bench, group, width):
    bench.find(f"layer-{group}").click()
    bench.find("width-input").fill(str(width))
    bench.find("width-input").press("Enter")
    settle(bench)
    bench.find("commit").click()
    expect(bench.find("undo")).to_be_enabled(timeout=PATIENCE)
    settle(bench)


def branched(bench, name):
    bench.find("branch").select_option(label="New branch…")
    bench.find("branch-name").fill(name)
    bench.find("branch-make").click()
    expect(bench.find("branch")).to_have_value(name, timeout=PATIENCE)
    settle(bench)


def test_names_in_the_history_cross_nothing_and_try_is_a_hollow_point(bench):
    committed(bench, "conv1", 20)
    branched(bench, "narrow from the start")
    committed(bench, "conv2", 12)
    branched(bench, "narrow at the end")
    committed(bench, "fc1", 20)
    branched(bench, "b")
    committed(bench, "conv3", 30)
    names = bench.page.locator("[data-testid=way-names] text")
    expect(names.filter(has_text="Pareto front")).to_have_count(1)
    for name in ("main", "narrow from the start", "narrow at the end", "b", "original"):
        expect(names.filter(has_text=re.compile(f"^{name}$"))).to_have_count(1)
    bench.find("layer-conv1").click()
    bench.find("width-input").fill("12")
    bench.find("width-input").press("Enter")
    settle(bench)
    expect(bench.page.locator(".wbw-tried")).to_have_count(0)
    bench.find("try").click()
    hollow = bench.page.locator(".wbw-history-plot .wbw-tried")
    expect(hollow).to_have_count(1, timeout=PATIENCE)
    # Where it lies: at its parameters, which the session counts, between those of the steps.
    bench.find("history-axis").click()
    for size in (SMALL, LARGE):
        sized(bench, size)
        assert bench.page.evaluate(CROSSED) == []
        x_ticks, y_ticks = bench.page.evaluate(TICKS)
        assert x_ticks >= 3
        assert y_ticks >= 3
    now = float(bench.kernel("view.history[view.position]['parameters']"))
    left = now - float(bench.find("readout-params-saved").get_attribute("data-value"))
    here = bench.page.locator(".wbw-history-plot .wbw-here")
    tried, present = (float(dot.get_attribute("cx")) - 52 for dot in (hollow, here))
    assert tried / present == pytest.approx(left / now, rel=1e-3)
    bench.find("width-input").fill("13")
    bench.find("width-input").press("Enter")
    expect(hollow).to_have_count(0)
    sized(bench, SMALL)


def test_native_parts_of_controls_are_of_the_theme(bench):
    schemes = "boxes => boxes.map(box => getComputedStyle(box).colorScheme)"
    controls = bench.page.locator(".wbw-root :is(select, input[type=checkbox])")
    assert set(controls.evaluate_all(schemes)) == {"light"}
    bench.theme()
    assert set(controls.evaluate_all(schemes)) == {"dark"}
    bench.theme("JupyterLab Light")
