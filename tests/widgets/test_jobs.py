"""The face without a browser: what runs beside the page, its progress, and how it is cancelled."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest
import torch
from states import PATIENCE, idle, message, small_session
from torch import nn

from workbench.data.progress import Cancelled
from workbench.session.session import Session
from workbench.widgets.commands import check
from workbench.widgets.jobs import Reporter, Worker
from workbench.widgets.state import WorkbenchState


class TestCancelAndProgress:
    def test_cancel_stops_measuring(self):
        class Slow:
            def __init__(self, inputs):
                self.inputs = inputs

            def __iter__(self):
                for index in range(1000):
                    if index:
                        time.sleep(0.02)
                    yield self.inputs

            def __len__(self):
                return 1000

        session = small_session(batches=Slow)
        state = WorkbenchState(session)
        seen = []
        state.observe(lambda change: seen.append(change["new"]), "progress")
        deadline = time.monotonic() + PATIENCE
        while not any(value.get("done") for value in seen) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert any(value.get("total") == 1000 for value in seen)
        message(state, "cancel")
        idle(state)
        assert not state.measured
        assert state.notice.startswith("Cancelled")
        assert (state.progress, state.error) == ({}, "")
        state.measure()
        message(state, "cancel")
        idle(state)
        assert state.notice.startswith("Cancelled")

    def test_progress_is_told_at_a_bearable_rate(self):
        told = []
        reporter = Reporter(told.append, "measuring")
        for done in range(10_001):
            reporter(done, 10_000, "measuring")
        assert told[-1]["done"] == 10_000
        assert len(told) < 200

    def test_worker_goes_on_after_each_job(self):
        worker, done = Worker("test"), []
        for index in range(5):
            worker.submit(lambda index=index: done.append(index))
        assert worker.wait(PATIENCE)
        assert done == [0, 1, 2, 3, 4]
        assert not worker.busy


ENDINGS = [SystemExit(3), SystemExit(), KeyboardInterrupt(), GeneratorExit("gone"), MemoryError("no room")]


@pytest.mark.parametrize("ending", ENDINGS, ids=repr)
@pytest.mark.parametrize("place", ["model", "data", "score"])
def test_what_a_user_s_code_ends_with_fails_its_job_and_the_next_one_runs(place, ending):
    class Loader:
        def __init__(self, inputs):
            self.inputs = inputs

        def __iter__(self):
            if ends["data"] and threading.current_thread() is not threading.main_thread():
                raise ending
            yield self.inputs

    class Ends(nn.Identity):
        def forward(self, x):
            if ends["model"]:
                raise ending
            return x

    def score(_model):
        if ends["score"]:
            raise ending
        return 0.5

    ends = dict.fromkeys(("model", "data", "score"), False)
    model = nn.Sequential(nn.Linear(5, 7), Ends(), nn.Linear(7, 3))
    session = Session(model, Loader(torch.randn(31, 5)), score)
    ends[place] = True
    state = idle(WorkbenchState(session))
    assert not state.measured
    assert state.progress == {}
    assert type(ending).__name__ in state.error or str(ending) in state.error
    assert state.ended["how"] == "failed"
    ends[place] = False
    idle(message(state, "measure"))
    assert (state.measured, state.error) == (True, "")
    assert state._jobs._thread.is_alive()


def test_a_worker_outlives_a_job_that_does_not_handle_its_error(monkeypatch):
    shown = []
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(str(args.exc_value)))
    worker, done = Worker("test"), []
    for ending in (SystemExit(2), ValueError("unhandled")):
        worker.submit(failing_with(ending))
        worker.submit(lambda: done.append(1))
    assert worker.wait(PATIENCE)
    assert (len(done), worker.busy) == (2, False)
    assert shown == ["2", "unhandled"]


def failing_with(ending):
    def fail():
        raise ending

    return fail


def test_results_are_applied_on_the_event_loop(session):
    threads = set()

    async def main():
        state = WorkbenchState(session)
        state.observe(
            lambda change: threads.add(threading.current_thread()), ["preview", "progress", "history"]
        )
        while not state.preview:
            await asyncio.sleep(0.01)
        state.commit()
        while state.position == 0 or state.progress:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert threads == {threading.main_thread()}


def test_a_stopped_worker_ends_its_thread_and_takes_no_more():
    worker, done = Worker("test"), []
    worker.submit(lambda: done.append("first"))
    worker.wait()
    worker.stop()
    assert not worker._thread.is_alive()
    worker.submit(lambda: done.append("second"))
    assert not worker.busy
    assert done == ["first"]


def test_a_stopped_worker_cancels_what_runs(state):
    def work(progress, cancel):
        begun.set()
        assert cancel.wait(PATIENCE)
        check(cancel)

    begun = threading.Event()
    state._start("commit", "waiting", work)
    assert begun.wait(PATIENCE)
    state._jobs.stop(PATIENCE)
    assert not state._jobs._thread.is_alive()
    assert (state.ended["how"], state.error) == ("cancelled", "")


def test_a_process_that_ends_during_a_job_ends_quietly():
    code = (
        "import time, torch; torch.set_num_threads(1); from workbench.widgets.jobs import Worker\n"
        "worker = Worker('test')\n"
        "worker.submit(lambda: [torch.rand(300, 300) @ torch.rand(300, 300) for _ in range(100)])\n"
        "time.sleep(0.05)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_whatever_reports_its_progress_can_be_cancelled():
    cancel = threading.Event()
    report = Reporter(lambda values: None, "loading", cancel)
    report(1, 2, "loading")
    cancel.set()
    with pytest.raises(Cancelled):
        report(2, 2, "loading")
