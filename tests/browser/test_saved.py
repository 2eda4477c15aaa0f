"""A saved notebook outlives its kernel: opened and not run, it shows what it showed, and λ still moves."""

import base64
import json

import pytest
from notebook_page import NotebookPage, expect_measured, fresh_address, watch
from playwright.sync_api import expect

from workbench.widgets.picture import VIEW, understudy

STATE = "application/vnd.jupyter.widget-state+json"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
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


def test_the_file_holds_a_picture_and_a_line_of_the_last_state(saved):
    path, shown = saved
    (data,) = [one["data"] for one in json.loads(path.read_text())["cells"][0]["outputs"]]
    line = "".join(data["text/plain"])
    assert f"fc1: N(λ) = {shown['readout-N']} of 128 units" in line
    assert base64.b64decode("".join(data["image/png"]))[:4] == b"\x89PNG"


def test_an_untrusted_notebook_shows_the_picture(context, lab, saved):
    """Without its signature, as one that came by mail."""
    file = "stranger.ipynb"
    notebook = json.loads(saved[0].read_text())
    notebook["metadata"]["by"] = "a stranger"
    (lab.notebooks / file).write_text(json.dumps(notebook))
    opened = NotebookPage(watch(context.new_page()))
    opened.open(fresh_address(opened.page, lab, file))
    picture = opened.page.locator(".jp-OutputArea img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 600
    expect(opened.find("workbench")).to_have_count(0)
    opened.screenshot("saved-untrusted")
    opened.close()


def test_in_a_page_the_picture_goes_when_the_widget_comes(page):
    """The widgets' own script comes from a public network: here only what it does at the end."""
    png = base64.b64decode(PIXEL)
    page.set_content(
        f'<div id=cell><script type=\'{VIEW}\'>{{"model_id": "one"}}</script></div>'
        f'<div><script type=\'{VIEW}\'>{{"model_id": "two"}}</script></div>'
        f"<script>{understudy(png, 'one')}</script>"
    )
    expect(page.locator("img")).to_have_count(1)
    expect(page.locator("#cell > img + script")).to_have_count(1)
    page.evaluate(
        "() => { cell.append(document.createElement('div')); cell.lastChild.className = 'wbw-panel' }"
    )
    expect(page.locator("img")).to_have_count(0)


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
