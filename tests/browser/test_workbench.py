"""The workbench in a real JupyterLab: what a person does with it, from λ to a committed layer and back."""

import pytest
from layer_tab import (
    MEASURED,
    WATCH_LAM,
    drag_lam_to,
    drawn,
    expect_whole,
    number,
    put_off,
    readouts,
    relative_lam,
    settle,
)
from notebook_page import THEMES
from playwright.sync_api import expect

from workbench.course.glossary import glossary


@pytest.fixture(scope="module")
def bench(workbench_page):
    """The real notebook, run once, its spectra measured."""
    expect(workbench_page.find("readout-N")).not_to_have_attribute("data-value", "", timeout=MEASURED)
    return workbench_page


@pytest.fixture(autouse=True)
def fresh(bench):
    """Every test starts from the original digits network with conv1 selected."""
    if bench.kernel("Out[1].state.name") != "'digits-cnn'":
        bench.find("model-select").select_option("digits-cnn")
        expect(bench.find("layer-conv1")).to_be_visible(timeout=MEASURED)
        settle(bench)
    if bench.find("reset").is_enabled():
        bench.find("reset").click()
        expect(bench.find("reset")).to_be_disabled()
    expect(bench.find("procedure-select")).to_be_enabled()
    if bench.find("procedure-select").input_value() != "simultaneous":
        bench.find("procedure-select").select_option("simultaneous")
        expect(bench.find("procedure-select")).to_be_enabled()
    bench.find("layer-conv1").click()
    if not bench.find("follow").is_checked():
        bench.find("follow").check()
    settle(bench)


def assert_follows_python(bench, spectrum):
    """N(λ), N/m, both widths: what the page computed is what Python computes, to 3 digits and more."""
    lam = relative_lam(bench) * spectrum.trace
    freedom = spectrum.degrees_of_freedom(lam)
    assert number(bench, "readout-N") == pytest.approx(freedom, rel=1e-6)
    assert number(bench, "readout-N-share") == pytest.approx(freedom / spectrum.width, rel=1e-6)
    settle(bench)
    width = int(bench.find("width-input").input_value())
    assert width == int(number(bench, "readout-width"))
    assert abs(width - freedom) < 1
    assert number(bench, "readout-N") == pytest.approx(freedom, rel=1e-6)


def test_lam_is_dragged_on_the_plot_and_the_width_follows(bench, digits):
    seen = set()
    for share in (0.15, 0.35, 0.5, 0.7, 0.9):
        drag_lam_to(bench, share)
        assert_follows_python(bench, digits.spectrum("conv1"))
        seen.add(bench.find("readout-width").get_attribute("data-value"))
    assert len(seen) == 5


def test_a_drag_is_never_pulled_back_by_the_kernel(bench):
    """The kernel hears of a drag with delay; what it says of an older λ must not be shown."""
    surface = bench.find("spectrum-plot").locator(".wbw-surface").bounding_box()
    mouse, x = bench.page.mouse, surface["x"] + 50
    mouse.move(x, surface["y"] + 5)
    mouse.down()
    drawn(bench)
    bench.page.evaluate(WATCH_LAM)
    for down in range(60):
        mouse.move(x, surface["y"] + 5 + down)
        bench.page.wait_for_timeout(16)
    mouse.up()
    settle(bench)
    lams = bench.page.evaluate("() => window.lams")
    assert len(lams) > 30
    assert lams == sorted(lams, reverse=True)
    assert float(bench.kernel("Out[1].state.lam")) == lams[-1]


def test_lam_moves_by_keyboard_on_the_line_and_on_the_slider(bench, digits):
    start = relative_lam(bench)
    bench.find("lam-line").focus()
    bench.page.keyboard.press("ArrowUp")
    assert relative_lam(bench) == pytest.approx(start * 10**0.05)
    bench.page.keyboard.press("Shift+ArrowDown")
    assert relative_lam(bench) == pytest.approx(start * 10**-0.45)
    bench.find("lam-slider").focus()
    bench.page.keyboard.press("ArrowRight")
    assert relative_lam(bench) == pytest.approx(start * 10**-0.4)
    assert_follows_python(bench, digits.spectrum("conv1"))
    expect(bench.find("lam-slider")).to_be_focused()


