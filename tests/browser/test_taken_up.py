"""An afternoon's work outlives a kernel, a reload, a second notebook and a model loaded by mistake."""

import os
import re
import signal

import pytest
from layer_tab import MEASURED
from notebook_page import NotebookPage, expect_measured, fresh_address, screenshot, watch, write_notebook
from playwright.sync_api import expect
from servers import Server

from workbench.session.runs import runs

HASH = "wb_hash(view.session)"
CELLS = (
    "import workbench as wb\n"
    "from workbench.session.recipe import fingerprint as f\n"
    "import os\n"
    "wb_hash = lambda s: [f(s.model), s.history[s.position].score, sorted(s.branches), s.position]\n"
    "view = wb.Workbench('digits-cnn')\n"
    "view",
)


def keeping(command, folder):
    """A running server whose sessions keep themselves in a folder of its own."""
    server = Server(command, folder, WORKBENCH_AUTOSAVE=str(folder / "runs"))
    yield server
    assert server.stop() == 0, server.output


@pytest.fixture(scope="module")
def kept_lab(tmp_path_factory):
    yield from keeping("lab", tmp_path_factory.mktemp("kept-lab"))


@pytest.fixture
def notebook(context, kept_lab):
    opened = []

    def open_one(*cells, measured=True):
        page = NotebookPage(watch(context.new_page()))
        opened.append(page)
        page.open(fresh_address(page.page, kept_lab, write_notebook(kept_lab.notebooks, cells)))
        page.run_all()
        if measured:
            expect_measured(page.page)
        return page

    yield open_one
    for page in opened:
        page.close()


def commit(notebook, layer, width):
    notebook.find(f"layer-{layer}").click()
    expect(notebook.find("readout-width")).not_to_be_empty()
    notebook.find("width-input").fill(str(width))
    notebook.page.keyboard.press("Tab")
    expect(notebook.find("commit")).to_be_enabled(timeout=MEASURED)
    steps = notebook.page.locator(".wbw-step").count()
    notebook.find("commit").click()
    expect(notebook.page.locator(".wbw-step")).to_have_count(steps + 1, timeout=MEASURED)
    expect(notebook.find("cancel")).to_be_hidden(timeout=MEASURED)


def three_layers(notebook):
    for layer, width in (("fc1", 40), ("conv2", 20), ("conv1", 11)):
        commit(notebook, layer, width)
    notebook.kernel("view.state._saves.wait(30)")
    return notebook.kernel(HASH)


def test_a_kernel_that_is_killed_and_what_it_had_to_the_bit(notebook):
    first = notebook(*CELLS)
    made = three_layers(first)
    os.kill(int(first.kernel("os.getpid()")), signal.SIGKILL)
    expect(first.page.locator(".jp-Dialog")).to_be_visible(timeout=MEASURED)
    first.page.locator(".jp-Dialog button.jp-mod-accept").click()
    first.wait_idle()
    first.run_all()
    expect_measured(first.page)
    expect(first.find("offer")).to_contain_text("digits-cnn, 3 steps", timeout=MEASURED)
    first.screenshot("offer-light")
    first.theme()
    first.screenshot("offer-dark")
    first.theme("JupyterLab Light")
    first.find("take-up").click()
    expect(first.page.locator(".wbw-step")).to_have_count(5, timeout=MEASURED)
    expect(first.find("offer")).to_be_hidden()
    assert first.kernel(HASH) == made
    first.screenshot("taken-up")
    assert first.page.errors == []


def test_a_second_notebook_on_the_same_folder_is_told_and_reads_or_takes_over(notebook, kept_lab):
    first, second = notebook(*CELLS), notebook(*CELLS)
    commit(first, "fc1", 40)
    made = first.kernel(HASH)
    first.find("export").click()
    first.find("folder").fill("both")
    first.find("save").click()
    expect(first.find("progress")).to_contain_text("Session saved", timeout=MEASURED)
    second.find("export").click()
    second.find("folder").fill("both")
    second.find("open-saved").click()
    expect(second.find("question")).to_contain_text("is open in another notebook", timeout=MEASURED)
    second.screenshot("open-elsewhere")
    second.find("keep").click()  # read-only
    expect(second.find("progress")).to_contain_text("read-only", timeout=MEASURED)
    assert second.kernel(HASH) == made
    before = (kept_lab.notebooks / "both" / "recipe.json").read_bytes()
    commit(second, "conv2", 20)
    second.find("export").click()
    second.find("folder").fill("both")
    second.find("save").click()
    expect(second.find("question")).to_contain_text("is open in another notebook", timeout=MEASURED)
    expect(second.find("keep")).to_be_focused()
    second.screenshot("save-open-elsewhere")
    second.theme()
    second.screenshot("save-open-elsewhere-dark")
    second.theme("JupyterLab Light")
    second.find("keep").click()
    expect(second.find("question")).to_be_hidden()
    assert (kept_lab.notebooks / "both" / "recipe.json").read_bytes() == before
    second.find("save").click()
    second.find("replace").click()  # take over
    expect(second.find("progress")).to_contain_text("Session saved", timeout=MEASURED)
    assert (kept_lab.notebooks / "both" / "recipe.json").read_bytes() != before
    first.find("export").click()
    first.find("folder").fill("both")
    first.find("save").click()
    expect(first.find("question")).to_contain_text("taken over", timeout=MEASURED)
    first.find("keep").click()
    first.find("open-saved").click()
    first.find("replace").click()  # take over
    expect(first.find("progress")).to_contain_text("Opened", timeout=MEASURED)
    assert first.kernel("len(view.session.history)") == "3"


