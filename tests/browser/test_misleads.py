"""What the screen shows is what it means: widths and plans, steps, targets, refusals, names and colours."""

import re

import pytest
from playwright.sync_api import expect
from tabs import CUT, PATIENCE, set_width, settle, to_budget

FILL = """range => {
  const part = parseFloat(getComputedStyle(range).getPropertyValue('--wbw-part')) / 100;
  return [part, (range.value - range.min) / (range.max - range.min)];
}"""
TICK = "box => [box.checked, box.indeterminate]"
COLOUR = "node => getComputedStyle(node).getPropertyValue('--wbw-kept').trim()"
LOOK = """node => {
  const style = getComputedStyle(node);
  return [style.backgroundColor, style.borderStyle, style.color];
}"""
# The luminance of every cell of the map, and of the card that it lies on.
SHADES = """cells => cells.map(cell => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
  const pen = canvas.getContext('2d');
  pen.fillStyle = getComputedStyle(cell).backgroundColor;
  pen.fillRect(0, 0, 1, 1);
  const [r, g, b] = pen.getImageData(0, 0, 1, 1).data;
  return [Number(cell.dataset.harm), 0.2126 * r + 0.7152 * g + 0.0722 * b];
})"""
WIDTHS = "Out[1].state.widths"


def widths(bench):
    return eval(bench.kernel(WIDTHS))


def expect_fill_at_thumb(bench, testid="width-slider"):
    fill, thumb = bench.find(testid).evaluate(FILL)
    assert fill == pytest.approx(thumb, abs=1e-6)


@pytest.fixture
def layer(workbench_page):
    bench = to_budget(workbench_page)
    bench.find("tab-layer").click()
    bench.find("layer-conv1").click()
    bench.find("follow").set_checked(True)
    settle(bench)
    return bench


@pytest.fixture
def budget(workbench_page):
    return to_budget(workbench_page)


@pytest.mark.parametrize(
    ("text", "width", "told"),
    [("-7", 1, "≥\u202f1"), ("-9", 1, "≥\u202f1"), ("9999", 32, "≤\u202f32"), ("0", 1, "≥\u202f1")],
)
def test_a_refused_width_does_not_stay_and_its_limit_is_told(layer, text, width, told):
    layer.find("width-input").fill("11")
    layer.find("width-input").press("Enter")
    expect(layer.find("width-of")).to_have_text("of 32")
    for _ in range(2):  # the second time nothing moves
        layer.find("width-input").fill(text)
        layer.find("width-input").press("Enter")
        expect(layer.find("width-input")).to_have_value(str(width))
        expect(layer.find("width-of")).to_have_text(told)
    settle(layer)
    assert layer.kernel("(Out[1].state.width, Out[1].state.follow)") == f"({width}, True)"
    expect_fill_at_thumb(layer)
    layer.find("width-input").fill("11")
    layer.find("width-input").press("Enter")
    expect(layer.find("width-of")).to_have_text("of 32")
    assert layer.find("follow").evaluate(TICK) == [True, False]
    layer.find("tab-budget").click()
    set_width(layer, "conv1", text)
    expect(layer.find("budget-width-conv1")).to_have_value(str(width))
    expect(layer.find("budget-of-conv1")).to_have_text(told)
    set_width(layer, "conv1", 11)
    expect(layer.find("budget-of-conv1")).to_have_text("of 32")


def test_after_a_commit_fill_and_tick_are_of_what_is_left(layer):
    layer.find("width-input").fill("12")
    layer.find("width-input").press("Enter")
    settle(layer)
    layer.find("commit").click()
    expect(layer.find("undo")).to_be_enabled(timeout=PATIENCE)
    settle(layer)
    assert layer.find("width-slider").evaluate(FILL) == [1, 1]
    N = float(layer.find("readout-N").get_attribute("data-value"))
    assert N < 11  # the width is 12: it does not follow now
    assert layer.find("follow").evaluate(TICK) == [True, True]
    expect(layer.page.get_by_text("waits for λ")).to_be_visible()
    layer.find("lam-slider").focus()
    layer.page.keyboard.press("ArrowLeft")
    settle(layer)
    assert layer.find("follow").evaluate(TICK) == [True, False]
    suggested = layer.find("readout-width").get_attribute("data-value")
    expect(layer.find("width-input")).to_have_value(suggested)
    expect_fill_at_thumb(layer)