def test_letters_typed_in_the_width_entry_make_no_cells(bench):
    cells = bench.page.locator(".jp-Notebook .jp-Cell").count()
    bench.find("width-input").focus()
    bench.page.keyboard.press("b")
    bench.page.keyboard.press("a")
    assert bench.page.locator(".jp-Notebook .jp-Cell").count() == cells


def test_the_width_sets_lam_while_it_follows_and_is_free_when_not(bench, digits):
    spectrum = digits.spectrum("conv1")
    bench.find("width-input").fill("11")
    bench.find("width-input").press("Tab")
    settle(bench)
    assert relative_lam(bench) * spectrum.trace == pytest.approx(spectrum.lam_for(11), rel=1e-6)
    bench.find("follow").uncheck()
    lam = relative_lam(bench)
    bench.find("width-slider").focus()
    bench.page.keyboard.press("ArrowRight")
    settle(bench)
    assert bench.find("width-input").input_value() == "12"
    assert relative_lam(bench) == lam


def test_a_width_beyond_the_rank_waits_for_lam_and_is_told(bench, digits):
    assert digits.spectrum("conv1").rank < 32
    bench.find("width-input").fill("32")
    bench.find("width-input").press("Tab")
    drawn(bench)
    assert bench.find("follow").evaluate("box => [box.checked, box.indeterminate]") == [True, True]
    assert bench.find("width-input").input_value() == "32"
    bench.find("width-input").fill("9999")
    bench.find("width-input").press("Enter")
    expect(bench.find("width-of")).to_have_text("≤\u202f32")
    assert bench.find("follow").evaluate("box => [box.checked, box.indeterminate]") == [True, True]
    assert bench.kernel("(Out[1].state.width, Out[1].state.follow)") == "(32, True)"


def test_control_z_in_the_entry_is_the_entrys_own(bench):
    bench.find("layer-fc1").click()
    settle(bench)
    bench.find("commit").click()
    expect(bench.find("history-item-1")).to_be_visible(timeout=MEASURED)
    settle(bench)
    bench.find("width-input").focus()
    bench.page.keyboard.press("Control+z")
    settle(bench)
    assert bench.kernel("Out[1].session.position") == "1"


def test_what_is_typed_is_not_written_over_by_what_arrives(bench):
    entry = bench.find("width-input")
    entry.fill("17")
    bench.kernel("setattr(Out[1].state, 'theta', 0.31)")
    expect(bench.find("theta-slider")).to_have_value("0.31")
    expect(entry).to_have_value("17")
    entry.press("Tab")
    settle(bench)
    expect(entry).to_have_value("17")
    bench.kernel("setattr(Out[1].state, 'theta', 0.3)")
    entry.fill("9999")
    entry.press("Tab")
    settle(bench)
    expect(entry).to_have_value("32")


def test_losses_are_pythons(bench, digits):
    bench.find("layer-fc1").click()
    bench.find("width-input").fill("40")
    bench.find("width-input").press("Tab")
    settle(bench)
    choice = digits.preview("fc1", width=40)
    for testid, value in (
        ("readout-input-loss", choice.input_loss),
        ("readout-output-loss", choice.output_loss),
        ("readout-error", choice.predicted_error),
        ("readout-params-saved", choice.parameters_saved),
        ("readout-macs-saved", choice.macs_saved),
    ):
        assert number(bench, testid) == pytest.approx(value, rel=1e-3)


def test_every_selection_and_reconstruction_answers(bench):
    for trait in ("selection", "reconstruction"):
        values = bench.find(trait).locator("option").evaluate_all("nodes => nodes.map(node => node.value)")
        for value in reversed(values):
            bench.find(trait).select_option(value)
            settle(bench)
            assert number(bench, "readout-output-loss") > 0
    expect(bench.find("error")).to_have_count(0)


