"""A saved notebook outlives its kernel: opened and not run, it shows what it showed, and λ still moves."""

import json

import pytest
from notebook_page import NotebookPage, expect_measured, fresh_address, watch
from playwright.sync_api import expect

STATE = "application/vnd.jupyter.widget-state+json"
SAVE = "() => window.jupyterapp.commands.execute('docmanager:save')"


@pytest.fixture(scope="module")
def saved(context, lab):
    """The file of a notebook in which λ was moved and fc1 chosen before it was saved, and the λ shown."""
    file = "saved.ipynb"
    (lab.notebooks / file).write_bytes((lab.notebooks / "workbench.ipynb").read_bytes())
    notebook = NotebookPage(watch(context.new_page()))
    notebook.open(fresh_address(notebook.page, lab, file))
    notebook.press_shift_enter()
    expect_measured(notebook.page)
    notebook.find("layer-fc1").click()
    slider = notebook.find("lam-slider")
    slider.focus()
    for _ in range(7):
        notebook.page.keyboard.press("ArrowLeft")
    expect(notebook.page.locator(".wbw-behind")).to_have_attribute("data-current", "true", timeout=60_000)
    shown = {name: notebook.find(name).text_content() for name in SHOWN}
    notebook.page.evaluate(SAVE)
    notebook.close()
    return lab.notebooks / file, shown


SHOWN = ("readout-N", "readout-width", "readout-output-loss", "meter-score")


@pytest.fixture(scope="module")
def reopened(context, lab, saved):
    notebook = NotebookPage(watch(context.new_page()))
    notebook.open(fresh_address(notebook.page, lab, saved[0].name))
    yield notebook
    notebook.close()


def test_the_file_holds_the_state(saved):
    stored = json.loads(saved[0].read_text())
    states = [one["state"] for one in stored["metadata"]["widgets"][STATE]["state"].values()]
    shared = [one for one in states if "revision" in one]
    assert [one["selected"] for one in shared] == ["fc1"]
    assert shared[0]["measured"]


def test_reopened_without_running_it_shows_what_it_showed(reopened, saved):
    expect(reopened.find("workbench")).to_be_visible(timeout=60_000)
    for name, text in saved[1].items():
        expect(reopened.find(name)).to_have_text(text)
    expect(reopened.find("progress")).to_contain_text("kernel is gone")
    reopened.screenshot("saved-reopened")


def test_lam_still_drags(reopened):
    number = reopened.find("readout-N")
    before = float(number.get_attribute("data-value"))
    reopened.find("lam-slider").focus()
    for _ in range(20):
        reopened.page.keyboard.press("ArrowRight")
    expect(number).not_to_have_attribute("data-value", str(before))
    assert float(number.get_attribute("data-value")) < before
    grip = reopened.page.locator(".wbw-spectrum .wbw-grip").first.bounding_box()
    reopened.page.mouse.move(grip["x"] + 5, grip["y"] + 5)
    middle = float(number.get_attribute("data-value"))
    reopened.page.mouse.down()
    reopened.page.mouse.move(grip["x"] + 5, grip["y"] + 60, steps=5)
    reopened.page.mouse.up()
    expect(number).not_to_have_attribute("data-value", str(middle))
    assert float(number.get_attribute("data-value")) > middle
    assert reopened.page.errors == []
    assert reopened.cell_errors() == []
