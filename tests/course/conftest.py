"""The course's notebooks run one after another in a process of their own, from the first asked for on."""

import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from executing import result_file

WAIT_SECONDS = 1200
LOOK_EVERY = 0.2


@pytest.fixture(scope="session")
def course_runs(request, tmp_path_factory):
    """A function (name, how) → the executed notebook, of the runs that this session's tests ask for."""
    asked = [item.callspec.params["run"] for item in request.session.items if "run" in item.fixturenames]
    folder = tmp_path_factory.mktemp("course")
    command = [sys.executable, str(Path(__file__).with_name("executing.py")), str(folder)]
    worker = subprocess.Popen([*command, *(word for run in asked for word in run)]) if asked else None

    def outcome(name, how):
        file, deadline = result_file(folder, name, how), time.monotonic() + WAIT_SECONDS
        while not file.is_file():
            assert worker is not None
            assert worker.poll() in (None, 0), "the process that runs the notebooks has died"
            assert time.monotonic() < deadline, f"{name}, {how}: not run in {WAIT_SECONDS} s"
            time.sleep(LOOK_EVERY)
        text = file.read_text("utf-8")
        assert text.startswith("{"), text
        return nbformat.reads(text, as_version=4)

    yield outcome
    if worker is not None and worker.poll() is None:
        worker.terminate()
        worker.wait(30)