def test_a_layer_that_cannot_be_pruned_has_no_width(layer):
    layer.find("layer-fc2").click()
    expect(layer.find("width-input")).to_have_value("")
    expect(layer.find("width-input")).to_be_disabled()
    expect(layer.find("width-of")).to_have_text("")
    assert layer.find("width-slider").evaluate(FILL)[0] == 0
    layer.find("layer-conv1").click()
    expect(layer.find("width-input")).not_to_have_value("")


def test_what_is_not_guaranteed_says_so_in_its_place(layer):
    shown = layer.find("readout-guaranteed")
    assert int(shown.get_attribute("data-value")) > 32
    expect(shown).to_have_text(re.compile(r"^\d+ > 32$"))
    expect(layer.page.get_by_text("no guarantee")).to_be_visible()


def test_a_plan_is_of_its_branch(budget):
    set_width(budget, "conv2", 9)
    budget.find("branch").select_option(label="New branch…")
    budget.find("branch-name").fill("other")
    budget.find("branch-name").press("Enter")
    expect(budget.find("branch")).to_have_value("other", timeout=PATIENCE)
    settle(budget)
    set_width(budget, "fc1", 20)
    settle(budget)
    budget.find("branch").select_option("main")
    expect(budget.find("budget-width-fc1")).to_have_value("128", timeout=PATIENCE)
    expect(budget.find("budget-width-conv2")).to_have_value("9")
    budget.find("all-widths").click()
    expect(budget.find("commit-all")).to_be_disabled()
    settle(budget)
    budget.find("branch").select_option("other")
    expect(budget.find("budget-width-fc1")).to_have_value("20", timeout=PATIENCE)
    settle(budget)
    budget.find("branch").select_option("main")
    expect(budget.find("budget-width-fc1")).to_have_value("128", timeout=PATIENCE)
    expect(budget.find("commit-all")).to_be_disabled()
    assert (
        budget.find("total-macs").get_attribute("data-value")
        == budget.kernel("str(Out[1].session.macs)")[1:-1]
    )
    settle(budget)
    budget.find("branch").select_option(label="Drop other…")
    budget.find("branch-drop-go").click()
    settle(budget)


def test_a_target_that_is_a_part_of_one_is_a_share_and_a_few_are_asked_about(budget):
    set_width(budget, "conv2", 9)
    settle(budget)
    before = widths(budget)
    budget.find("goal-target").fill("50")
    budget.find("rule-least").click()
    expect(budget.find("error")).to_contain_text("did you mean 50 % or 50x", timeout=PATIENCE)
    settle(budget)
    assert widths(budget) == before
    budget.find("goal-target").fill("0.5")
    budget.find("rule-equal").click()
    expect(budget.find("goal-target")).to_have_value("50 %", timeout=PATIENCE)
    settle(budget)
    half = int(budget.kernel("Out[1].session.macs")) / 2
    assert 0.9 * half < int(budget.find("total-macs").get_attribute("data-value")) <= half
    budget.find("undo-widths").click()  # what the rule overwrote
    settle(budget)
    assert widths(budget) == before
    budget.find("goal-minimum").fill("-7")
    budget.find("goal-minimum").press("Tab")
    expect(budget.find("goal-minimum")).to_have_value("1")


