"""The network as a picture, in the browser: boxes in their places, chosen by hand and keys, up to 300."""

import pytest
from layer_tab import put_off
from playwright.sync_api import expect
from tabs import CUT, PATIENCE, settle

# Boxes that lie over one another, and names that are not whole in them; of the page as it is drawn.
FAULTS = """() => {
  const all = [...document.querySelectorAll('.wbw-net-node')];
  const boxes = all.map(node => [node, node.getBoundingClientRect()]);
  const meet = (a, b, low, high) => a[low] < b[high] - 1 && b[low] < a[high] - 1;
  const over = boxes.flatMap(([one, a], i) => boxes.slice(i + 1)
    .filter(([, b]) => meet(a, b, 'left', 'right') && meet(a, b, 'top', 'bottom'))
    .map(([other]) => `${one.textContent} over ${other.textContent}`));
  const cut = [...document.querySelectorAll('.wbw-net-box .wbw-name, .wbw-net-widths')]
    .filter(node => node.scrollWidth > node.clientWidth + 1).map(node => node.textContent);
  return { over, cut };
}"""

# Where the drawn lines begin and end, off the boxes that they belong to: [line, distance].
LOOSE = """() => {
  const lines = [...document.querySelectorAll('.wbw-net-lines')];
  const near = (svg, point, node) => {
    const box = node.getBoundingClientRect();
    const at = new DOMPoint(point.x, point.y).matrixTransform(svg.getScreenCTM());
    const off = (low, value, high) => Math.max(low - value, 0, value - high);
    return Math.hypot(off(box.left, at.x, box.right), off(box.top, at.y, box.bottom));
  };
  const loose = [];
  for (const svg of lines) for (const path of svg.querySelectorAll('path')) {
    const nodes = [...svg.parentNode.querySelectorAll('.wbw-net-node')];
    for (const [end, at] of [['from', 0], ['to', path.getTotalLength()]]) {
      const node = nodes.find(one => one.dataset.number === path.dataset[end]);
      if (!node || near(svg, path.getPointAtLength(at), node) <= 3) continue;
      loose.push([path.dataset.from, path.dataset.to]);
    }
  }
  return loose;
}"""

IN_SIGHT = """node => {
  const [box, all] = [node, node.closest('.wbw-net-scroller')].map(one => one.getBoundingClientRect());
  return box.top >= all.top && box.bottom <= all.bottom && box.left >= all.left && box.right <= all.right;
}"""

# A network that there is not, of `g` groups in blocks: a stream, and in each block two groups and a writer.
OF_BLOCKS = """(lambda state, g: state._set({
    "layers": [state.layers[0] | {"name": name, "width": 1 + (i & 31), "original": 32} for i, name in
               enumerate(["stem", *(f"encoder.layers.{i // 2}.block.part{i % 2}" for i in range(g - 1))])],
    "selected": "encoder.layers.120.block.part1",
    "network": {"revision": 0, "nodes": [["input", "", ""], ["group", "stem", "stem"],
        *(node for i in range((g - 1) // 2) for node in (
            ["group", "", f"encoder.layers.{i}.block.part0"],
            ["group", "", f"encoder.layers.{i}.block.part1"],
            ["gate", "", ""], ["writer", f"encoder.layers.{i}.out", "stem"], ["add", "", ""]))],
        "edges": [[0, 1, "read"], *(edge for i in range((g - 1) // 2) for edge in (
            [1 + 5 * i, 2 + 5 * i, "read"], [1 + 5 * i, 3 + 5 * i, "read"], [2 + 5 * i, 4 + 5 * i, "gate"],
            [3 + 5 * i, 4 + 5 * i, "gate"], [4 + 5 * i, 5 + 5 * i, "read"], [5 + 5 * i, 6 + 5 * i, "stream"],
            [1 + 5 * i, 6 + 5 * i, "stream"]))]},
}))(Out[1].state, GROUPS)"""


@pytest.fixture
def bench(workbench_page):
    put_off(workbench_page)
    workbench_page.find("tab-network").click()
    return workbench_page


