"""What a person types on the screen counts for the group that was chosen when it was typed, at any pace."""

import pytest
from playwright.sync_api import expect
from tabs import PATIENCE, settle, to_budget

DELAYS = (0, 20, 50, 100, 150, 200, 300)  # milliseconds from choosing a layer to typing
WIDTHS = {"fc1": 40, "conv1": 11}
STATE = "(Out[1].state.selected, Out[1].state.width)"

# Choosing, typing and leaving before the next frame is drawn: no person is as quick, every person's page may
# be as slow. The text goes in as a keyboard's does, over what is selected.
AT_ONCE = """([layer, text]) => {
  const root = document.querySelector('[data-testid=workbench]');
  const entry = root.querySelector('[data-testid=width-input]');
  root.querySelector(`[data-testid=layer-${layer}]`).click();
  entry.focus();
  entry.select();
  document.execCommand('insertText', false, text);
  entry.blur();
}"""
# The same with frames between the focus and the key.
FRAMES_BETWEEN = AT_ONCE.replace("([", "async ([", 1).replace(
    "entry.select();",
    "entry.select(); await new Promise(done => setTimeout(done, 60));",
)


@pytest.fixture(scope="module")
def bench(workbench_page):
    expect(workbench_page.find("readout-N")).not_to_have_attribute("data-value", "", timeout=PATIENCE)
    return workbench_page


@pytest.fixture(params=["follows", "free"])
def layers(bench, request):
    """The tab Layer, the width following N(λ) or not; on conv1."""
    bench.find("tab-layer").click()
    bench.find("layer-conv1").click()
    bench.find("follow").set_checked(request.param == "follows")
    settle(bench)
    yield bench
    bench.find("follow").check()
    settle(bench)


def expect_chosen(bench, layer, width):
    """The kernel has this width for this layer, its numbers answer it, and the screen shows it."""
    settle(bench)
    current = bench.page.locator("[data-current]")
    expect(current).to_have_attribute("data-current", "true", timeout=PATIENCE)
    assert bench.kernel(STATE) == repr((layer, width))
    assert bench.kernel("Out[1].state.preview['request']['width']") == str(width)
    expect(bench.find("width-input")).to_have_value(str(width))


@pytest.mark.parametrize("delay", DELAYS)
def test_a_width_typed_so_soon_after_choosing_is_the_layers(layers, delay):
    followed = layers.find("follow").is_checked()
    for layer, width in WIDTHS.items():
        layers.find(f"layer-{layer}").click()
        if delay:
            layers.page.wait_for_timeout(delay)
        layers.find("width-input").fill(str(width))
        layers.find("width-input").press("Tab")
        expect_chosen(layers, layer, width)
    assert layers.find("follow").is_checked() == followed


@pytest.mark.parametrize("script", [AT_ONCE, FRAMES_BETWEEN], ids=["at once", "frames between"])
def test_a_width_typed_before_the_layer_is_drawn_is_the_layers(layers, script):
    for layer, width in WIDTHS.items():
        layers.page.evaluate(script, [layer, str(width)])
        expect_chosen(layers, layer, width)


def test_the_number_that_stood_there_before_counts_when_it_is_typed(layers):
    """Of the layer before, and of this one too: then the text has not changed, and no change is told of."""
    before = layers.find("width-input").input_value()
    layers.page.evaluate(AT_ONCE, ["conv2", before])
    expect_chosen(layers, "conv2", int(before))


def test_a_width_is_kept_while_the_kernel_is_busy_with_the_layer(layers):
    """Then the choice of the layer and the width reach it as one message."""
    for layer, width in WIDTHS.items():
        layers.page.evaluate(BUSY)
        layers.find("theta-slider").focus()
        layers.page.keyboard.press("ArrowRight")
        layers.find(f"layer-{layer}").click()
        layers.find("width-input").fill(str(width))
        layers.find("width-input").press("Tab")
        layers.wait_idle()
        expect_chosen(layers, layer, width)


