"""A notebook in the browser, with the moves of a person and a look behind the scenes."""

import json
import os
import re
import uuid
from pathlib import Path

from playwright.sync_api import Locator, Page, ViewportSize, expect

from workbench.serve.lab import LAB_LAYOUT

SCREENSHOTS = Path(__file__).parent / "screenshots"
DRAWN = "WORKBENCH_SCREENSHOTS"  # set, tests draw pictures for people to look at, which takes their time
# Of tests that look at no colour.
THEMES = ("JupyterLab Light", "JupyterLab Dark") if os.environ.get(DRAWN) else ("JupyterLab Dark",)
KERNEL_SECONDS = 120
WORKBENCH_SECONDS = 120

SESSION = "window.jupyterapp.shell.currentWidget?.sessionContext"
KERNEL_IS_READY = f"""() => {{
  const kernel = {SESSION}?.session?.kernel;
  return kernel?.status === 'idle' && kernel.connectionStatus === 'connected';
}}"""
KERNEL_VALUE = f"""async (expression) => {{
  const kernel = {SESSION}.session.kernel;
  const asked = {{ code: '', silent: true, store_history: false, user_expressions: {{ value: expression }} }};
  return (await kernel.requestExecute(asked).done).content.user_expressions.value;
}}"""
# Ends what a notebook shows and knows, so that its next cell is the first one.
FORGET = """exec('for one in list(Out.values()): getattr(one, "close", id)()') or \
get_ipython().reset(new_session=True)"""
CELL_ERRORS = """() => window.jupyterapp.shell.currentWidget.content.widgets.flatMap(cell => {
  const outputs = cell.model.type === 'code' ? cell.model.outputs.toJSON() : [];
  return outputs.filter(one => one.output_type === 'error').map(one => `${one.ename}: ${one.evalue}`);
})"""


