"""A person's own model in the workbench: loaded from a form, pruned, exported, without a line of code."""

import re

import numpy as np
import pytest
from layer_tab import put_off
from notebook_page import THEMES, expect_measured
from own_networks import CUT, NETS, OVERLAPPING, PATIENCE, load, loaded, opened, settle
from playwright.sync_api import expect


@pytest.fixture(scope="module")
def files(lab):
    """A file of models and arrays of data in the notebook's folder."""
    generator = np.random.default_rng(3)
    images = generator.integers(0, 256, (97, 8, 8), dtype=np.uint8)
    (lab.notebooks / "nets.py").write_text(NETS)
    np.savez(lab.notebooks / "images.npz", x=images, y=generator.integers(0, 7, 97))
    np.save(lab.notebooks / "rows.npy", generator.normal(size=(61, 13)).astype("f4"))
    np.save(lab.notebooks / "steps.npy", generator.normal(size=(61, 5, 11)).astype("f4"))
    rows = generator.normal(size=(61, 13)).astype("f4")
    np.savez(lab.notebooks / "tokens.npz", x=rows, y=generator.integers(0, 5, (61, 5)))
    return lab.notebooks


@pytest.fixture(scope="module")
def bench(workbench_page, files):
    expect(workbench_page.find("cancel")).to_be_hidden(timeout=PATIENCE)
    return workbench_page


@pytest.fixture(autouse=True)
def closed(bench):
    for name in ("load", "export"):
        if bench.find(f"{name}-card").is_visible():
            bench.find(f"{name}-close").click()
            expect(bench.find(f"{name}-card")).to_be_hidden()


@pytest.mark.parametrize("theme", THEMES)
def test_the_load_card_is_whole_and_traps_nobody(bench, theme):
    bench.theme(theme)
    bench.find("load").click()
    expect(bench.find("model")).to_be_focused()
    bench.find("model").fill("")
    bench.screenshot("load-empty")
    expect(bench.find("pretrained")).to_be_disabled()
    bench.find("model").fill("torchvision:resnet18")
    expect(bench.find("pretrained")).to_be_enabled()
    assert bench.page.evaluate(CUT) == []
    bench.screenshot("load-" + theme.split()[-1].lower())
    bench.page.keyboard.press("Escape")
    expect(bench.find("load-card")).to_be_hidden()
    expect(bench.find("load")).to_be_focused()
    bench.theme("JupyterLab Light")


def test_typing_in_the_card_makes_no_cells_and_commits_nothing(bench):
    cells = bench.page.locator(".jp-Notebook .jp-Cell").count()
    load(bench, model="nets.py:smal", calibration="")
    bench.find("model").focus()
    bench.page.keyboard.type("abxd")
    bench.page.keyboard.press("Enter")
    settle(bench)
    assert bench.page.locator(".jp-Notebook .jp-Cell").count() == cells
    assert bench.kernel("Out[1].session.position") == "0"


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"model": "nets.py:smal", "calibration": "images.npz"}, "Model: .*no function or class smal"),
        ({"model": "nets.py:small", "calibration": "nowhere.npz"}, "Calibration: there is no file"),
        ({"model": "nets.py:small", "calibration": "images.npz", "size": "big"}, "Size: expected 224"),
        ({"model": "nets.py:small", "calibration": ""}, "Calibration: nothing is given"),
        ({"model": "nets.py:small", "calibration": "rows.npy"}, "does not go through|expected"),
    ],
)
def test_errors_stay_in_the_card_with_what_was_typed(bench, form, words):
    load(bench, **form)
    error = bench.find("load-card").get_by_test_id("error")
    expect(error).to_contain_text(re.compile(words), timeout=PATIENCE)
    for key, value in form.items():
        assert bench.find(key).input_value() == value
    assert bench.kernel("Out[1].session.name") == "'digits-cnn'"
    assert bench.page.evaluate(CUT) == []
    bench.screenshot("load-error")
    assert bench.cell_errors() == []


def test_a_model_of_ones_own_is_loaded_measured_and_pruned(bench):
    load(
        bench,
        model="nets.py:small",
        calibration="images.npz",
        evaluation="images.npz",
        calibration_limit="61",
    )
    loaded(bench, "nets.py:small")
    expect_measured(bench.page)
    assert bench.kernel("len(Out[1].session.calibration.inputs)") == "61"
    bench.find("layer-0").click()
    bench.find("width-input").fill("7")
    bench.find("width-input").press("Tab")
    settle(bench)
    bench.find("reconstruction").select_option("kernel")
    settle(bench)
    expect(bench.page.get_by_text("error for Â")).to_be_visible()
    bench.find("reestimate").check()
    settle(bench)
    bench.screenshot("own-model")
    bench.find("commit").click()
    expect(bench.find("history-item-1")).to_contain_text("0 13 → 7", timeout=PATIENCE)
    settle(bench)
    choice = "Out[1].session.history[1].choice"
    assert bench.kernel(f"({choice}.reconstruction, {choice}.reestimate)") == "('kernel', True)"


