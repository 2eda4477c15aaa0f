"""Lists of many groups: rows of two lines, names readable, blocks that fold, filter, orders, their keys."""

import json
import statistics

import pytest
from front_modules import run
from layer_tab import settle
from long_networks import NETWORK, TOLD
from painting import PAINTED, amount, traced
from playwright.sync_api import expect

PATIENCE = 60_000
LOSSES = """
import json
import numpy as np
from workbench.spectral.bounds import suggested_width

def wb_losses(view):
    found, at, all_losses = {}, 0, np.frombuffer(view.losses)
    for name, m in zip(view.budget["names"], view.budget["widths"]):
        losses, at = all_losses[at : at + m + 1], at + m + 1
        spectrum = view.session.spectrum(name)
        width = suggested_width(spectrum.degrees_of_freedom(view.lam * spectrum.trace), m)
        found[name] = float(losses[width] / losses[0])
    return json.dumps(found)
"""
CELL = NETWORK + LOSSES + "view = wb.Workbench(session, autosave=False)\nview"
WIDTHS = "__import__('json').dumps({x['name']: x['width'] for x in view.layers})"
GROUPS = 29
LAST = "backbone.encoder.stages.2.blocks.8.pointwise_project_conv"
BLOCKS = [f"backbone.encoder.stages.{i}.blocks" for i in range(3)]


@pytest.fixture(scope="module")
def notebook(measured_notebook):
    return measured_notebook(CELL)


@pytest.fixture
def bench(notebook):
    """The tab Layer with its list as it is at first."""
    notebook.find("tab-layer").click()
    notebook.find("layers-filter").fill("")
    notebook.find("layers-order").select_option("order")
    if notebook.find("layers-fold").get_attribute("title") == "Open all blocks":
        notebook.find("layers-fold").click()
    notebook.find("layer-stem").click()
    settle(notebook)
    return notebook


def shown(bench, rows=".wbw-layer"):
    """Names of the rows in the list, from above."""
    names = "rows => rows.map(row => row.querySelector('.wbw-name').title)"
    return bench.page.locator(rows).evaluate_all(names)


def kernel_names(bench):
    return json.loads(bench.kernel("__import__('json').dumps([x['name'] for x in view.layers])")[1:-1])


def test_rows_have_two_lines_and_the_end_of_every_name(bench):
    cut = """rows => rows
      .map(row => [row.querySelector('.wbw-end'), row.querySelector('.wbw-name')])
      .filter(([end, name]) => end && (end.scrollWidth > end.clientWidth + 1
        || end.getBoundingClientRect().right
        > name.getBoundingClientRect().right + 1)).map(([end]) => end.textContent)"""
    rows = bench.page.locator(".wbw-layer")
    assert rows.count() == GROUPS + 1
    assert {round(row["height"]) for row in (one.bounding_box() for one in rows.all())} <= {40, 41, 42}
    assert rows.evaluate_all(cut) == []
    assert shown(bench) == kernel_names(bench)
    assert rows.nth(3).locator(".wbw-name").text_content() == "1.pointwise_expand_conv"


def test_the_whole_name_stands_beside_the_row_with_the_focus(bench):
    bench.page.keyboard.press("ArrowDown")  # a block's line
    bench.page.keyboard.press("ArrowDown")
    tip = bench.find("name-tip").first
    expect(tip).to_have_text("backbone.encoder.stages.0.blocks.0.pointwise_expand_conv")
    box, panel = tip.bounding_box(), bench.page.locator(".wbw-layers").bounding_box()
    assert panel["x"] <= box["x"]
    assert box["x"] + box["width"] <= panel["x"] + panel["width"]
    bench.find("lam-slider").focus()
    expect(tip).to_be_hidden()


def test_the_filter_finds_parts_of_names_and_escape_ends_it(bench):
    bench.find("layers-filter").fill("Project stages.1")
    expect(bench.page.locator(".wbw-layer")).to_have_count(3)
    assert all("stages.1" in name and name.endswith("project_conv") for name in shown(bench))
    expect(bench.find("layers-found")).to_have_text("3 of 30")
    bench.page.keyboard.press("ArrowDown")
    expect(bench.page.locator(".wbw-layers [role=treeitem]").first).to_be_focused()
    bench.find("layers-filter").fill("nowhere")
    expect(bench.find("layers-found")).to_contain_text("nowhere")
    bench.find("layers-filter").press("Escape")
    expect(bench.page.locator(".wbw-layer")).to_have_count(GROUPS + 1)


