"""Runs notebooks of the course without a network, one after the other, in a process of its own.

`python executing.py FOLDER NAME HOW [NAME HOW …]` writes each run into FOLDER as it ends: the notebook with
its outputs, or what went wrong. So the course runs beside the other tests, on the core that they leave. Those
with the data share a kernel, as do those without: torch is loaded twice. Names are gone before each run, but
for what is handed out: that is the worked notebook without its answers, and runs behind it (`exercises`).
"""

import ast
import os
import sys
import traceback
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.util import run_sync

ROOT = Path(__file__).resolve().parents[2]
COURSE = ROOT / "notebooks" / "course"
OFFLINE = Path(__file__).parent / "offline"
CELL_SECONDS = 240
AS_NEW = """get_ipython().reset()
__import__("os").chdir({folder!r})
if "matplotlib.pyplot" in __import__("sys").modules:
    __import__("matplotlib.pyplot").pyplot.close("all")
    __import__("matplotlib").rcdefaults()
"""
HANDED_OUT, WORKED, WITHOUT_DATA = "handed out", "worked", "worked, without the data"


def environment(how, folder):
    """Of a kernel: this checkout's code, no network, one core, and the data or none."""
    path = os.pathsep.join([str(OFFLINE), str(ROOT), os.environ.get("PYTHONPATH", "")])
    given = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(folder / "ipython")}
    given["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    if how == WITHOUT_DATA:
        given.pop("WORKBENCH_DATA", None)
        given["XDG_CACHE_HOME"] = str(folder / "cache")
    return given


def kernel(how, folder):
    """A running kernel's manager."""
    client = NotebookClient(nbformat.v4.new_notebook(), kernel_name="python3")
    manager = client.create_kernel_manager()
    client.start_new_kernel(env=environment(how, folder))
    return manager


def executed(name, how, folder, manager):
    """The notebook after its run in the working folder `folder`; raises what a cell raises."""
    notebook = nbformat.read(COURSE / "solutions" / name, as_version=4)
    first = AS_NEW.format(folder=str(folder))
    if how == HANDED_OUT:
        notebook.cells, answers = exercises(name)
        first = f"for one in {sorted(answers)}: globals().pop(one, None)"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(first))
    NotebookClient(notebook, timeout=CELL_SECONDS, km=manager).execute()
    del notebook.cells[0]
    return notebook


def exercises(name):
    """The cells whose run differs where nothing is answered yet, and the names of the answers.

    Each exercise, its check, and what uses a name of an answer further on; all else is the worked notebook's.
    """
    handed, worked = (
        nbformat.read(path / name, as_version=4).cells for path in (COURSE, COURSE / "solutions")
    )
    assert [cell.cell_type for cell in handed] == [cell.cell_type for cell in worked], name
    pairs = [pair for pair in zip(handed, worked, strict=True) if pair[0].cell_type == "code"]
    common = [ours.source for ours, theirs in pairs if ours.source == theirs.source]
    elsewhere = {one for source in common for one in defined(source)}
    cells, answers = [], set()
    for ours, theirs in pairs:
        if ours.source != theirs.source:
            answers |= defined(ours.source) | defined(theirs.source) - elsewhere
            cells.append(ours)
        elif answers & used(ours.source):
            cells.append(ours)
    assert answers, name
    return cells, answers


def defined(source):
    """The names that code gives a value, or a function, at its top."""
    body = ast.parse(source).body
    targets = [one for line in body for one in (*getattr(line, "targets", ()), getattr(line, "target", None))]
    names = (one for target in targets if target is not None for one in ast.walk(target))
    found = {one.id for one in names if isinstance(one, ast.Name)}
    return found | {line.name for line in body if isinstance(line, ast.FunctionDef)}


def used(source):
    """All names in code."""
    return {one.id for one in ast.walk(ast.parse(source)) if isinstance(one, ast.Name)}


def result_file(folder, name, how):
    """Where a run's outcome stands once it has ended."""
    return folder / f"{Path(name).stem}, {how}.json"


def main(folder, runs):
    kernels, behind = {}, {}  # what each kernel ran last
    for name, how in runs:
        working = folder / f"{name} {how}"
        working.mkdir()
        with_data = how != WITHOUT_DATA
        try:
            if with_data not in kernels:
                kernels[with_data] = kernel(how, folder)
            if how == HANDED_OUT and behind.get(with_data) != (name, WORKED):
                executed(name, WORKED, working, kernels[with_data])
            behind[with_data] = (name, how)
            outcome = nbformat.writes(executed(name, how, working, kernels[with_data]))
        except Exception:  # the test that waits for it tells what
            outcome = traceback.format_exc()
        unfinished = working / "outcome"
        unfinished.write_text(outcome, "utf-8")
        unfinished.replace(result_file(folder, name, how))
    for manager in kernels.values():
        run_sync(manager.shutdown_kernel)(now=True)


if __name__ == "__main__":
    words = sys.argv[2:]
    main(Path(sys.argv[1]), list(zip(words[::2], words[1::2], strict=True)))