def test_export_asks_before_it_replaces(bench, files):
    opened(bench, "nets.py:small", calibration="images.npz")
    where = files / "nets.py-small-pruned"
    bench.find("export").click()
    expect(bench.find("folder")).to_have_value("nets.py-small-pruned")
    expect(bench.find("folder")).to_be_focused()
    expect(bench.find("safetensors")).to_be_disabled()
    bench.find("pt2").check()
    assert bench.page.evaluate(CUT) == []
    bench.screenshot("export")
    bench.find("export-go").click()
    expect(bench.find("export-card")).to_be_hidden(timeout=PATIENCE)
    expect(bench.find("progress")).to_contain_text(f"Exported to {where}")
    assert (where / "model.pt2").is_file()
    written = (where / "model.pt2").stat().st_mtime_ns
    bench.find("export").click()
    bench.find("export-go").click()
    expect(bench.find("question")).to_contain_text("already holds", timeout=PATIENCE)
    expect(bench.find("keep")).to_be_focused()
    assert bench.page.evaluate(CUT) == []
    bench.screenshot("export-replace")
    bench.find("keep").click()
    expect(bench.find("question")).to_be_hidden()
    assert (where / "model.pt2").stat().st_mtime_ns == written
    bench.find("export-go").click()
    bench.find("replace").click()
    expect(bench.find("export-card")).to_be_hidden(timeout=PATIENCE)
    settle(bench)
    assert (where / "model.pt2").stat().st_mtime_ns > written


def test_a_session_is_saved_where_the_card_says(bench, files):
    bench.find("export").click()
    bench.find("folder").fill("kept/session")
    bench.find("save").click()
    expect(bench.find("export-card")).to_be_hidden(timeout=PATIENCE)
    assert (files / "kept" / "session" / "recipe.json").is_file()
    assert any((files / "kept" / "session" / "tensors").iterdir())


def test_an_export_that_fails_is_told_in_the_card(bench, files):
    (files / "a-file").write_text("here")
    bench.find("export").click()
    bench.find("folder").fill("a-file")
    bench.find("export-go").click()
    error = bench.find("export-card").get_by_test_id("error")
    expect(error).to_contain_text("is a file", timeout=PATIENCE)
    bench.find("folder").fill("elsewhere")
    bench.kernel("setattr(Out[1].session, 'export', lambda *names, **options: 1 / 0)")
    bench.find("export-go").click()
    expect(error).to_contain_text("ZeroDivisionError: division by zero", timeout=PATIENCE)
    bench.kernel("delattr(Out[1].session, 'export')")
    bench.find("export-close").click()
    bench.find("export").click()
    expect(error).to_be_hidden()


def test_a_wide_group_says_how_far_its_curve_is_drawn(bench):
    load(bench, model="nets.py:wide", calibration="rows.npy")
    loaded(bench, "nets.py:wide")
    bench.find("layer-0").click()
    settle(bench)
    expect(bench.page.get_by_text("drawn to width")).to_be_visible()
    expect(bench.find("reestimate")).to_be_disabled()
    expect(bench.page.get_by_text("no batch norm here")).to_be_visible()
    bench.screenshot("wide")
    bench.find("layer-2").click()
    settle(bench)
    ticks = bench.page.locator(".wbw-half:last-child .wbw-tick").all_text_contents()
    assert [text for text in ticks if "." in text] == []
    bench.screenshot("tiny")


@pytest.mark.parametrize("theme", THEMES)
def test_sixty_groups_with_long_names_scroll_and_are_told_apart(bench, theme):
    opened(bench, "nets.py:Encoder", calibration="steps.npy")
    bench.theme(theme)
    last = bench.find("layer-encoder.layers.29.linear1")
    bench.page.locator("[role=listbox] [aria-selected=true]").focus()
    bench.page.keyboard.press("End")
    bench.page.keyboard.press("ArrowUp")
    settle(bench)
    expect(last).to_be_focused()
    expect(last).to_be_in_viewport(ratio=1)
    bench.find("layer-encoder.layers.28.self_attn.q_proj").click()
    settle(bench)
    heads = bench.find("layer-encoder.layers.28.self_attn.q_proj")
    expect(heads).to_contain_text("Linear heads")
    expect(heads.locator(".wbw-note")).to_have_attribute("title", re.compile("4 heads of 3 rows"))
    bench.screenshot("many-" + theme.split()[-1].lower())
    bench.theme("JupyterLab Light")


