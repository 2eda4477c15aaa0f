"""What the screen finds is taken over by a press: a way to prune from a comparison, a width from the map."""

import ast
import io
import json
import re
import statistics
import time
import xml.etree.ElementTree as ET

import matplotlib.pyplot as plt
import numpy as np
import pytest
from layer_tab import drag_lam_to
from notebook_page import SESSION
from own_networks import NETS
from painting import PAINTED
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
    compare.in_both_themes("compare-taken")
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


def shown_pixels(bench, locator):
    """A plot as it stands on the screen, in RGB."""
    return read_png(locator.screenshot(animations="disabled"))


def read_png(content):
    return plt.imread(io.BytesIO(content), format="png")[..., :3]


def test_a_plot_is_saved_as_it_looks_in_the_light_theme(compare, tmp_path, context):
    page, names = compare.page, []
    compare.find("tab-layer").click()
    compare.find("layer-conv2").click()
    settle(compare)
    plot = compare.find("spectrum-plot")
    page.mouse.move(5, 5)
    expect(plot.locator("xpath=../div[contains(@class, 'wbw-plot-files')]")).to_have_css("opacity", "0")
    light = shown_pixels(compare, plot)
    compare.theme("JupyterLab Dark")
    page.wait_for_timeout(300)
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    expect(plot.locator("xpath=../div[contains(@class, 'wbw-plot-files')]")).to_have_css("opacity", "1")
    compare.screenshot("plot-files-dark")
    for kind in ("svg", "png"):
        button = plot.locator("xpath=..").get_by_test_id(f"save-{kind}")
        with page.expect_download() as download:
            button.focus()
            page.keyboard.press("Enter")
        names.append(download.value.suggested_filename)
        download.value.save_as(tmp_path / f"plot.{kind}")
    expect(compare.find("progress")).to_contain_text("Saved as digits-cnn-conv2-spectrum.png")
    assert names == ["digits-cnn-conv2-spectrum.svg", "digits-cnn-conv2-spectrum.png"]
    compare.theme("JupyterLab Light")
    text = (tmp_path / "plot.svg").read_text()
    assert ET.fromstring(text).find("{http://www.w3.org/2000/svg}title").text == "digits-cnn, conv2, spectrum"
    assert "var(--" not in text
    assert "class=" not in text
    # By itself, in a page without our styles, it is what the screen showed in the light theme.
    alone = context.new_page()
    alone.set_viewport_size({"width": 1000, "height": 700})
    alone.set_content(f"<body style='margin: 0'>{text}</body>")
    saved = read_png(alone.locator("svg").screenshot())
    alone.close()
    size = tuple(min(a, b) for a, b in zip(saved.shape[:2], light.shape[:2], strict=True))
    light, saved = light[: size[0], : size[1]], saved[: size[0], : size[1]]
    # A plot on the screen may begin between two pixels: what is within one of its place counts as the same.
    moved = [np.roll(saved, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    differing = np.min([np.abs(one - light).max(axis=2) for one in moved], axis=0) > 0.25
    assert differing.mean() < 0.03
    png = read_png((tmp_path / "plot.png").read_bytes())
    assert abs(png.shape[0] - 2 * light.shape[0]) <= 4
    assert abs(png.shape[1] - 2 * light.shape[1]) <= 4
    assert png[2, 2].tolist() == [1, 1, 1]


WATCH = f"""() => {{{PAINTED}
  window.handled = [];
  document.addEventListener('pointermove', async event => {{
    if (!event.buttons) return;
    const start = performance.now();
    window.handled.push(await painted() - start);
  }}, {{ capture: true }});
}}"""


def test_the_latency_of_lam_stands_in_the_header_once_it_is_measured(compare):
    compare.find("tab-layer").click()
    settle(compare)
    expect(compare.find("latency")).to_be_hidden()
    compare.page.evaluate(WATCH)
    for share in (0.2, 0.7, 0.3, 0.6, 0.4, 0.5):
        drag_lam_to(compare, share)
    expect(compare.find("latency")).to_contain_text("ms")
    told = float(compare.find("latency").get_attribute("data-value"))
    measured = statistics.median(compare.page.evaluate("() => window.handled"))
    assert 0.5 * measured <= told <= 2 * measured
    assert compare.find("latency").get_attribute("title").startswith("From a move of λ to its painted answer")
    compare.screenshot("latency")


def test_files_are_chosen_from_the_notebooks_folder_by_keys_alone(compare, lab):
    (lab.notebooks / "nets.py").write_text(NETS)
    (lab.notebooks / "pictures").mkdir(exist_ok=True)
    np.save(lab.notebooks / "pictures" / "rows.npy", np.zeros((3, 2), dtype="f4"))
    (lab.notebooks.parent / "beside.npy").write_bytes(b"1")
    page, entry = compare.page, compare.find("picker-entry")
    compare.find("load").click()
    expect(compare.find("model")).to_be_focused()
    compare.find("browse-calibration").focus()
    page.keyboard.press("Enter")
    expect(compare.find("picker")).to_be_visible()
    expect(entry.first).to_be_focused()
    compare.screenshot("picker")
    while page.evaluate("() => document.activeElement.dataset.cell") != "pictures":
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(entry).to_have_count(1)
    expect(entry).to_be_focused()
    page.keyboard.press("Backspace")
    expect(entry.filter(has_text="pictures")).to_be_visible()
    expect(compare.find("picker-outside")).to_be_hidden()
    page.keyboard.press("Backspace")
    expect(compare.find("picker-outside")).to_be_visible()  # above the notebook's folder, and says so
    compare.screenshot("picker-outside")
    entry.filter(has_text="beside.npy").click()
    expect(compare.find("calibration")).to_have_value(str(lab.notebooks.parent / "beside.npy"))
    expect(compare.find("calibration")).to_be_focused()
    compare.find("browse-calibration").click()
    expect(entry.filter(has_text="pictures")).to_be_visible()
    taken = """() => {
      const the = (name) => document.querySelector(`[data-testid=${name}]`);
      document.querySelector("[data-testid=picker-entry][data-cell=pictures]").click();
      the("picker-folder").click(); // before the answer: what is listed is still the folder above
      return the("calibration").value;
    }"""
    assert page.evaluate(taken) == str(lab.notebooks.parent / "beside.npy")
    compare.find("picker-folder").click()
    expect(compare.find("calibration")).to_have_value("pictures")
    compare.find("browse-model").click()
    compare.page.locator("[data-testid=picker-entry][data-cell='nets.py']").click()
    expect(entry.filter(has_text="function").first).to_be_visible()
    entry.first.click()
    expect(compare.find("model")).to_have_value(re.compile(r"^nets\.py:\w+$"))
    compare.find("browse-targets").click()
    page.keyboard.press("Escape")  # closes the list, not the card
    expect(compare.find("picker")).to_be_hidden()
    expect(compare.find("load-card")).to_be_visible()
    expect(compare.find("browse-targets")).to_be_focused()
    compare.find("model").fill("")
    compare.find("calibration").fill("")
    page.keyboard.press("Escape")
    expect(compare.find("load-card")).to_be_hidden()


# The line of progress as a job would have it, and what of it is cut, by the browser's own measure.
RUNNING = """(lambda s: s._set({"progress": {"what": "greedy, channel: choosing encoder.layers.28.linear1",
    "done": 4, "total": 25, "elapsed": 90.0, "left": 400.0, "command": "compare"}}))(Out[1].state)"""
PARTS = """() => [...document.querySelectorAll('[data-testid=progress] > span')]
  .map(one => [one.textContent, one.scrollWidth > one.clientWidth + 1])"""


def test_counts_and_time_left_are_never_cut_and_the_whole_is_on_hover(compare):
    page, wide = compare.page, compare.page.viewport_size
    compare.kernel(RUNNING)
    expect(compare.find("cancel")).to_have_text("Stop, keep rows")
    try:
        for width in (1280, 1000, 700):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_timeout(200)
            (count, count_cut), (what, _), (left, left_cut) = page.evaluate(PARTS)
            assert (count, count_cut, left_cut) == ("4 of 25", False, False)
            assert "choosing encoder.layers.28.linear1" in what
            assert re.fullmatch(r"\W+7\u202fmin left", left)
            title = compare.find("progress").get_attribute("title")
            assert title.startswith("4 of 25")
            assert title.endswith("so far)")
            menu, line = (compare.find(one).bounding_box() for one in ("branch", "progress"))
            assert line["y"] > menu["y"] + 10 or line["x"] >= menu["x"] + menu["width"]
    finally:
        page.set_viewport_size(wide)
        compare.kernel("Out[1].state._set({'progress': {}})")
    expect(compare.find("cancel")).to_be_hidden()


OPEN_SCORE = """(lambda s, score, part: s._set({"history": [s.history[0] | {"score": score}],
    "scoring": part | {"revision": s.revision} if part else {}}))(Out[1].state, %s, %s)"""


def test_a_score_on_a_first_part_is_shown_as_such_and_is_completed(compare):
    meter, score = compare.find("meter-score"), compare.kernel("Out[1].session.history[0].score")
    expect(compare.find("score-now")).to_be_hidden()
    compare.kernel(OPEN_SCORE % ("None", "{'score': 0.9125, 'examples': 2000}"))
    expect(meter).to_contain_text("on the first 2\u202f000")
    expect(meter).to_contain_text("0.9125")
    expect(compare.find("score-now")).to_be_visible()
    compare.kernel(OPEN_SCORE % (score, "None"))
    expect(meter).to_contain_text(f"{float(score):.4f} → {float(score):.4f}")
    expect(compare.find("score-now")).to_be_hidden()


def test_no_script_failed(compare):
    assert compare.page.errors == []
    assert compare.page.foreign == []
    assert compare.cell_errors() == []