def spectra_shares(bench):
    """N(λ)/m of every group at the present λ, by the session."""
    told = (
        "__import__('json').dumps({g.name: (lambda s: s.degrees_of_freedom(view.lam * s.trace) / s.width)"
        "(session.spectrum(g.name)) for g in session.groups if g.prunable})"
    )
    return json.loads(bench.kernel(told)[1:-1])


def losses_at_freedom(bench):
    """The relative output loss of every group at the width that N(λ) suggests, from what the kernel told."""
    return json.loads(bench.kernel("wb_losses(view)")[1:-1])


def test_orders_are_those_of_the_sessions_numbers(bench):
    names = kernel_names(bench)
    order = bench.find("layers-order")
    order.select_option("name")
    assert shown(bench) == sorted(names, key=lambda name: (name.split(".")[0], names.index(name)))
    order.select_option("width")
    widths = json.loads(bench.kernel(WIDTHS)[1:-1])
    assert [widths[name] for name in shown(bench)] == sorted(widths.values(), reverse=True)
    order.select_option("share")
    shares = spectra_shares(bench)
    assert shown(bench) == [*sorted(shares, key=shares.get), "head"]
    bench.find("layers-turn").click()
    assert shown(bench) == [*sorted(shares, key=shares.get, reverse=True), "head"]
    order.select_option("cost")
    # Own MACs by hand: rows · columns · kernel · positions, 25 of each after the stem.
    macs = {
        name: (widths[names[i - 1]] * width if i else 3 * 9 * width) * 25
        for i, (name, width) in enumerate(widths.items())
    }
    assert [macs[name] for name in shown(bench)[:-1]] == sorted((macs[n] for n in names[:-1]), reverse=True)
    order.select_option("loss")
    expect(bench.page.locator(".wbw-layer").last).to_have_attribute("data-testid", "layer-head")
    for _ in range(50):  # the kernel computes them first
        bench.page.wait_for_timeout(200)
        if json.loads(bench.kernel("view.losses_of == view.revision").lower()):
            losses = losses_at_freedom(bench)
            found = [losses[name] for name in shown(bench) if name in losses]
            if found == sorted(losses.values(), reverse=True):
                break
    assert found == sorted(losses.values(), reverse=True)
    assert bench.kernel("view.tabs") == "['budget']"
    order.select_option("order")
    bench.page.wait_for_timeout(300)
    assert bench.kernel("view.tabs") == "[]"


def test_blocks_fold_by_hand_and_by_key_and_open_for_what_is_chosen(bench):
    heads = bench.page.locator(".wbw-layers .wbw-block")
    assert heads.evaluate_all("all => all.map(one => one.querySelector('.wbw-name').title)") == BLOCKS
    bench.find(f"layers-block-{BLOCKS[1]}").click()
    expect(bench.page.locator(".wbw-layer")).to_have_count(GROUPS + 1 - 6)
    bench.page.keyboard.press("ArrowRight")
    expect(bench.page.locator(".wbw-layer")).to_have_count(GROUPS + 1)
    bench.page.keyboard.press("ArrowLeft")
    bench.page.keyboard.press("Enter")
    expect(bench.find(f"layers-block-{BLOCKS[1]}")).to_have_attribute("aria-expanded", "true")
    bench.find("layers-fold").click()
    expect(bench.page.locator(".wbw-layer")).to_have_count(2)  # stem and head are in no block
    shares = spectra_shares(bench)
    inside = [name for name in shares if name.startswith(BLOCKS[0])]
    expect(bench.find(f"layers-block-{BLOCKS[0]}")).to_contain_text(f"({len(inside)})")
    whole = sum(shares[name] * 6 for name in inside) / (6 * len(inside))
    expect(bench.find(f"layers-block-{BLOCKS[0]}")).to_contain_text(f"{round(100 * whole)}\u202f%")
    bench.kernel(f"view.choose({LAST!r})")
    expect(bench.find(f"layer-{LAST}")).to_have_attribute("aria-selected", "true")
    expect(bench.find(f"layer-{LAST}")).to_be_in_viewport()
    expect(bench.find(f"layers-block-{BLOCKS[0]}")).to_have_attribute("aria-expanded", "false")


