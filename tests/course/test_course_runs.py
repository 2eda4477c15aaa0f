"""The course runs from top to bottom without a network: as it is handed out, worked, and without the data."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
COURSE = ROOT / "notebooks" / "course"
OFFLINE = Path(__file__).parent / "offline"
CELL_SECONDS = 240
AT_ONCE = 2
HANDED_OUT, WORKED, WITHOUT_DATA = "handed out", "worked", "worked, without the data"
RUNS = [(path.name, how) for path in sorted(COURSE.glob("*.ipynb")) for how in (HANDED_OUT, WORKED)]
RUNS += [
    (path.name, WITHOUT_DATA)
    for path in sorted(COURSE.glob("*.ipynb"))
    if re.search(r"nn3-|vgg13|rnn-|vit-", path.read_text("utf-8"))
]


def environment(how, folder):
    """Of a kernel: this checkout's code, no network, one core, and the data or none."""
    path = os.pathsep.join([str(OFFLINE), str(ROOT), os.environ.get("PYTHONPATH", "")])
    given = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(folder / "ipython")}
    given["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    if how == WITHOUT_DATA:
        given.pop("WORKBENCH_DATA", None)
        given["XDG_CACHE_HOME"] = str(folder / "cache")
    return given


def executed(name, how, folder):
    source = COURSE / name if how == HANDED_OUT else COURSE / "solutions" / name
    notebook = nbformat.read(source, as_version=4)
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment(how, folder))
    return notebook


@pytest.fixture(scope="module")
def running(request, tmp_path_factory):
    """Every run that was asked for, two at a time."""
    asked = [item.callspec.params["run"] for item in request.session.items if "running" in item.fixturenames]
    pool = ThreadPoolExecutor(AT_ONCE)
    yield {run: pool.submit(executed, *run, tmp_path_factory.mktemp("course")) for run in asked}
    pool.shutdown(cancel_futures=True)


def said_by_checks(notebook):
    """What each cell that checks an answer showed."""
    shown = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.lstrip().startswith("check("):
            results = [out for out in cell.outputs if out.output_type == "execute_result"]
            shown.append(results[0].data["text/plain"])
    return shown


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("run", RUNS, ids=" ".join)
def test_it_runs_and_its_checks_say_so(run, running):
    said = said_by_checks(running[run].result())
    mark = "…" if run[1] == HANDED_OUT else "✓"
    assert said
    assert [line[:1] for line in said] == [mark] * len(said), said


@pytest.mark.parametrize(
    "path", sorted(COURSE.rglob("*.ipynb")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_it_is_stored_without_outputs_and_defines_nothing_of_the_package(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert "class " not in cell.source


def test_a_kernel_cannot_leave_this_machine(tmp_path):
    code = "import socket, urllib.request\ntry:\n    urllib.request.urlopen('http://192.0.2.1/', timeout=1)\n"
    code += "except OSError as error:\n    print(error)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3").execute(env=environment(WORKED, tmp_path))
    assert "offline" in notebook.cells[0].outputs[0].text