def throw_away(notebook):
    notebook.page.wait_for_timeout(600)  # as a person who reads the question
    notebook.find("discard-go").click()


def test_earlier_sessions_are_thrown_away_one_after_the_other(notebook, tmp_path):
    code = CELLS[0].replace("'digits-cnn'", f"'digits-cnn', autosave={str(tmp_path)!r}")
    for width in (40, 50):
        one = notebook(code)
        commit(one, "fc1", width)
        one.kernel("view.state._saves.wait(30)")
        one.close()
    one = notebook(code)
    expect(one.find("offers").locator("option")).to_have_count(2, timeout=MEASURED)
    one.screenshot("offers-two")
    one.find("discard").click()
    expect(one.find("offer")).to_contain_text("Throw away digits-cnn, 1 step")
    expect(one.find("discard-keep")).to_be_focused()
    one.screenshot("discard-light")
    one.theme()
    one.screenshot("discard-dark")
    one.theme("JupyterLab Light")
    one.find("discard-keep").focus()
    one.page.keyboard.press("Escape")
    expect(one.find("offers")).to_be_visible()
    expect(one.find("discard")).to_be_focused()
    there = [run.folder for run in runs(tmp_path)]
    assert len(there) == 2
    one.find("discard").click()
    throw_away(one)
    expect(one.find("offers")).to_be_hidden(timeout=MEASURED)
    expect(one.find("offer")).to_contain_text("Kept from before: digits-cnn, 1 step", timeout=MEASURED)
    one.screenshot("discard-next")
    assert [run.folder for run in runs(tmp_path)] == there[1:]  # the newest was shown first, and went
    assert not there[0].exists()
    one.find("discard").dblclick()  # which is not to be taken for a yes
    expect(one.find("discard-keep")).to_be_visible()
    throw_away(one)
    expect(one.find("offer")).to_be_hidden(timeout=MEASURED)
    assert runs(tmp_path) == []
    commit(one, "fc1", 30)
    assert one.page.errors == []


def test_a_model_loaded_by_mistake_is_one_click_away(notebook):
    one = notebook(*CELLS)
    commit(one, "fc1", 40)
    made = one.kernel(HASH)
    one.find("model-select").select_option("nn3-mnist")
    expect(one.find("offer")).to_contain_text("digits-cnn, 1 step, left for another", timeout=MEASURED)
    one.screenshot("left")
    one.find("take-up").click()
    expect(one.page.locator(".wbw-step")).to_have_count(3, timeout=MEASURED)
    assert one.kernel(HASH) == made
    one.find("undo").click()
    expect(one.find("history-item-0")).to_have_attribute("aria-current", "step", timeout=MEASURED)


@pytest.fixture(scope="module")
def kept_app(tmp_path_factory):
    yield from keeping("app", tmp_path_factory.mktemp("kept-app"))


def test_a_page_that_is_loaded_again_offers_what_was_there(context, kept_app):
    page = watch(context.new_page())
    page.goto(kept_app.url)
    expect_measured(page)
    shown = NotebookPage(page)
    for layer, width in (("fc1", 40), ("conv2", 20), ("conv1", 11)):
        commit(shown, layer, width)
    names = ("meter-parameters", "meter-macs", "meter-score")
    made = [shown.find(name).get_attribute("data-value") for name in names]
    page.reload()
    expect_measured(page)
    assert [shown.find(name).get_attribute("data-value") for name in names] != made
    expect(shown.find("offer")).to_contain_text("digits-cnn, 3 steps", timeout=MEASURED)
    screenshot(page, "app-reloaded")
    shown.find("take-up").click()
    expect(page.locator(".wbw-step")).to_have_count(5, timeout=MEASURED)
    assert [shown.find(name).get_attribute("data-value") for name in names] == made
    assert page.errors == []
    page.close()


