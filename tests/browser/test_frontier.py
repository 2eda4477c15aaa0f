"""The frontier of the budget tab in the browser: dragged without the kernel, measured beside predicted."""

import json
import re
import statistics

import pytest
from front_modules import run
from playwright.sync_api import expect
from tabs import CUT, PATIENCE, set_width, settle, to_budget

# Notes for every move along the frontier after how many frames the sliders stand at a solved plan.
FOLLOW = """() => {
  const svg = document.querySelector('[data-testid=frontier-plot]');
  const field = name => document.querySelector(`[data-testid=budget-width-${name}]`);
  window.along = { late: [], seen: new Set() };
  svg.addEventListener('pointermove', () => {
    const before = NAMES.map(name => field(name).value || field(name).placeholder).join();
    let frames = 0;
    const look = () => {
      frames += 1;
      const now = NAMES.map(name => field(name).value || field(name).placeholder).join();
      window.along.seen.add(now);
      if (now !== before) window.along.late.push(frames);
      else if (frames < 9) requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, { capture: true });
}"""


@pytest.fixture
def budget(workbench_page):
    return to_budget(workbench_page)


def widths(bench):
    return json.loads(bench.kernel("__import__('json').dumps(Out[1].state.widths)").strip("'"))


@pytest.fixture
def frontier(budget):
    """The budget tab with its frontier, and the solved plans: widths by name, in their order."""
    budget.find("goal-target").fill("50 %")
    budget.find("goal-unit").select_option("macs")
    budget.find("rule-damage").click()
    expect(budget.find("budget-message")).to_contain_text("least damage", timeout=PATIENCE)
    settle(budget)
    expect(budget.find("frontier-line")).to_have_attribute("d", re.compile("L"), timeout=PATIENCE)
    return budget


def solved(bench):
    line = json.loads(bench.kernel("__import__('json').dumps(Out[1].state.frontier)").strip("'"))
    return [dict(zip(line["names"], plan, strict=True)) for plan in line["plans"]], line


def test_before_it_is_measured_a_button_measures_and_can_be_cancelled(budget):
    expect(budget.find("frontier-empty")).to_contain_text("measures 32 networks first", timeout=PATIENCE)
    budget.find("measure-damage").click()
    expect(budget.find("progress")).to_contain_text(
        re.compile(r"[1-9]\d* of 32\s· \w+ at \d+%"), timeout=PATIENCE
    )
    budget.find("cancel").click()
    settle(budget)
    left = int(budget.kernel("Out[1].session.damage_forecast()[0]"))
    assert left < 32  # what was measured is kept
    expect(budget.find("rule-damage")).to_have_attribute("title", re.compile(f"measures {left} network"))
    assert budget.page.evaluate(CUT) == []


def test_dragging_along_the_frontier_moves_all_sliders_to_solved_plans(frontier):
    names = ["conv1", "conv2", "conv3", "fc1"]
    frontier.page.evaluate(FOLLOW.replace("NAMES", json.dumps(names)))
    box = frontier.find("frontier-plot").bounding_box()
    mouse, y = frontier.page.mouse, box["y"] + box["height"] / 2
    mouse.move(box["x"] + 70, y)
    mouse.down()
    for i in range(24):
        mouse.move(box["x"] + 70 + (box["width"] - 230) * i / 24, y)
        frontier.page.wait_for_timeout(40)
    mouse.up()
    late = frontier.page.evaluate("() => window.along.late")
    assert len(late) > 12
    assert statistics.median(late) <= 2
    plans, line = solved(frontier)
    settle(frontier)
    assert widths(frontier) in plans
    shown = {",".join(str(plan[name]) for name in names) for plan in plans}
    seen = set(frontier.page.evaluate("() => [...window.along.seen]"))
    assert len(seen & shown) > 12
    at = plans.index(widths(frontier))
    macs = int(frontier.find("total-macs").get_attribute("data-value"))
    assert macs == pytest.approx(line["whole"] / line["fewer"][at])
    expect(frontier.find("frontier-words")).to_contain_text(f"predicted {100 * line['changes'][at]:.1f}")
    expect(frontier.find("goal-target")).to_have_value(re.compile(r"^[\d.]+x$"))


def test_arrow_keys_walk_along_the_frontier(frontier):
    plans, line = solved(frontier)
    thumb = frontier.find("frontier-thumb")
    thumb.focus()
    for key, at in (("Home", 0), ("ArrowRight", 1), ("Shift+ArrowRight", 6), ("ArrowLeft", 5), ("End", -1)):
        frontier.page.keyboard.press(key)
        settle(frontier)
        assert widths(frontier) == plans[at]
        assert float(thumb.get_attribute("aria-valuenow")) == pytest.approx(line["fewer"][at], abs=0.006)
    assert "predicted change" in thumb.get_attribute("aria-valuetext")


def test_locks_hold_along_the_frontier_and_dim_it_until_it_is_solved_again(frontier):
    before = solved(frontier)[1]["plans"]
    set_width(frontier, "conv2", 50)
    frontier.find("budget-lock-conv2").check()
    expect(frontier.page.locator(".wbw-behind-line")).to_have_count(1)
    expect(frontier.page.locator(".wbw-behind-line")).to_have_count(0, timeout=PATIENCE)
    assert solved(frontier)[1]["plans"] != before
    frontier.find("frontier-thumb").focus()
    frontier.page.keyboard.press("End")
    settle(frontier)
    assert widths(frontier)["conv2"] == 50
    assert widths(frontier) == solved(frontier)[0][-1]


def test_what_was_measured_stands_beside_what_was_predicted(frontier):
    frontier.find("frontier-thumb").focus()
    frontier.page.keyboard.press("End")
    settle(frontier)
    words = frontier.find("frontier-words")
    expect(words).not_to_contain_text("measured")
    frontier.find("try-all").click()
    expect(words).to_contain_text("measured", timeout=PATIENCE)
    tried = words.inner_text()
    settle(frontier)
    frontier.find("commit-all").click()
    expect(frontier.find("undo")).to_be_enabled(timeout=PATIENCE)
    expect(words).to_contain_text("measured", timeout=PATIENCE)
    settle(frontier)
    assert words.inner_text() == tried.partition(", accuracy")[0]
    found = float(frontier.kernel("float(Out[1].session.output_change().change[0])"))
    assert f"measured {100 * found:.1f}" in tried
    expect(frontier.find("frontier-measured")).to_be_visible()
    expect(frontier.find("measure-damage-again")).to_be_enabled()
    assert frontier.page.evaluate(CUT) == []


def test_no_script_failed(frontier):
    assert frontier.page.errors == []
    assert frontier.cell_errors() == []


def test_ticks_of_a_change_differ_however_small_it_is(modules):
    cases = [[0, 0.1, 0.2], [0, 0.005, 0.01], [0, 0.0005, 0.001, 0.0015], [0, 2e-5, 4e-5], [0, 1e-9, 2e-9]]
    found = run(modules, "frontier.js", "return m.changeTexts(one);", cases)
    assert [text.replace("\u202f", " ") for text in found[0] + found[2]] == [
        *("0", "10 %", "20 %"), *("0", "0.05 %", "0.10 %", "0.15 %"),
    ]  # fmt: skip
    assert all(len(set(texts)) == len(texts) for texts in found)
