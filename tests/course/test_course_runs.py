"""The course runs from top to bottom without a network: worked, as it is handed out, and without the data."""

import re

import nbformat
import pytest
from executing import COURSE, HANDED_OUT, WITHOUT_DATA, WORKED, environment
from nbclient import NotebookClient

STORED = [path for path in sorted(COURSE.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
RUNS = [(path.name, how) for path in sorted(COURSE.glob("*.ipynb")) for how in (WORKED, HANDED_OUT)]
RUNS += [
    (path.name, WITHOUT_DATA)
    for path in sorted(COURSE.glob("*.ipynb"))
    if re.search(r"nn3-|vgg13|rnn-|vit-", path.read_text("utf-8"))
]


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
def test_it_runs_and_its_checks_say_so(run, course_runs):
    said = said_by_checks(course_runs(*run))
    mark = "…" if run[1] == HANDED_OUT else "✓"
    assert said
    assert [line[:1] for line in said] == [mark] * len(said), said


@pytest.mark.parametrize("path", STORED, ids=lambda path: f"{path.parent.name}/{path.name}")
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