@pytest.mark.parametrize("theme", THEMES)
def test_the_panel_says_what_lam_is_for_where_the_fit_caps_it(bench, theme):
    bench.theme(theme)
    bench.kernel("setattr(Out[1].state, 'lam', 1e-3)")
    for reconstruction in ("kernel", "original"):
        bench.find("reconstruction").select_option(reconstruction)
        settle(bench)
        expect(bench.find("lam-use")).to_have_text("of Tr Σ, for width and units")
        expect(bench.find("score-try")).to_have_text(
            "The fit takes λ up to 10⁻⁶ Tr Σ: above, λ only chooses width and units."
        )
        expect_whole(bench)
    bench.find("selection").select_option("magnitude-l2")
    expect(bench.find("lam-use")).to_have_text("of Tr Σ, for the width alone")
    expect(bench.find("score-try")).to_contain_text("λ only chooses the width.")
    expect_whole(bench)
    settle(bench)
    bench.screenshot("lam-use-" + theme.split()[-1].lower())
    bench.find("selection").select_option("greedy")
    bench.kernel("setattr(Out[1].state, 'lam', 1e-7)")
    expect(bench.find("lam-use")).to_have_text("relative to Tr Σ")
    expect(bench.find("score-try")).to_contain_text("above, λ only chooses")
    for reconstruction in ("none", "channel"):
        bench.find("reconstruction").select_option(reconstruction)
        expect(bench.find("lam-use")).to_have_text("relative to Tr Σ")
        expect(bench.find("score-try")).to_have_text("")
    settle(bench)
    bench.theme("JupyterLab Light")


def test_try_shows_a_score_and_keeps_nothing(bench):
    before = bench.kernel("Out[1].session.parameters")
    bench.find("try").click()
    expect(bench.find("score-try")).to_contain_text("nothing kept", timeout=MEASURED)
    assert 0 < number(bench, "score-try") <= 1
    bench.screenshot("try")
    expect_whole(bench)
    assert bench.kernel("Out[1].session.parameters") == before
    assert bench.kernel("Out[1].session.position") == "0"


def test_commit_shrinks_the_real_model_and_undo_restores_the_very_numbers(bench):
    bench.find("layer-conv2").click()
    bench.find("width-input").fill("23")
    bench.find("width-input").press("Tab")
    before = readouts(bench)
    parameters = int(bench.kernel("sum(p.numel() for p in Out[1].session.model.parameters())"))
    bench.find("commit").click()
    expect(bench.find("history-item-1")).to_contain_text("conv2 64 → 23", timeout=MEASURED)
    settle(bench)
    now = int(bench.kernel("sum(p.numel() for p in Out[1].session.model.parameters())"))
    assert parameters - now == before["params-saved"]
    assert number(bench, "meter-parameters") == now
    expect(bench.find("layer-conv2")).to_contain_text("64 → 23")
    bench.screenshot("committed")
    bench.find("undo").click()
    expect(bench.find("undo")).to_be_disabled()
    bench.find("layer-conv2").click()
    settle(bench)
    bench.find("width-input").fill("23")
    bench.find("width-input").press("Tab")
    assert readouts(bench) == before
    assert int(bench.kernel("sum(p.numel() for p in Out[1].session.model.parameters())")) == parameters


def test_enter_commits_and_control_z_undoes(bench):
    bench.find("lam-line").focus()
    bench.page.keyboard.press("Enter")
    expect(bench.find("history-item-1")).to_be_visible(timeout=MEASURED)
    settle(bench)
    bench.page.keyboard.press("Enter")  # a second one finds nothing more to prune
    settle(bench)
    expect(bench.find("commit")).to_be_disabled()
    assert bench.kernel("Out[1].session.position") == "1"
    bench.find("lam-line").focus()
    bench.page.keyboard.press("Control+z")
    expect(bench.find("undo")).to_be_disabled(timeout=MEASURED)
    settle(bench)
    assert bench.kernel("Out[1].session.position") == "0"


def test_the_picture_for_the_readme(bench):
    """Two layers committed, a third one previewed; notebooks/images/workbench.png is a copy of this."""
    for layer, width in (("conv1", "16"), ("conv2", "30")):
        bench.find(f"layer-{layer}").click()
        bench.find("width-input").fill(width)
        bench.find("width-input").press("Tab")
        settle(bench)
        bench.find("commit").click()
        settle(bench)
    bench.find("layer-conv3").click()
    bench.find("width-input").fill("24")
    bench.find("width-input").press("Tab")
    settle(bench)
    bench.find("try").click()
    expect(bench.find("score-try")).to_contain_text("nothing kept", timeout=MEASURED)
    bench.screenshot("readme")
    assert len(bench.page.screenshot()) < 300_000


def test_back_to_here_and_redo(bench):
    for layer in ("conv1", "fc1"):
        bench.find(f"layer-{layer}").click()
        settle(bench)
        bench.find("commit").click()
        settle(bench)
    expect(bench.find("history-item-2")).to_be_visible(timeout=MEASURED)
    bench.find("history-back-1").click()
    settle(bench)
    assert bench.kernel("Out[1].session.position") == "1"
    bench.find("redo").click()
    settle(bench)
    assert bench.kernel("Out[1].session.position") == "2"