BUSY = """() => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  kernel.requestExecute({ code: 'import time; time.sleep(0.4)', silent: true, store_history: false });
}"""


def test_what_arrives_under_the_hand_is_replaced_by_the_first_digit(layers):
    """The field has the focus, nothing is typed yet, and the kernel moves the width."""
    entry = layers.find("width-input")
    entry.focus()
    layers.kernel("setattr(Out[1].state, 'width', 13)")
    expect(entry).to_have_value("13")
    layers.page.keyboard.type("17")
    expect(entry).to_have_value("17")
    layers.page.keyboard.press("Enter")
    expect_chosen(layers, "conv1", 17)
    expect(entry).to_be_focused()


def test_what_was_typed_for_another_layer_is_not_this_ones(layers):
    """The kernel goes to another layer while a number is typed and not entered."""
    entry = layers.find("width-input")
    entry.focus()
    layers.page.keyboard.type("3")
    layers.kernel("Out[1].state.choose('conv2')")
    expect(entry).not_to_have_value("3")
    width = layers.kernel("Out[1].state.width")
    expect(entry).to_have_value(width)
    entry.blur()
    expect_chosen(layers, "conv2", int(width))


def test_layers_chosen_one_after_the_other_end_with_the_last_one(layers):
    """No echo of one before comes in between."""
    layers.page.evaluate(WATCH_NAMES)
    layers.find("layer-conv1").focus()
    for _ in range(3):
        layers.page.keyboard.press("ArrowDown")
        layers.page.wait_for_timeout(30)
    settle(layers)
    names = layers.page.evaluate("() => window.names")
    assert names == sorted(set(names), key=names.index)
    assert layers.kernel("Out[1].state.selected") == repr(names[-1])


WATCH_NAMES = """() => {
  window.names = [];
  const list = document.querySelector('.wbw-list');
  new MutationObserver(() => {
    const name = list.querySelector('[aria-selected=true]').dataset.testid.slice(6);
    if (window.names.at(-1) !== name) window.names.push(name);
  }).observe(list, { attributes: true, subtree: true, attributeFilter: ['aria-selected'] });
}"""


def test_a_budget_width_half_typed_outlives_the_rows_that_are_made_anew(bench):
    """A network that has changed makes new rows; the hand is still in the field, and the digits too."""
    to_budget(bench)
    bench.kernel("Out[1].session.commit(Out[1].session.preview('fc1', width=30))")
    expect(bench.find("undo")).to_be_enabled(timeout=PATIENCE)
    settle(bench)
    entry = bench.find("budget-width-conv2")
    entry.focus()
    bench.page.keyboard.press("Control+a")
    bench.page.keyboard.type("2")
    bench.kernel("Out[1].state.undo()")
    expect(bench.find("budget-row-fc1")).to_contain_text("of 128", timeout=PATIENCE)
    expect(entry).to_be_focused()
    bench.page.keyboard.type("3")
    bench.page.keyboard.press("Tab")
    settle(bench)
    expect(entry).to_have_value("23")
    assert bench.kernel("Out[1].state.widths['conv2']") == "23"


def test_a_budget_width_set_while_a_branch_is_changed_is_kept(bench):
    to_budget(bench)
    bench.kernel("Out[1].state.fork('other')")
    expect(bench.find("branch")).to_have_value("other", timeout=PATIENCE)
    settle(bench)
    bench.kernel("Out[1].state.switch('main')")
    bench.find("budget-width-conv2").fill("23")
    bench.find("budget-width-conv2").press("Tab")
    bench.find("budget-slider-conv1").focus()
    bench.page.keyboard.press("ArrowLeft")
    settle(bench)
    bench.wait_idle()
    kept = int(bench.find("budget-slider-conv1").input_value())
    assert bench.find("budget-width-conv2").input_value() == "23"
    widths = bench.kernel("[Out[1].state.widths[name] for name in ('conv1', 'conv2')]")
    assert widths == repr([kept, 23])
