"""Fixtures of the browser tests: one Chromium and one server of each kind for the whole run.

`open_notebook("cell 1", "cell 2")` opens a new notebook with these cells; `workbench_page` is the real
notebook, run and measured, shared by the tests of a file; `lab` and `app` are the servers themselves.
"""

import json
from collections.abc import Callable, Iterator

import pytest
from chromium import FLAGS, NoChromiumError, find_chromium
from front_modules import modules_page
from notebook_page import NotebookPage, expect_measured, fresh_address, watch, write_notebook
from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright
from servers import Server

from workbench.session.session import Session

VIEWPORT = {"width": 1280, "height": 800}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def chromium_path(playwright: Playwright) -> str:
    """The browser's program; installs one if there is none, and fails, never skips, without."""
    try:
        return find_chromium(playwright.chromium.executable_path)
    except NoChromiumError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def context(
    playwright: Playwright, chromium_path: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    """A browser without a past, 1280×800."""
    context = playwright.chromium.launch_persistent_context(
        tmp_path_factory.mktemp("chromium"),
        executable_path=chromium_path,
        args=list(FLAGS),
        viewport=VIEWPORT,
    )
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running `workbench lab` on a copy of the notebooks."""
    server = Server("lab", tmp_path_factory.mktemp("lab"))
    yield server
    assert server.stop() == 0, server.output


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running `workbench app` on a copy of the notebooks."""
    server = Server("app", tmp_path_factory.mktemp("app"))
    yield server
    assert server.stop() == 0, server.output


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """An empty browser page."""
    page = watch(context.new_page())
    yield page
    page.close()


@pytest.fixture
def open_notebook(context: BrowserContext, lab: Server) -> Iterator[Callable[..., NotebookPage]]:
    """Opens a new notebook with the given code cells, or the file `name`; nothing is run."""
    opened: list[NotebookPage] = []

    def open_one(*cells: str, name: str | None = None) -> NotebookPage:
        notebook = NotebookPage(watch(context.new_page()))
        opened.append(notebook)
        file = name or write_notebook(lab.notebooks, cells)
        return notebook.open(fresh_address(notebook.page, lab, file))

    yield open_one
    for notebook in opened:
        notebook.close()


@pytest.fixture(scope="session")
def opened_once() -> Iterator[list[NotebookPage]]:
    """The notebook that files of tests use one after the other: JupyterLab and torch load once."""
    opened: list[NotebookPage] = []
    yield opened
    for notebook in opened:
        notebook.close()


@pytest.fixture(scope="module")
def measured_notebook(
    context: BrowserContext, lab: Server, opened_once: list[NotebookPage]
) -> Iterator[Callable[[str], NotebookPage]]:
    """A notebook whose first cell is the given one, run and measured; one for all tests of a file.

    Nothing is left of what the file before did: its views are closed, its names are gone.
    """

    def open_one(cell: str) -> NotebookPage:
        if opened_once and not opened_once[0].as_new(VIEWPORT):
            opened_once.pop().close()
        if not opened_once:
            # A file of its own: a notebook that another test opens and closes has the same kernel.
            notebook = NotebookPage(watch(context.new_page()))
            file = write_notebook(lab.notebooks, (cell,))
            opened_once.append(notebook.open(fresh_address(notebook.page, lab, file)))
        (notebook,) = opened_once
        notebook.write(cell)
        notebook.press_shift_enter()
        expect_measured(notebook.page)
        return notebook

    yield open_one
    assert [error for notebook in opened_once for error in notebook.page.errors] == []


@pytest.fixture(scope="module")
def workbench_page(measured_notebook: Callable[[str], NotebookPage], lab: Server) -> NotebookPage:
    """The real notebook after one Shift+Enter, the workbench measured."""
    real = json.loads((lab.notebooks / "workbench.ipynb").read_text(encoding="utf-8"))
    return measured_notebook("".join(real["cells"][0]["source"]))


@pytest.fixture(scope="module")
def modules(context: BrowserContext) -> Iterator[Page]:
    """A page that serves the modules of front/ as they are, one for all tests of a file."""
    page = modules_page(context)
    yield page
    assert page.errors == []
    page.close()


@pytest.fixture(scope="module")
def digits() -> Session:
    """The same session in this process: the oracle for what the page shows."""
    session = Session.example("digits-cnn")
    session.measure()
    return session