def shares(bench):
    boxes = bench.page.locator(".wbw-net-group")
    return boxes.evaluate_all("nodes => nodes.map(node => [node.dataset.group, Number(node.dataset.share)])")


def test_a_box_a_group_from_input_to_output_and_the_library_comes_with_the_tab(bench):
    expect(bench.find("net-conv1")).to_be_visible(timeout=PATIENCE)
    names = ["conv1", "conv2", "conv3", "fc1", "fc2"]
    assert [name for name, _ in shares(bench)] == names
    # from the left to the right, in lines as text is
    placed = "nodes => nodes.map(node => [node.parentNode.offsetTop, node.offsetLeft])"
    places = bench.page.locator(".wbw-net-group").evaluate_all(placed)
    assert places == sorted(places)
    assert bench.page.evaluate(FAULTS) == {"over": [], "cut": []}
    assert bench.page.evaluate(LOOSE) == []
    assert bench.page.evaluate(CUT) == []
    assert bench.page.foreign == []
    assert int(bench.kernel("len(Out[1].state.layouter)")) > 10_000


def test_a_click_chooses_and_keys_go_along_and_to_the_layer(bench):
    bench.find("net-conv3").click()
    expect(bench.find("net-conv3")).to_have_attribute("aria-pressed", "true")
    settle(bench)
    assert bench.kernel("Out[1].state.selected") == "'conv3'"
    bench.page.keyboard.press("ArrowLeft")
    expect(bench.find("net-conv2")).to_be_focused()
    expect(bench.find("net-conv2")).to_have_attribute("aria-pressed", "true")
    expect(bench.find("net-conv3")).to_have_attribute("tabindex", "-1")
    # what is read of the chosen group stands out, and nothing else
    mine = bench.page.locator("path.wbw-net-mine")
    assert mine.evaluate_all("paths => paths.map(path => [path.dataset.from, path.dataset.to])") == [
        ["2", "3"]
    ]
    bench.page.keyboard.press("Enter")
    expect(bench.find("layer-conv2")).to_have_attribute("aria-selected", "true")
    expect(bench.find("lam-slider")).to_be_visible()


def test_boxes_are_filled_by_what_is_kept(bench):
    bench.find("tab-layer").click()
    bench.find("layer-conv1").click()
    bench.find("width-input").fill("8")
    bench.find("width-input").press("Tab")
    settle(bench)
    bench.find("commit").click()
    settle(bench)
    bench.find("tab-network").click()
    expect(bench.find("net-conv1")).to_contain_text("32 → 8 · 25")
    assert dict(shares(bench)) == {"conv1": 0.25, "conv2": 1, "conv3": 1, "fc1": 1, "fc2": 1}
    bench.find("undo").click()
    expect(bench.find("net-conv1")).to_contain_text("32 units", timeout=PATIENCE)


def test_three_hundred_groups_stand_apart_with_the_chosen_one_in_sight(bench):
    expect(bench.find("net-conv1")).to_be_visible(timeout=PATIENCE)
    groups = 301
    bench.kernel(OF_BLOCKS.replace("GROUPS", str(groups)))
    expect(bench.page.locator(".wbw-net-group")).to_have_count(groups, timeout=PATIENCE)
    chosen = bench.find("net-encoder.layers.120.block.part1")
    expect(chosen).to_have_class(r"wbw-net-node wbw-net-box wbw-net-group wbw-net-chosen")
    assert chosen.evaluate(IN_SIGHT)
    expect(chosen.locator(".wbw-name")).to_have_text("…120.block.part1")
    assert bench.page.evaluate(FAULTS) == {"over": [], "cut": []}
    assert bench.page.evaluate(LOOSE) == []
    chosen.focus()
    for _ in range(9):
        bench.page.keyboard.press("ArrowRight")
    last = bench.find("net-encoder.layers.125.block.part0")
    expect(last).to_be_focused()
    assert last.evaluate(IN_SIGHT)
    bench.find("net-fit").click()
    assert bench.find("net").evaluate("node => node.scrollHeight <= node.clientHeight + 1")
    assert bench.page.errors == []
