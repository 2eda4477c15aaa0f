"""The workbench's notebook runs from top to bottom, as it is stored; the course's are run in `course/`."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CELL_SECONDS = 300


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebook_runs(path, tmp_path, monkeypatch):
    # A kernel takes up PYTHONPATH at its start: the code under test is this checkout's.
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent), prepend=":")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert [
        cell.metadata for cell in notebook.cells if cell.cell_type == "code" and not cell.source.strip()
    ] == []


def test_the_workbench_is_one_short_cell():
    notebook = nbformat.read(FOLDER / "workbench.ipynb", as_version=4)
    assert [cell.cell_type for cell in notebook.cells] == ["code"]
    assert len(notebook.cells[0].source.splitlines()) <= 4
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.title == "Spectral Pruning Workbench"