def test_a_page_on_which_something_runs_asks_before_it_goes(notebook):
    one = notebook(*CELLS)
    asked = []
    one.page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    one.find("layer-fc1").click()
    one.page.evaluate("() => window.dispatchEvent(new Event('beforeunload', {cancelable: true}))")
    still = "() => !window.dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    assert one.page.evaluate(still) is False
    one.kernel("view.state._start('measure', 'waiting', lambda progress, cancel: cancel.wait(60))")
    expect(one.find("cancel")).to_be_visible()
    assert one.page.evaluate(still) is True
    one.find("cancel").click()
    expect(one.find("cancel")).to_be_hidden(timeout=MEASURED)


SLOW = """
import os, time, torch
import workbench as wb
from workbench.session import runs
from workbench.session.session import Session

class Loader:
    # Each batch takes as long as it says, once the session is open.
    def __init__(self):
        torch.manual_seed(0)
        self.pause = 0.0
        self.batches = [torch.randn(32, 12) for _ in range(25)]
    def __len__(self):
        return len(self.batches)
    def __iter__(self):
        for batch in self.batches:
            time.sleep(self.pause)
            yield batch

runs.LONG_MEASURED = 0.0
torch.manual_seed(1)
sizes = [12, 48, 32, 24, 4]
layers = [part for a, b in zip(sizes, sizes[1:]) for part in (torch.nn.Linear(a, b), torch.nn.ReLU())]
loader = Loader()
session = Session(torch.nn.Sequential(*layers[:-1]), loader, name='slow-mlp', procedure={procedure!r})
loader.pause = {pause}
view = wb.Workbench(session, autosave={root!r})
view
"""


def test_what_was_only_measured_is_offered_while_it_is_measured_again(notebook, tmp_path):
    code = {"root": str(tmp_path), "procedure": "simultaneous"}
    first = notebook(SLOW.format(pause=0.0, **code), measured=False)
    expect(first.find("readout-N")).to_have_text(re.compile(r"\d"), timeout=MEASURED)
    made = first.kernel("float(session.moment('0').matrix.sum())")
    first.kernel("view.state._saves.wait(30)")
    first.close()
    second = notebook(SLOW.format(pause=1.0, **code), measured=False)
    expect(second.find("offer")).to_contain_text("slow-mlp, measured in", timeout=MEASURED)
    expect(second.find("cancel")).to_be_visible()
    second.screenshot("measured-only")
    second.theme()
    second.screenshot("measured-only-dark")
    second.theme("JupyterLab Light")
    second.find("take-up").click()
    expect(second.find("readout-N")).to_have_text(re.compile(r"\d"), timeout=MEASURED)
    expect(second.find("offer")).to_be_hidden()
    assert second.kernel("float(view.session.moment('0').matrix.sum())") == made
    second.screenshot("measured-taken-up")
    assert second.page.errors == []


def test_taking_up_what_measures_again_shows_how_far_it_is_and_is_cancelled(notebook, tmp_path):
    code = {"root": str(tmp_path), "procedure": "sequential"}
    first = notebook(SLOW.format(pause=0.0, **code), measured=False)
    expect(first.find("readout-N")).to_have_text(re.compile(r"\d"), timeout=MEASURED)
    first.kernel("[session.commit(session.preview(n, width=w)) for n, w in (('0', 20), ('2', 15), ('4', 9))]")
    first.kernel("view.state._saves.wait(30)")
    made = first.kernel("[float(p.sum()) for p in view.session.model.parameters()]")
    first.close()
    second = notebook(SLOW.format(pause=0.0, **code), measured=False)
    expect(second.find("offer")).to_contain_text("slow-mlp, 3 steps", timeout=MEASURED)
    second.kernel("setattr(loader, 'pause', 0.5)")
    second.find("take-up").click()
    expect(second.find("progress")).to_contain_text("step 2 of 3: measuring moments", timeout=MEASURED)
    second.screenshot("taking-up")
    second.theme()
    second.screenshot("taking-up-dark")
    second.theme("JupyterLab Light")
    second.find("cancel").click()
    expect(second.find("progress")).to_contain_text("Cancelled: taking up", timeout=MEASURED)
    assert second.kernel("view.session.position") == "0"
    expect(second.find("take-up")).to_be_enabled()
    second.kernel("setattr(loader, 'pause', 0.0)")
    second.find("take-up").click()
    expect(second.page.locator(".wbw-step")).to_have_count(5, timeout=MEASURED)
    assert second.kernel("[float(p.sum()) for p in view.session.model.parameters()]") == made
    assert second.page.errors == []