def test_a_target_in_time_is_said_with_the_originals_time_and_how_far_times_spread(budget):
    budget.find("goal-unit").select_option("ms")
    budget.find("goal-target").fill("60 %")
    budget.find("rule-least").click()
    number = r"[\d.]+\u202fms"
    said = rf"takes {number} \({number} to {number}\), the target is {number}, the original takes {number}"
    expect(budget.find("budget-message")).to_contain_text(re.compile(said), timeout=PATIENCE)
    settle(budget)
    budget.find("goal-target").fill("0.1")  # milliseconds, not a share
    budget.find("goal-target").press("Tab")
    expect(budget.find("goal-target")).to_have_value("0.1")
    budget.find("goal-unit").select_option("macs")
    budget.find("goal-target").fill("50 %")


def test_widths_have_an_undo_apart_from_the_sessions(budget):
    page = budget.page
    set_width(budget, "conv1", 20)
    budget.find("commit-all").click()
    expect(budget.find("undo")).to_be_enabled(timeout=PATIENCE)
    settle(budget)
    expect(budget.find("undo-widths")).to_be_disabled()  # of the network as it is, nothing was moved
    set_width(budget, "conv1", 9)
    set_width(budget, "conv2", 30)
    settle(budget)
    for _ in range(3):  # one key, held
        budget.find("budget-slider-fc1").press("ArrowLeft")
    settle(budget)
    budget.find("budget-lam").focus()
    page.keyboard.press("Shift+ArrowRight")
    settle(budget)
    led = widths(budget)
    page.keyboard.press("Control+z")
    settle(budget)
    assert widths(budget) == {"conv1": 9, "conv2": 30, "conv3": 64, "fc1": 125}
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    settle(budget)
    assert (widths(budget)["conv1"], widths(budget)["conv2"], widths(budget)["fc1"]) == (9, 64, 128)
    budget.find("redo-widths").click()
    page.keyboard.press("Control+Shift+z")
    budget.find("redo-widths").click()
    settle(budget)
    assert widths(budget) == led
    expect(budget.find("redo-widths")).to_be_disabled()
    for _ in range(9):
        budget.find("budget-lam").press("Control+z")
    settle(budget)
    assert budget.kernel("Out[1].session.position") == "1"  # what is committed stays
    expect(budget.find("undo-widths")).to_be_disabled()
    entry = budget.find("budget-width-conv2")
    entry.select_text()
    page.keyboard.type("30")
    entry.press("Enter")
    settle(budget)
    assert widths(budget)["conv2"] == 30
    entry.press("Control+z")  # nothing is half typed any more
    settle(budget)
    assert widths(budget)["conv2"] == 64
    set_width(budget, "conv2", 30)
    entry.select_text()
    page.keyboard.type("3")  # half typed: the entry's own
    entry.press("Control+z")
    settle(budget)
    assert widths(budget)["conv2"] == 30
    settle(budget)
    assert budget.kernel("Out[1].session.position") == "1"


