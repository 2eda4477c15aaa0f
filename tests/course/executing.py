"""Runs notebooks of the course without a network, one after the other, in a process of its own.

`python executing.py FOLDER NAME HOW [NAME HOW …]` writes each run into FOLDER as it ends: the notebook with
its outputs, or what went wrong. So the course runs beside the other tests, on the core that they leave.
"""

import os
import sys
import traceback
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
COURSE = ROOT / "notebooks" / "course"
OFFLINE = Path(__file__).parent / "offline"
CELL_SECONDS = 240
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


def executed(name, how, folder):
    """The notebook after its run in the working folder `folder`; raises what a cell raises."""
    source = COURSE / name if how == HANDED_OUT else COURSE / "solutions" / name
    notebook = nbformat.read(source, as_version=4)
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment(how, folder))
    return notebook


def result_file(folder, name, how):
    """Where a run's outcome stands once it has ended."""
    return folder / f"{Path(name).stem}, {how}.json"


def main(folder, runs):
    for name, how in runs:
        working = folder / f"{name} {how}"
        working.mkdir()
        try:
            outcome = nbformat.writes(executed(name, how, working))
        except Exception:  # the test that waits for it tells what
            outcome = traceback.format_exc()
        unfinished = working / "outcome"
        unfinished.write_text(outcome, "utf-8")
        unfinished.replace(result_file(folder, name, how))


if __name__ == "__main__":
    words = sys.argv[2:]
    main(Path(sys.argv[1]), list(zip(words[::2], words[1::2], strict=True)))