def watch(page: Page) -> Page:
    """Note on `page` what it asks of other machines (`.foreign`) and its scripts' errors (`.errors`).

    And on its context which page lies in front (`.front`), as a new one does.
    """
    page.foreign, page.errors, page.context.front = [], [], page
    page.on("close", lambda _: setattr(page.context, "front", None))
    page.on("request", lambda request: _note_foreign(page, request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    return page


def _note_foreign(page: Page, url: str) -> None:
    if not re.match(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:|about:", url):
        page.foreign.append(url)


def screenshot(page: Page, name: str) -> None:
    """Draw `page` into screenshots/<name>.png, for people to look at, where `DRAWN` asks for it."""
    if os.environ.get(DRAWN):
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png")


def expect_measured(page: Page, seconds: float = WORKBENCH_SECONDS) -> None:
    """Wait until the workbench on `page` has measured and scored its model; fail if it shows an error."""
    expect(page.get_by_test_id("workbench")).to_be_visible(timeout=seconds * 1000)
    scored = page.get_by_test_id("meter-score").filter(has_text=re.compile(r"\d"))
    error = page.get_by_test_id("error")
    expect(scored.or_(error).first).to_be_visible(timeout=seconds * 1000)
    expect(error).to_have_count(0)
    expect(page.get_by_test_id("readout-N")).to_have_text(re.compile(r"\d"), timeout=seconds * 1000)


class NotebookPage:
    """One notebook open in JupyterLab; `page` is Playwright's."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def open(self, url: str) -> "NotebookPage":
        """Go to `url` and wait until the notebook is there and its kernel idle."""
        self.page.goto(url)
        expect(self.page.locator(".jp-Notebook .jp-Cell").first).to_be_visible(timeout=KERNEL_SECONDS * 1000)
        self.wait_idle()
        return self

    def as_new(self, viewport: ViewportSize) -> bool:
        """As `open` left it, with the kernel that it has; False where that cannot be."""
        alive = f"() => Boolean({SESSION}?.session?.kernel)"
        if self.page.is_closed() or self.interruptions() or not self.page.evaluate(alive):
            return False
        self.page.set_viewport_size(viewport)
        self.theme("JupyterLab Light")
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        self.kernel(FORGET)
        self.page.errors.clear()
        self.page.foreign.clear()
        return True

    def wait_idle(self, seconds: float = KERNEL_SECONDS) -> None:
        """Wait until the kernel is connected and idle."""
        self.page.wait_for_function(KERNEL_IS_READY, timeout=seconds * 1000)

    def find(self, testid: str) -> Locator:
        """The part of the page with this data-testid; the page comes in front, as under a person's hand.

        A page behind another one is drawn once a second.
        """
        if self.page.context.front is not self.page:
            self.page.bring_to_front()
            self.page.context.front = self.page
        return self.page.get_by_test_id(testid)

    def write(self, source: str, cell: int = 0) -> None:
        """Put `source` into a code cell in the place of what stands there."""
        self.page.evaluate(
            "([cell, text]) => window.jupyterapp.shell.currentWidget.content.widgets[cell]"
            ".model.sharedModel.setSource(text)",
            [cell, source],
        )

    def press_shift_enter(self, cell: int = 0) -> None:
        """Click into a code cell and press Shift+Enter, as a person does."""
        self.page.locator(".jp-Notebook .jp-CodeCell").nth(cell).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")

    def run_all(self) -> None:
        """Run every cell and wait for the last."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.wait_idle()

    def cell_errors(self) -> list[str]:
        """'Name: message' of every error that stands under a cell."""
        return self.page.evaluate(CELL_ERRORS)

    def kernel(self, expression: str) -> str:
        """The repr of `expression` in the notebook's kernel. Raises AssertionError where it fails there."""
        answer = self.page.evaluate(KERNEL_VALUE, expression)
        assert answer["status"] == "ok", answer
        return answer["data"]["text/plain"]

    def interruptions(self) -> list[str]:
        """The text of every dialog and toast that is in the way."""
        return self.page.locator(".jp-Dialog, .Toastify__toast").all_inner_texts()

    def theme(self, name: str = "JupyterLab Dark") -> None:
        """Switch JupyterLab to another theme and wait until it is drawn, and its splash is away: a switch
        under the splash of another one fails in JupyterLab."""
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", name
        )
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-name", name)
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0)

    def screenshot(self, name: str) -> None:
        """Draw the page into screenshots/<name>.png, where that is asked for."""
        screenshot(self.page, name)

    def in_both_themes(self, name: str) -> None:
        """Draw the page into screenshots/<name>-dark.png and -light.png, where that is asked for."""
        for theme in THEMES[::-1] if os.environ.get(DRAWN) else ():
            self.theme(theme)
            self.page.wait_for_timeout(600)
            self.screenshot(f"{name}-{theme.split()[-1].lower()}")

    def close(self) -> None:
        """Shut the kernel down and close the page."""
        if not self.page.is_closed():
            self.page.evaluate(f"async () => {{ await {SESSION}?.shutdown() }}")
            self.page.close()


def fresh_address(page: Page, server, notebook: str) -> str:
    """An address of `notebook` in a workspace of its own, laid out as `workbench lab` does.

    Lab keeps what was open in a workspace: in a shared one, a test would see the notebooks of others.
    """
    name = f"test-{uuid.uuid4().hex}"
    answer = page.request.put(
        f"{server.origin}/lab/api/workspaces/{name}",
        headers={"Authorization": f"token {server.token}"},
        data=json.dumps({**LAB_LAYOUT, "metadata": {"id": name}}),
    )
    assert answer.ok, answer.text()
    return f"{server.origin}/lab/workspaces/{name}/tree/{notebook}?token={server.token}"


def write_notebook(folder: Path, cells: tuple[str, ...]) -> str:
    """Write a notebook with these code cells into `folder` and return its file name."""
    notebook = {
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{number}",
                "metadata": {},
                "execution_count": None,
                "outputs": [],
                "source": source,
            }
            for number, source in enumerate(cells)
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    name = f"test-{uuid.uuid4().hex}.ipynb"
    (folder / name).write_text(json.dumps(notebook))
    return name