def test_loss_and_lam_are_one_thing_each_on_two_tabs(budget):
    """The output loss is one number at one width and one λ; λ has one colour."""
    assert budget.find("budget-lam").evaluate(COLOUR) == budget.find("lam-slider").evaluate(COLOUR)
    set_width(budget, "conv1", 12)
    settle(budget)
    expect(budget.find("budget-loss-conv1")).to_contain_text("%", timeout=PATIENCE)
    budget.page.wait_for_timeout(500)
    settle(budget)
    row = budget.find("budget-loss-conv1").inner_text()
    expect(budget.page.locator(".wbw-budget-row.wbw-steps-head .wbw-loss-head .wbw-head").first).to_have_text(
        "output loss"
    )
    budget.find("tab-layer").click()
    budget.find("layer-conv1").click()
    budget.find("follow").uncheck()
    budget.kernel("Out[1].state.set_trait('lam', 1e-6)")
    budget.find("width-input").fill("12")
    budget.find("width-input").press("Enter")
    settle(budget)
    expect(budget.page.locator("[data-current]")).to_have_attribute("data-current", "true", timeout=PATIENCE)
    expect(budget.find("readout-output-loss")).to_have_text(row)
    budget.find("follow").check()
    budget.kernel("Out[1].state.set_trait('lam', 1e-3)")
    settle(budget)


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_a_field_that_cannot_be_used_looks_so_and_the_map_is_darkest_where_it_hurts(budget, theme):
    budget.theme(f"JupyterLab {theme}")
    page = budget.page
    budget.find("tab-layer").click()
    entry = budget.find("width-input")
    usable = entry.evaluate(LOOK)
    budget.find("layer-fc2").click()
    expect(entry).to_be_disabled()
    assert all(one != other for one, other in zip(usable, entry.evaluate(LOOK), strict=True))
    budget.find("layer-conv1").click()
    budget.find("tab-compare").click()
    if not budget.find("heat").count():
        budget.find("sweep").click()
        expect(budget.find("heat")).to_have_count(32, timeout=PATIENCE)
    settle(budget)
    page.wait_for_timeout(600)
    cells = sorted(budget.find("heat").evaluate_all(SHADES))
    card = page.locator(".wbw-compare").evaluate_all(SHADES)[0][1]
    contrast = [abs(shade - card) for _, shade in cells]
    assert contrast[-1] > contrast[0] + 40
    assert contrast == sorted(contrast)  # further from the card, the more harm
    expect(budget.find("heat-legend")).to_contain_text("harmless")
    budget.screenshot(f"misleads-map-{theme.lower()}")
    budget.theme("JupyterLab Light")


def test_a_stopped_run_is_named_by_its_steps_and_the_button_says_what_stays(budget):
    budget.find("tab-tune").click()
    for key, text, words in (
        ("amount", "1e99", "train for: epochs must be 100,000 or less"),
        ("rate", "1e99", "learning rate must be 1,000,000 or less"),
    ):
        usual = budget.find(f"tune-{key}").input_value()
        budget.find(f"tune-{key}").fill(text)
        budget.find("tune-start").click()
        expect(budget.find("error")).to_contain_text(words, timeout=PATIENCE)
        settle(budget)
        budget.find(f"tune-{key}").fill(usual)
    budget.find("tune-unit").select_option("epochs")
    budget.find("tune-amount").fill("500")
    budget.find("tune-start").click()
    expect(budget.find("tune-how")).to_contain_text("running, step", timeout=PATIENCE)
    expect(budget.find("cancel")).to_have_text("Stop, keep best")
    budget.find("cancel").click()
    settle(budget)
    here = budget.page.locator("[data-testid^=history-item-][aria-current] .wbw-name")
    expect(here).to_have_text(re.compile(r"^fine-tuned, stopped after \d+ steps?$"))
    assert here.evaluate("name => name.title") == here.inner_text()
    assert here.evaluate("name => name.scrollHeight <= name.clientHeight + 1")  # seen whole, in two lines
    assert here.locator("span").count() == 0  # nothing that could bend in the middle
    budget.find("undo").click()
    settle(budget)
    assert budget.page.evaluate(CUT) == []
    budget.find("tab-layer").click()


def test_what_is_cancelled_while_nobody_answers_ends_at_once(budget, lab):
    """The model's own code hangs, as a package does that tries a hub which cannot be reached."""
    (lab.notebooks / "hangs.py").write_text("import time\n\ndef make():\n    time.sleep(40)\n")
    budget.find("load").click()
    budget.find("model").fill("hangs.py:make")
    budget.find("calibration").fill("none.npy")
    budget.find("load-go").click()
    expect(budget.find("progress")).to_contain_text("loading hangs.py:make", timeout=PATIENCE)
    expect(budget.find("cancel")).to_have_text("Cancel")
    budget.find("cancel").click()
    expect(budget.find("cancel")).to_be_hidden(timeout=20_000)  # half of what it hangs
    expect(budget.find("progress")).to_contain_text("Cancelled")
    budget.find("load").click()


def test_no_script_failed(budget):
    assert budget.page.errors == []
    assert budget.cell_errors() == []
