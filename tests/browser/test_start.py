"""`workbench lab` and `workbench app` from the command line to the first picture."""

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest
from notebook_page import NotebookPage, expect_measured, screenshot
from playwright.sync_api import expect

VIEW = """
import sys, anywidget, traitlets, ipywidgets

class View(anywidget.AnyWidget):
    _esm = '''export default { render({ model, el }) {
        el.dataset.testid = "view";
        const show = () => { el.textContent = model.get("text"); };
        model.on("change:text", show);
        show();
    } }'''
    text = traitlets.Unicode(sys.executable).tag(sync=True)

view = View()
slider = ipywidgets.IntSlider()
slider.add_class("number")
slider.observe(lambda change: setattr(view, "text", f"{change['new']} from the kernel"), "value")
ipywidgets.VBox([view, slider])
"""


@pytest.fixture
def first_page(page, lab):
    """What a person sees who opens the printed address."""
    notebook = NotebookPage(page).open(lab.url)
    yield notebook
    notebook.close()


def test_lab_opens_the_notebook_with_nothing_in_the_way(first_page, lab):
    page = first_page.page
    expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_contain_text("workbench")
    page.wait_for_timeout(2000)  # prompts come late
    first_page.screenshot("start-lab")
    assert first_page.interruptions() == []
    expect(page.locator("#jp-left-stack")).to_be_hidden()
    expect(page.locator("#jp-right-stack")).to_be_hidden()
    expect(page.locator("#jp-main-statusbar")).to_be_hidden()
    room = page.locator(".jp-NotebookPanel").bounding_box()
    assert room["width"] >= 1200
    assert room["height"] >= 740
    assert page.foreign == []


def test_lab_says_where_it_is_and_no_more(lab):
    lines = lab.output.strip().splitlines()
    assert lines[0] == f"Notebooks: {lab.notebooks}"
    assert lines[1] == f"Workbench: {lab.url}   (Ctrl+C stops)"
    assert lines[2] == "Course:    workbench lab --open course/01-spectra.ipynb"
    assert "Traceback" not in lab.output
    assert lab.origin.startswith("http://127.0.0.1:")


def test_lab_asks_for_the_token(lab):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{lab.origin}/api/kernels")


def test_kernel_is_this_python_and_answers_without_delay(open_notebook, lab):
    notebook = open_notebook(VIEW)
    notebook.press_shift_enter()
    view = notebook.find("view")
    expect(view).to_have_text(sys.executable)
    notebook.page.locator(".number .noUi-handle").focus()
    notebook.page.keyboard.press("ArrowRight")
    expect(view).to_have_text("1 from the kernel")
    assert notebook.cell_errors() == []
    assert set(lab.connections.read_text().split("\n")[:-1]) == {"NoDelayConnection True"}


def test_an_error_under_a_cell_is_seen(open_notebook):
    notebook = open_notebook("1 + 1", "int('seven')")
    notebook.run_all()
    assert notebook.cell_errors() == ["ValueError: invalid literal for int() with base 10: 'seven'"]


def test_the_theme_can_be_changed(open_notebook):
    notebook = open_notebook("1 + 1")
    notebook.theme("JupyterLab Dark")
    assert notebook.page.locator("body").get_attribute("data-jp-theme-light") == "false"
    notebook.theme("JupyterLab Light")


def test_one_shift_enter_shows_measured_spectra(first_page, capsys):
    """In little more than torch takes to be imported, which is most of it."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, sklearn.datasets, anywidget"], check=True)
    imports = time.perf_counter() - start
    first_page.press_shift_enter()
    start = time.perf_counter()
    expect_measured(first_page.page)
    seconds = time.perf_counter() - start
    with capsys.disabled():
        print(f"\nShift+Enter to measured spectra: {seconds:.1f} s, imports alone {imports:.1f} s")
    assert seconds < 6 * imports
    first_page.screenshot("start-workbench")
    assert first_page.cell_errors() == []
    assert first_page.interruptions() == []
    assert first_page.page.errors == []
    assert first_page.page.foreign == []


def test_a_reloaded_page_shows_the_same_state(open_notebook):
    notebook = open_notebook("import workbench as wb\n\nwb.Workbench('digits-cnn')")
    notebook.press_shift_enter()
    expect_measured(notebook.page)
    notebook.find("layer-conv2").click()
    notebook.find("lam-line").focus()
    for _ in range(3):
        notebook.page.keyboard.press("ArrowDown")
    notebook.find("commit").click()
    expect(notebook.find("history-item-1")).to_be_visible()
    shown = {one: notebook.find(one).get_attribute("data-value") for one in ("readout-N", "meter-parameters")}
    notebook.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    notebook.page.wait_for_timeout(1000)
    notebook.page.reload()
    expect(notebook.find("history-item-1")).to_be_visible(timeout=60_000)
    notebook.wait_idle()
    for one, value in shown.items():
        expect(notebook.find(one)).to_have_attribute("data-value", value)
    notebook.find("undo").click()
    expect(notebook.find("undo")).to_be_disabled()


def test_app_shows_the_workbench_by_itself(page, app):
    page.goto(app.url)
    expect_measured(page)
    screenshot(page, "start-app")
    expect(page).to_have_title("Spectral Pruning Workbench")
    expect(page.locator(".jp-InputArea, .cm-content, .highlight")).to_have_count(0)
    assert page.get_by_test_id("workbench").bounding_box()["width"] >= 1200
    assert page.errors == []
    assert page.foreign == []


def test_app_kernels_end_with_their_page(context, app):
    server = psutil.Process(app.process.pid)
    before = set(server.children())
    for _ in range(2):
        page = context.new_page()
        page.goto(app.url)
        expect(page.get_by_test_id("workbench")).to_be_visible(timeout=120_000)
        assert set(server.children()) - before
        page.close(run_before_unload=True)
    deadline = time.monotonic() + 30
    while (left := set(server.children()) - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == set()


def test_app_says_where_it_is_and_no_more(app):
    assert re.fullmatch(r"Notebooks: .*\nWorkbench: http://127\.0\.0\.1:\d+/\?token=\w+ .*\n", app.output)
