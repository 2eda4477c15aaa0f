"""An afternoon's work outlives a kernel, a reload, a second notebook and a model loaded by mistake."""

import os
import re
import signal

import pytest
from layer_tab import MEASURED
from notebook_page import NotebookPage, expect_measured, fresh_address, screenshot, watch, write_notebook
from playwright.sync_api import expect
from servers import Server

import workbench as wb
from workbench.session.recipe import fingerprint
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
    first.in_both_themes("offer")
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


def left_behind(session, root):
    """What a program that has ended kept of `session`; the fingerprint of its network."""
    saves = wb.autosave(session, root)
    saves.wait(60)
    saves.close()
    saves.wait(60)
    return fingerprint(session.model)


def test_earlier_sessions_are_thrown_away_one_after_the_other(notebook, tmp_path):
    session = wb.Session.example("digits-cnn")
    session.measure()
    for width in (40, 50):
        one = session.afresh()
        one.commit(one.preview("fc1", width=width))
        left_behind(one, tmp_path)
    code = CELLS[0].replace("'digits-cnn'", f"'digits-cnn', autosave={str(tmp_path)!r}")
    one = notebook(code)
    expect(one.find("offers").locator("option")).to_have_count(2, timeout=MEASURED)
    one.screenshot("offers-two")
    one.find("discard").click()
    expect(one.find("offer")).to_contain_text("Throw away digits-cnn, 1 step")
    expect(one.find("discard-keep")).to_be_focused()
    one.screenshot("discard")
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


MODEL = """
import time, torch
import workbench as wb

class Loader:  # each batch takes as long as it says
    pause = 0.0
    def __len__(self):
        return 25
    def __iter__(self):
        for seed in range(25):
            time.sleep(self.pause)
            yield torch.randn(32, 12, generator=torch.Generator().manual_seed(seed))

torch.manual_seed(1)
sizes = [12, 48, 32, 24, 4]
layers = [part for a, b in zip(sizes, sizes[1:]) for part in (torch.nn.Linear(a, b), torch.nn.ReLU())]
loader = Loader()
session = wb.Session(torch.nn.Sequential(*layers[:-1]), loader, name='slow-mlp', procedure='sequential')
"""
VIEW = """
from workbench.session import runs
from workbench.session.recipe import fingerprint
runs.LONG_MEASURED, loader.pause = 0.0, 1.0
view = wb.Workbench(session, autosave={root!r})
view
"""


def made_by(code):
    names = {}
    exec(code, names)
    names["session"].measure()
    return names["session"]


def test_measuring_makes_way_and_what_measures_again_is_cancelled(notebook, tmp_path):
    session = made_by(MODEL)
    for name, width in (("0", 20), ("2", 15), ("4", 9)):
        session.commit(session.preview(name, width=width))
    made = left_behind(session, tmp_path)
    left_behind(made_by(MODEL), tmp_path)
    moment = float(session.original_statistics()["0"].moments[0].matrix.sum())
    one = notebook(MODEL + VIEW.format(root=str(tmp_path)), measured=False)
    expect(one.find("offers").locator("option")).to_have_count(2, timeout=MEASURED)
    expect(one.find("cancel")).to_be_visible()  # it is measured anew
    expect(one.find("offers").locator("option").first).to_contain_text("slow-mlp, measured in")
    one.screenshot("measured-only")
    one.find("offers").select_option(index=1)
    one.find("take-up").click()
    expect(one.find("progress")).to_contain_text("step 2 of 3: measuring moments", timeout=MEASURED)
    expect(one.find("take-up")).to_be_disabled()
    one.screenshot("taking-up")
    one.find("cancel").click()
    expect(one.find("progress")).to_contain_text("Cancelled: taking up", timeout=MEASURED)
    assert one.kernel("view.session.position, view.session.measured") == "(0, False)"
    one.find("offers").select_option(index=0)
    one.find("take-up").click()
    expect(one.find("readout-N")).to_have_text(re.compile(r"\d"), timeout=MEASURED)
    assert float(one.kernel("float(view.session.moment('0').matrix.sum())")) == moment
    expect(one.find("offers")).to_be_hidden()
    one.kernel("setattr(loader, 'pause', 0.0)")
    one.find("take-up").click()
    expect(one.page.locator(".wbw-step")).to_have_count(5, timeout=MEASURED)
    assert one.kernel("fingerprint(view.session.model)") == repr(made)
    assert one.page.errors == []