def test_sequential_marks_the_layers_downstream_and_measures_them_again(bench):
    bench.find("procedure-select").select_option("sequential")
    expect(bench.find("procedure-select")).to_be_enabled(timeout=MEASURED)
    settle(bench)
    put_off(bench)
    bench.find("layer-conv2").click()
    settle(bench)
    bench.find("commit").click()
    expect(bench.find("layer-fc1")).to_have_attribute("data-mark", "stale", timeout=MEASURED)
    bench.find("layer-fc1").click()
    expect(bench.page.get_by_text("measured before the commit to conv2").first).to_be_visible()
    bench.screenshot("stale")
    expect_whole(bench)
    before = bench.kernel("float(Out[1].session.moment('fc1').matrix.trace())")
    bench.find("remeasure").click()
    expect(bench.find("layer-fc1")).not_to_have_attribute("data-mark", "stale", timeout=MEASURED)
    settle(bench)
    assert bench.kernel("Out[1].session.stale") == "{}"
    assert bench.kernel("float(Out[1].session.moment('fc1').matrix.trace())") != before


def test_a_second_example_loads(bench):
    bench.find("model-select").select_option("digits-mlp")
    expect(bench.find("layer-fc2")).to_contain_text("1000", timeout=MEASURED)
    settle(bench)
    bench.find("layer-fc2").click()
    settle(bench)
    assert number(bench, "readout-N") > 1
    bench.screenshot("digits-mlp")
    assert bench.kernel("Out[1].session.name") == "'digits-mlp'"


def test_an_error_is_said_where_the_hand_is(bench):
    bench.kernel("setattr(Out[1].session, 'evaluation', [(__import__('torch').zeros(2, 3), None)])")
    bench.find("try").click()
    error = bench.page.locator(".wbw-choice").get_by_test_id("error")
    expect(error).to_contain_text("evaluation batch 0", timeout=MEASURED)
    bench.screenshot("error")
    assert bench.cell_errors() == []
    bench.kernel("Out[1].state.load('digits-cnn')")
    expect(error).to_have_count(0)


def test_every_read_out_has_a_question_that_the_keyboard_opens_and_closes(bench):
    words = glossary()
    marks = bench.page.locator(".wbw-choice .wbw-readout .wbw-question")
    assert marks.count() == bench.page.locator(".wbw-choice .wbw-readout").count() == 9
    steps = bench.kernel("Out[1].session.position")
    shown = bench.page.locator("[data-testid=explanation]:popover-open")
    for index in range(marks.count()):
        mark = marks.nth(index)
        mark.focus()
        bench.page.keyboard.press("Enter")
        expect(shown).to_contain_text(words[mark.get_attribute("data-term")].what)
        expect(shown).to_be_focused()
        bench.page.keyboard.press("Enter")  # which is no commit here
        bench.page.keyboard.press("Escape")
        expect(shown).to_have_count(0)
        expect(mark).to_be_focused()
    assert bench.kernel("Out[1].session.position") == steps


def test_another_question_or_a_click_elsewhere_closes_the_first(bench):
    first, second = (
        bench.page.locator(f'.wbw-behind [data-term="{name}"]') for name in ("MACs", "output loss")
    )
    shown = bench.page.locator("[data-testid=explanation]:popover-open")
    first.click()
    expect(first).to_have_attribute("aria-expanded", "true")
    second.focus()
    bench.page.keyboard.press("Enter")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text("what is lost of its outputs")
    bench.page.locator(".wbw-choice h3").click()
    expect(shown).to_have_count(0)
    expect(first).to_have_attribute("aria-expanded", "false")


@pytest.mark.parametrize("theme", THEMES)
def test_nothing_is_cut_off_at_1280_by_800(bench, theme):
    bench.theme(theme)
    put_off(bench)
    bench.page.wait_for_timeout(300)
    expect_whole(bench)
    bench.screenshot("workbench-" + theme.split()[-1].lower())
    bench.theme("JupyterLab Light")


def test_nothing_was_asked_of_other_machines_and_no_script_failed(bench):
    assert bench.page.foreign == []
    assert bench.page.errors == []
