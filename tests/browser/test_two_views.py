"""Two views of one workbench in one page: one network and one λ, a tab and an open card of each one's own."""

import re

import pytest
from notebook_page import NotebookPage, fresh_address, watch, write_notebook
from playwright.sync_api import expect
from tabs import PATIENCE

MADE = "import workbench as wb\nbench = wb.Workbench('digits-cnn', autosave=False)\nbench"
LEFT = """(lambda widget, comm: [bench.comm is None, len(widget._instances),
    len(comm.get_comm_manager().comms)])(__import__('ipywidgets').widgets.widget, __import__('comm'))"""


@pytest.fixture(scope="module")
def notebook(context, lab):
    file = write_notebook(lab.notebooks, (MADE, "bench"))
    notebook = NotebookPage(watch(context.new_page()))
    notebook.open(fresh_address(notebook.page, lab, file))
    notebook.press_shift_enter()
    notebook.press_shift_enter(1)
    expect(notebook.find("workbench")).to_have_count(2, timeout=PATIENCE)
    first = notebook.find("workbench").first
    expect(first.get_by_test_id("readout-N")).to_have_text(re.compile(r"\d"), timeout=PATIENCE)
    expect(first.get_by_test_id("meter-score")).to_have_text(re.compile(r"\d"), timeout=PATIENCE)
    yield notebook
    notebook.close()


@pytest.fixture
def views(notebook):
    return notebook.find("workbench").first, notebook.find("workbench").nth(1)


def test_each_view_stands_on_a_tab_of_its_own(notebook, views):
    one, other = views
    one.get_by_test_id("tab-budget").click()
    expect(one).to_have_attribute("data-tab", "budget")
    expect(other).to_have_attribute("data-tab", "layer")
    expect(one.get_by_test_id("budget-row-conv1")).to_be_visible()
    expect(other.get_by_test_id("lam-slider")).to_be_visible()
    expect(other.get_by_test_id("budget-row-conv1")).to_be_hidden()
    other.get_by_test_id("tab-theory").click()
    expect(one).to_have_attribute("data-tab", "budget")
    assert notebook.kernel("bench.tabs") == "['budget', 'theory']"
    other.get_by_test_id("tab-layer").click()
    expect(other).to_have_attribute("data-tab", "layer")
    assert notebook.kernel("(bench.tab, bench.tabs)") == "('layer', ['budget'])"


def test_both_follow_one_lam_and_one_network(notebook, views):
    one, other = views
    other.get_by_test_id("layer-conv1").click()
    expect(one.locator(".wbw-behind")).to_have_attribute("data-current", "true", timeout=PATIENCE)
    other.get_by_test_id("lam-slider").focus()
    for _ in range(8):
        notebook.page.keyboard.press("ArrowRight")
    notebook.page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
    )  # drawn
    number = other.get_by_test_id("readout-N").get_attribute("data-value")
    expect(one.get_by_test_id("readout-N")).to_have_attribute("data-value", number)
    other.get_by_test_id("commit").click()
    expect(other.get_by_test_id("undo")).to_be_enabled(timeout=PATIENCE)
    expect(one.get_by_test_id("undo")).to_be_enabled()
    # The kernel computes what the other view stands on, although the last chosen tab is another.
    expect(one.get_by_test_id("budget-loss-conv2")).to_have_text(re.compile(r"\d"), timeout=PATIENCE)
    expect(one.locator(".wbw-losses-lag")).to_have_count(0)
    width = notebook.kernel("next(x['width'] for x in bench.layers if x['name'] == 'conv1')")
    expect(one.get_by_test_id("budget-width-conv1")).to_have_attribute("max", width)


def test_a_command_of_one_is_busy_in_both_until_the_kernel_has_answered(notebook, views):
    one, other = views
    busy = """() => {
      const [one, other] = document.querySelectorAll('[data-testid=workbench]');
      one.querySelector('[data-testid=undo]').click();
      return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(
        [one, other].map(root => root.querySelector('[data-testid=undo]').disabled)))));
    }"""
    assert notebook.page.evaluate(busy) == [True, True]
    for view in (one, other):
        expect(view.get_by_test_id("redo")).to_be_enabled(timeout=PATIENCE)


def test_a_card_opens_in_the_view_that_asked_for_it(notebook, views):
    one, other = views
    one.get_by_test_id("load").click()
    expect(one.get_by_test_id("load-card")).to_be_visible()
    expect(other.get_by_test_id("load-card")).to_be_hidden()
    notebook.page.keyboard.press("Escape")
    expect(one.get_by_test_id("load-card")).to_be_hidden()
    expect(one.get_by_test_id("load")).to_be_focused()


def test_a_view_that_goes_takes_its_tab_along_and_closing_takes_all(notebook, views):
    notebook.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.widgets[0].model.clearExecution?.() "
        "?? window.jupyterapp.shell.currentWidget.content.widgets[0].model.outputs.clear()"
    )
    expect(notebook.find("workbench")).to_have_count(1)
    expect(notebook.find("workbench")).to_have_attribute("data-tab", "layer")
    notebook.page.wait_for_timeout(300)
    assert notebook.kernel("bench.tabs") == "[]"
    assert notebook.kernel("bench.close()") == "None"
    expect(notebook.find("workbench")).to_have_count(0)
    assert notebook.kernel(LEFT) == "[True, 0, 0]"
    assert notebook.page.errors == []
    assert notebook.cell_errors() == []