def test_home_end_and_pages_move_in_the_lists(bench):
    selected = bench.page.locator(".wbw-layer[aria-selected=true]")
    bench.page.keyboard.press("End")
    expect(selected).to_have_attribute("data-testid", "layer-head")
    bench.page.keyboard.press("PageUp")
    page = kernel_names(bench).index(selected.get_attribute("data-testid").removeprefix("layer-"))
    height = bench.page.locator(".wbw-layers .wbw-list").bounding_box()["height"]
    assert GROUPS - height / 41 - 1 <= page <= GROUPS - 2
    bench.page.keyboard.press("Home")
    expect(selected).to_have_attribute("data-testid", "layer-stem")
    bench.find("tab-budget").click()
    bench.find("budget-lock-stem").focus()
    bench.page.keyboard.press("End")
    expect(bench.find(f"budget-lock-{LAST}")).to_be_focused()
    bench.page.keyboard.press("Home")
    expect(bench.find("budget-lock-stem")).to_be_focused()
    bench.page.keyboard.press("ArrowDown")
    expect(bench.find("budget-lock-backbone.encoder.stages.0.blocks.0.pointwise_expand_conv")).to_be_focused()


def test_the_budget_has_the_same_tools(bench):
    bench.find("tab-budget").click()
    rows = ".wbw-budget-row:not(.wbw-steps-head)"
    assert shown(bench, rows) == kernel_names(bench)[:-1]
    height = bench.find("budget-row-stem").bounding_box()["height"]
    assert 38 <= height <= 46
    bench.find(f"budget-width-{LAST}").fill("3")
    bench.find(f"budget-width-{LAST}").press("Tab")
    bench.find("budget-order").select_option("width")
    bench.find("budget-turn").click()
    expect(bench.page.locator(rows).first.locator(".wbw-name")).to_have_attribute("title", LAST)
    bench.find("budget-filter").fill("stem")
    expect(bench.page.locator(rows)).to_have_count(1)
    bench.find("budget-filter").press("Escape")
    bench.find("budget-order").select_option("order")
    bench.find("budget-fold").click()
    expect(bench.page.locator(rows)).to_have_count(1)
    sums = 12 * 17 + 3
    expect(bench.find(f"budget-block-{BLOCKS[2]}")).to_contain_text(f"{sums} of {12 * 18}")
    bench.find("budget-fold").click()
    bench.find("all-widths").click()


# The frontier as if it were measured, and how far its plot, and what follows it, reach into one another.
FRONTIER_BELOW = """() => {
  const find = (name) => document.querySelector(name);
  const [empty, plot] = [find('.wbw-frontier-empty'), find('.wbw-frontier > .wbw-plot')];
  const [hidden, bare] = [empty.hidden, plot.hidden];
  [empty.hidden, plot.hidden] = [true, false];
  const [box, rail] = [plot, find('.wbw-rail')].map(one => one.getBoundingClientRect());
  [empty.hidden, plot.hidden] = [hidden, bare];
  return [box.height, Math.min(box.bottom - rail.top, box.right - rail.left)];
}"""


@pytest.mark.parametrize("width", [700, 960, 1280, 1920])
def test_the_frontier_has_room_and_lies_under_nothing(bench, width):
    bench.find("tab-budget").click()
    bench.page.set_viewport_size({"width": width, "height": 1000})
    bench.page.wait_for_timeout(300)
    height, over = bench.page.evaluate(FRONTIER_BELOW)
    bench.page.set_viewport_size({"width": 1280, "height": 800})
    assert height >= 100
    assert over <= 1