def test_the_step_where_we_are_is_whole_in_the_list(bench):
    opened(bench, "nets.py:Encoder", calibration="steps.npy")
    for layer in range(6):
        bench.find(f"layer-encoder.layers.{layer}.linear1").click()
        settle(bench)
        bench.find("width-input").fill("9")
        bench.find("width-input").press("Tab")
        settle(bench)
        bench.find("commit").click()
        expect(bench.find(f"history-item-{layer + 1}")).to_be_visible(timeout=PATIENCE)
        settle(bench)
        assert whole(bench, layer + 1)
    bench.screenshot("history")
    for layer in range(5, -1, -1):
        bench.find("undo").click()
        settle(bench)
        assert whole(bench, layer)


def whole(bench, step):
    """Whether the row of a step is all inside its list, and not under the list's head."""
    return bench.find(f"history-item-{step}").evaluate(
        """row => {
          const [one, list] = [row.getBoundingClientRect(), row.parentElement.getBoundingClientRect()];
          const head = row.parentElement.firstElementChild.getBoundingClientRect();
          return one.top >= head.bottom - 1 && one.bottom <= list.bottom + 1;
        }"""
    )


def test_what_targets_cannot_tell_is_asked_for_and_answered_by_keyboard(bench):
    form = {"model": "nets.py:Square", "calibration": "tokens.npz", "evaluation": "tokens.npz"}
    load(bench, **form)
    error = bench.find("load-card").get_by_test_id("error")
    words = "Classes on: .*say which with “Classes on: second axis” or “Classes on: last axis”"
    expect(error).to_contain_text(re.compile(words), timeout=PATIENCE)
    expect(bench.find("classes")).to_be_focused()
    expect(bench.find("classes")).to_have_attribute("aria-invalid", "")
    assert bench.page.evaluate(CUT) == []
    bench.in_both_themes("load-asks")
    bench.find("classes").focus()
    bench.page.keyboard.press("ArrowDown")
    expect(bench.find("classes")).to_have_value("last")
    bench.page.keyboard.press("Shift+Tab")
    expect(bench.find("metric")).to_be_focused()
    bench.page.keyboard.press("t")
    expect(bench.find("metric")).to_have_value("token accuracy")
    bench.find("calibration").press("Enter")
    loaded(bench, "nets.py:Square")
    expect_measured(bench.page)
    asked = "{'metric': 'token accuracy', 'classes': 'last'}"
    assert bench.kernel("Out[1].session.asked") == asked
    expect(bench.find("meter-score")).to_contain_text("token accuracy")
    expect(bench.page.locator(".wbw-history")).to_contain_text("token accuracy against")
    bench.find("width-input").fill("3")
    bench.find("width-input").press("Tab")
    settle(bench)
    bench.find("commit").click()
    expect(bench.find("history-item-1")).to_contain_text("body.0 11 → 3", timeout=PATIENCE)
    settle(bench)
    assert bench.page.evaluate(OVERLAPPING) == []
    bench.screenshot("load-answered")
    bench.find("load").click()
    expect(bench.find("classes")).to_have_value("last")
    expect(bench.find("classes")).not_to_have_attribute("aria-invalid", "")


def test_the_load_card_is_whole_where_the_page_is_narrow(bench):
    wide = bench.page.viewport_size
    put_off(bench)
    bench.page.set_viewport_size({"width": 700, "height": 900})
    try:
        bench.find("load").click()
        expect(bench.find("classes")).to_be_visible()
        bench.screenshot("load-narrow")
        assert bench.page.evaluate(CUT) == []
        boxes = [bench.find(key).bounding_box() for key in ("targets", "metric", "classes")]
        assert len({box["y"] for box in boxes}) == 1
    finally:
        bench.page.set_viewport_size(wide)


def test_opening_a_slow_network_tells_how_far_it_is_and_is_cancelled(bench):
    before = bench.find("model-select").input_value()
    load(bench, model="nets.py:slow", calibration="rows.npy")
    expect(bench.find("progress")).to_contain_text(
        re.compile(r"^\d+ of \d+\s· opening, proving"), timeout=PATIENCE
    )
    expect(bench.find("load-card")).to_contain_text("opening, proving")
    bench.screenshot("opening")
    bench.find("cancel").click()
    expect(bench.find("cancel")).to_be_hidden(timeout=PATIENCE)
    expect(bench.find("model-select")).to_have_value(before)
    expect(bench.find("load-go")).to_have_attribute("aria-disabled", "false")


def test_no_script_failed_and_nothing_was_asked_of_other_machines(bench):
    assert bench.page.errors == []
    assert bench.page.foreign == []
    assert bench.cell_errors() == []
