"""The face without a browser: what runs beside the page, its progress, and how it is cancelled."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest
from states import PATIENCE, idle, message, small_session

from workbench.data.progress import Cancelled
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