def test_blocks_of_names(modules):
    names = {
        "few": [f"features.{i}" for i in range(4)] + ["classifier.0", "classifier.3"],
        "one": [f"block.{i}.conv" for i in range(300)],
        "none": ["conv1", "conv2", "fc1"],
        "deep": [f"net.stage.{i // 30}.block.{i}.{kind}" for i in range(60) for kind in "abc"],
    }
    few, one, none, deep = run(modules, "blocks.js", "return m.blocksOf(one);", list(names.values()))
    assert few == [["features"]] * 4 + [["classifier"]] * 2
    assert one == [[]] * 300
    assert none == [[]] * 3
    assert deep[0] == ["net.stage.0.block", "net.stage.0.block.0"]
    assert deep[-1] == ["net.stage.1.block", "net.stage.1.block.59"]


# Opens a tab as a click does, which asks for no layout, and waits until that is drawn.
OPEN = f"""async (tab) => {{{PAINTED}
  document.querySelector(`[data-testid=tab-${{tab}}]`).click();
  for (let i = 0; i < 3; i++) await painted();
}}"""
# Moves the first width of the Budget, a step a frame. Once the hand rests all rows follow, which is no move.
MOVE = f"""async (moves) => {{{PAINTED}
  const slider = document.querySelector('.wbw-budget-row .wbw-slider:not(:disabled)');
  for (let i = 1; i <= moves; i++) {{
    slider.value = Number(slider.max) - i;
    slider.dispatchEvent(new Event('input', {{ bubbles: true }}));
    await painted();
  }}
}}"""
MOVES = 20
SIZES = ((29, True), (300, False), (300, True))  # groups, and whether their blocks are open


def told(bench, groups, unfolded):
    """The page with so many groups, its lists as far open; how many rows Layer shows."""
    bench.kernel(TOLD % (groups, groups))
    bench.page.wait_for_timeout(300)
    for tab, name in (("budget", "budget"), ("layer", "layers")):
        bench.page.evaluate(OPEN, tab)
        fold = bench.find(f"{name}-fold")
        if (fold.get_attribute("title") != "Open all blocks") != unfolded:
            fold.click()
    bench.page.wait_for_timeout(300)
    return bench.page.locator(".wbw-layer").count()


def per_frame(frames):
    """Elements styled and boxes laid out in the median frame of those with work."""
    each = [amount([frame]) for frame in frames if frame["all"]]
    return tuple(statistics.median(column) for column in zip(*each, strict=True))


def work_of(bench):
    """Elements styled and boxes laid out to open Budget, to open Layer, and in a frame of a moved width."""
    opening = {"budget": [], "layer": []}
    for tab in tuple(opening) * 3:  # what else a busy machine does meanwhile is in one of three at most
        frames = traced(bench.page, lambda tab=tab: bench.page.evaluate(OPEN, tab))
        forced = [one for frame in frames for one in frame["forced"] if "blob:" in one]
        # What a screen reader is told is asked for once all is quiet: of an opening before, or of none.
        assert [one for one in forced if ":say:" not in one] == []
        opening[tab].append(amount(frames))
    bench.page.evaluate(OPEN, "budget")
    moving = per_frame(traced(bench.page, lambda: bench.page.evaluate(MOVE, MOVES)))
    return [*(tuple(map(statistics.median, zip(*each, strict=True))) for each in opening.values()), moving]


def test_300_groups_open_a_tab_and_move_a_width_like_29(bench, capsys):
    """By the browser's own counts: as many elements styled and boxes laid out as with 29, folded or not."""
    found = {}
    for groups, unfolded in SIZES:
        assert told(bench, groups, unfolded) == (groups if unfolded else 3)  # those of the chosen block
        found[groups, unfolded] = work_of(bench)
    with capsys.disabled():
        for (groups, unfolded), ((_, budget), (_, layer), (styled, laid)) in found.items():
            words = f"boxes laid out to open Budget {budget:.0f}, Layer {layer:.0f}"
            move = f"a move {laid:.0f}, {styled:.0f} elements styled"
            print(f"\n{groups} groups{', open' if unfolded else ''}: {words}; {move}", end="")
    usual = found.pop((29, True))
    for many in found.values():
        for few_counts, counts in zip(usual, many, strict=True):
            assert few_counts[1] > 0
            assert all(count <= 1.6 * few + 10 for few, count in zip(few_counts, counts, strict=True))
