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
    assert state.measured == (place == "score")  # the score follows the spectra, which stay
    assert state.progress == {}
    assert type(ending).__name__ in state.error or str(ending) in state.error
    assert state.ended["how"] == ("done" if place == "score" else "failed")
    ends[place] = False
    idle(message(state, "score" if place == "score" else "measure"))
    assert (state.measured, state.error, state.history[0]["score"]) == (True, "", 0.5)
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


def test_waiting_outlasts_what_workers_hand_on_to_each_other(state):
    handed = []

    def hand_on(names):
        time.sleep(0.02)
        handed.append(names)
        if names:
            getattr(state, names[0]).submit(lambda: hand_on(names[1:]))

    for waits in (lambda: state.wait(PATIENCE), lambda: state.settle(PATIENCE)):
        handed.clear()
        state._jobs.submit(lambda: hand_on(["_pictures", "_jobs", "_pictures", "_previews", "_jobs"]))
        assert waits()
        assert handed[-1] == []
    state._jobs.submit(lambda: time.sleep(0.2))
    assert not state.wait(0.01)


def test_gradients_are_measured_though_the_last_job_is_just_ending(state, session):
    """Its thread is at its last lines when the preview finds that they are missing."""
    session.training = [(session.example_input, torch.zeros(len(session.example_input), dtype=torch.long))]
    ended = threading.Event()
    state._jobs.submit(lambda: ended.wait(PATIENCE))
    state.selection = "taylor"
    state._previews.wait(PATIENCE)
    ended.set()
    idle(state)
    assert session.has_gradients
    assert state.preview["request"]["selection"] == "taylor"


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


class Parts:
    """Evaluation data in batches of `size`, each after the first only once `go` is set."""

    def __init__(self, data, size):
        self.data, self.size = data, size
        self.begun, self.go = threading.Event(), threading.Event()

    def __iter__(self):
        inputs, targets = self.data
        for start in range(0, len(inputs), self.size):
            if start:
                self.begun.set()
                assert self.go.wait(PATIENCE)
            yield inputs[start : start + self.size], targets[start : start + self.size]


@pytest.fixture
def scored_in_parts(monkeypatch):
    """A state whose spectra are there and whose score has come as far as the first 100 of 311 examples."""
    monkeypatch.setattr("workbench.widgets.scoring.SCORED_PART", 100)
    session = small_session()
    (data,) = session.evaluation
    session.evaluation = parts = Parts(data, 100)
    state = WorkbenchState(session)
    assert parts.begun.wait(PATIENCE)
    yield state, parts
    parts.go.set()
    idle(state).close()


def by_hand(session, count=None):
    inputs, targets = session.evaluation.data
    with torch.no_grad():
        return float((session.model(inputs).argmax(1) == targets)[:count].double().mean())


class TestScoreFollows:
    def test_the_spectra_are_there_and_the_score_so_far_is_shown_as_such(self, scored_in_parts):
        state, parts = scored_in_parts
        assert (state.measured, state.history[0]["score"]) == (True, None)
        assert state.ended["command"] == "measure"
        assert state.progress["command"] == "score"
        session = state.session
        part = {"score": by_hand(session, 100), "examples": 100, "revision": state.revision}
        assert state.scoring == part
        revision, told = state.revision, []
        state.observe(lambda change: told.append(change["new"].get("examples")), "scoring")
        parts.go.set()
        idle(state)
        assert told == [200, 300, None]
        assert state.history[0]["score"] == session.history[0].score == by_hand(session)
        assert state.revision == revision  # no choice that is shown is of another network now
        assert session.flip_counts(0) is None or state.history[0]["flips"] == session.flip_counts(0)

    def test_stopped_it_leaves_the_spectra_and_is_taken_up_again(self, scored_in_parts):
        state, parts = scored_in_parts
        message(state, "cancel")
        parts.go.set()
        idle(state)
        assert state.notice == "Stopped: what is measured stays, and the score is left open"
        assert (state.measured, state.history[0]["score"], state.scoring["examples"]) == (True, None, 100)
        idle(message(state, "score"))
        assert (state.history[0]["score"], state.scoring) == (by_hand(state.session), {})

    def test_a_step_of_a_plan_that_nobody_scored_is_scored_where_it_stands(self, state, session):
        session.commit_plan({"0": 13, "2": 11})
        session.goto(1)
        idle(state)
        assert state.history[1]["score"] is None
        idle(message(state, "score"))
        assert state.history[1]["score"] == session.evaluate()
        assert [step.score is None for step in session.history] == [False, False, False]


class Rows:
    """Cancels the state's work once `rows` rows have come."""

    def __init__(self, state, trait, rows):
        self.state, self.rows, self.seen = state, rows, []
        state.observe(self, trait)

    def __call__(self, change):
        value = change["new"]
        self.seen.append(len(value.get("rows", ())) or value.get("done"))
        if self.seen[-1] == self.rows:
            self.state.cancel()


class TestRowByRow:
    WAYS = {"selections": ["greedy", "magnitude-l1"], "reconstructions": ["none", "channel"]}  # noqa: RUF012

    def test_a_comparison_fills_and_what_is_there_stays_when_it_is_stopped(self, state, session):
        rows = Rows(state, "comparison", 3)
        idle(message(state, "compare", ways=self.WAYS, widths={"0": 13, "2": 11}))
        assert rows.seen == [1, 2, 3]
        assert (len(state.comparison["rows"]), state.comparison["total"]) == (3, 4)
        assert state.notice == "Stopped: 3 of 4 ways are compared, and kept"
        assert (state.error, state.ended["how"]) == ("", "cancelled")
        whole = session.compare({"0": 13, "2": 11}, *self.WAYS.values())
        shown = [(row["selection"], row["score"]) for row in state.comparison["rows"]]
        assert shown == [(row.selection, row.score) for row in whole.rows[:3]]
        assert len(state._comparison[0].rows) == 3  # which is what is saved

    def test_a_comparison_stopped_before_its_first_row_leaves_the_last_one(self, state, monkeypatch):
        idle(message(state, "compare", ways=self.WAYS, widths={"0": 13}))
        before = state.comparison

        def compare(*args, cancel, **options):
            state.cancel()
            check(cancel)

        monkeypatch.setattr(state.session, "compare", compare)
        idle(message(state, "compare", ways=self.WAYS, widths={"0": 9}))
        assert state.comparison == before
        assert state.notice == "Cancelled: comparing"

    def test_a_sweep_fills_by_groups_and_goes_on_where_it_was_stopped(self, state, session):
        options = {"theta": 0.3, "selection": "greedy", "reconstruction": "channel"}
        rows = Rows(state, "sweep", 2)
        idle(message(state, "sweep_groups", options=options))
        assert rows.seen[:2] == [1, 2]
        assert state.notice == "Stopped: 2 of 3 groups are swept, and kept"
        scores = state.sweep["scores"]
        assert all(None not in row for row in scores[:2])
        assert None in scores[2]
        rows.rows = None
        idle(message(state, "sweep_groups", options=options))
        assert (state.sweep["done"], state.sweep["scores"][:2]) == (3, scores[:2])
        names, shares = state.sweep["groups"], state.sweep["shares"]
        units = {name: session.group(name).width for name in names}
        assert state.sweep["widths"] == [[max(1, round(s * units[name])) for s in shares] for name in names]
