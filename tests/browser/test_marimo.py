"""marimo gives an anywidget a plain model and a tree of its own: the workbench is shown there, and works."""

import re
import socket
import subprocess
import sys

import pytest
from notebook_page import screenshot, watch
from playwright.sync_api import expect
from tabs import PATIENCE

NOTEBOOK = """import marimo

app = marimo.App(width="full")


@app.cell
def _():
    import marimo as mo
    import workbench as wb

    mo.ui.anywidget(wb.Workbench(wb.Session.example("digits-cnn"), autosave=False))
    return


if __name__ == "__main__":
    app.run()
"""


@pytest.fixture(scope="module")
def bench(context, tmp_path_factory):
    """The workbench in a page of `marimo run`, measured."""
    folder = tmp_path_factory.mktemp("marimo")
    (folder / "bench.py").write_text(NOTEBOOK)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "marimo", "run", "bench.py", "--headless", "--no-token", "--port", port]
    with (folder / "output.txt").open("w") as output:
        server = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    page = watch(context.new_page())
    try:
        for _ in range(120):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", int(port))) == 0:
                    break
            page.wait_for_timeout(250)
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.get_by_test_id("meter-score")).to_have_text(re.compile(r"\d"), timeout=PATIENCE)
        expect(page.get_by_test_id("readout-N")).to_have_text(re.compile(r"\d"), timeout=PATIENCE)
        yield page
    finally:
        page.close()
        server.terminate()
        server.wait(30)


def test_the_layers_are_listed_and_lam_is_dragged(bench, digits):
    for group in digits.groups:
        expect(bench.get_by_test_id(f"layer-{group.name}")).to_be_visible()
    bench.get_by_test_id("layer-conv2").click()
    number = bench.get_by_test_id("readout-N")
    before = number.get_attribute("data-value")
    grip = bench.locator(".wbw-spectrum .wbw-grip").first.bounding_box()
    bench.mouse.move(grip["x"] + 5, grip["y"] + 5)
    bench.mouse.down()
    bench.mouse.move(grip["x"] + 5, grip["y"] + 40, steps=4)
    bench.mouse.up()
    expect(number).not_to_have_attribute("data-value", before)
    lam = float(bench.get_by_test_id("lam-line").get_attribute("aria-valuenow"))
    spectrum = digits.spectrum("conv2")
    expected = spectrum.degrees_of_freedom(lam * spectrum.trace)
    assert float(number.get_attribute("data-value")) == pytest.approx(expected, rel=1e-9)


def test_the_kernel_answers_and_commit_prunes(bench):
    expect(bench.locator(".wbw-behind")).to_have_attribute("data-current", "true", timeout=PATIENCE)
    expect(bench.get_by_test_id("readout-output-loss")).to_have_text(re.compile(r"\d"))
    meter = bench.get_by_test_id("meter-parameters")
    saved = int(float(bench.get_by_test_id("readout-params-saved").get_attribute("data-value")))
    before = int(meter.get_attribute("data-value"))
    bench.get_by_test_id("commit").click()
    expect(meter).to_have_attribute("data-value", str(before - saved), timeout=PATIENCE)
    bench.get_by_test_id("undo").click()
    expect(meter).to_have_attribute("data-value", str(before), timeout=PATIENCE)


def test_the_focus_is_kept_in_a_tree_of_its_own(bench):
    """The document names the tree's host alone: which element in it has the focus, only the tree knows."""
    bench.get_by_test_id("load").click()
    expect(bench.get_by_test_id("load-card")).to_be_visible()
    bench.keyboard.press("Escape")
    expect(bench.get_by_test_id("load-card")).to_be_hidden()
    expect(bench.get_by_test_id("load")).to_be_focused()


def test_it_follows_the_theme_and_asks_nobody(bench):
    card = "node => getComputedStyle(node).backgroundColor"
    light = bench.locator(".wbw-choice").evaluate(card)
    screenshot(bench, "marimo-light")
    bench.evaluate("() => document.body.classList.add('dark', 'dark-theme')")
    expect(bench.get_by_test_id("workbench")).to_have_class(re.compile("wbw-dark"))
    assert bench.locator(".wbw-choice").evaluate(card) != light
    screenshot(bench, "marimo-dark")
    bench.evaluate("() => document.body.classList.remove('dark', 'dark-theme')")
    expect(bench.get_by_test_id("workbench")).not_to_have_class(re.compile("wbw-dark"))
    assert bench.errors == []
    assert bench.foreign == []
