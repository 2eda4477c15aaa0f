"""What took long to measure is offered before anything is committed, where it spares measuring it again."""

import dataclasses
import threading

import msgspec
import pytest
import torch
from states import PATIENCE, idle, message, small_session
from states_kept import committed, fresh, settled, shown
from torch import nn

from workbench.session import runs as runs_module
from workbench.session.runs import run_in, runs
from workbench.session.session import Session
from workbench.widgets.state import WorkbenchState


@pytest.fixture
def long(monkeypatch):
    """As if every measurement had taken long."""
    monkeypatch.setattr(runs_module, "LONG_MEASURED", 0.0)


class Slow:
    """Measuring that waits for `go`."""

    def __init__(self, measure):
        self.begun, self.go, self.measure = threading.Event(), threading.Event(), measure

    def __call__(self, *args, **options):
        self.begun.set()
        assert self.go.wait(PATIENCE)
        self.measure(*args, **options)


def left_measured(root):
    state = shown(fresh(), root)
    saves = state._saves
    saves.wait(PATIENCE)
    state.close()
    saves.wait(PATIENCE)
    return saves.folder


def measuring(root):
    """A state whose session is being measured, and what that waits for."""
    session = small_session()
    session.measure = slow = Slow(session.measure)
    state = WorkbenchState(session, autosave=root)
    assert slow.begun.wait(PATIENCE)
    assert state._looks.wait(PATIENCE)
    return state, slow


def test_the_run_says_how_long_it_was_measured(tmp_path, long):
    run = run_in(left_measured(tmp_path))
    session = fresh()
    assert run.about.measuring > 0
    assert session.history[0].seconds > 0
    for seconds, said in ((7.4, "7 seconds"), (75.0, "1 minute"), (7500.0, "2 hours")):
        about = msgspec.structs.replace(run.about, measuring=seconds)
        words = dataclasses.replace(run, about=about).words(run.when)
        assert words == f"small, measured in {said}, no step yet, just now"


def test_it_is_offered_while_the_same_is_measured_and_spares_the_rest_of_it(tmp_path, long):
    folder = left_measured(tmp_path)
    state, slow = measuring(tmp_path)
    (offer,) = state.offers
    assert offer["run"] == folder.name
    assert "no step yet" in offer["words"]
    threading.Timer(0.2, slow.go.set).start()  # the batch that runs is let end
    message(state, "take_up", run=offer["run"])
    settled(state)
    assert state.error == ""
    assert state.measured
    assert state.offers == []
    assert "Taken up" in state.notice
    there = fresh().original_statistics()
    for name, one in state.session.original_statistics().items():
        assert torch.equal(one.moments[0].matrix, there[name].moments[0].matrix)
    state.close()
    again, slow = measuring(tmp_path)  # and once more: how long it took is not forgotten
    assert [one["run"] for one in again.offers] != [offer["run"]]
    assert len(again.offers) == 1
    slow.go.set()
    idle(again)


def test_once_it_is_measured_it_is_offered_no_more(tmp_path, long):
    left_measured(tmp_path)
    state, slow = measuring(tmp_path)
    assert len(state.offers) == 1
    slow.go.set()
    idle(state)
    assert state.measured
    assert state.offers == []
    assert shown(fresh(), tmp_path).offers == []


def test_what_is_measured_quickly_is_not_offered(tmp_path):
    left_measured(tmp_path)
    state, slow = measuring(tmp_path)
    assert state.offers == []
    slow.go.set()
    idle(state)


def test_steps_are_taken_up_while_it_is_measured_too(tmp_path):
    committed(shown(fresh(), tmp_path)).close()
    state, slow = measuring(tmp_path)
    threading.Timer(0.2, slow.go.set).start()
    message(state, "take_up", run=state.offers[0]["run"])
    settled(state)
    assert (state.error, state.position) == ("", 1)


def test_nothing_else_that_runs_is_cancelled_by_it(tmp_path):
    committed(shown(fresh(), tmp_path)).close()
    state = shown(fresh(), tmp_path)
    go = threading.Event()
    state._start("commit", "committing 2", lambda progress, cancel: go.wait(PATIENCE))
    message(state, "take_up", run=state.offers[0]["run"])
    assert "still running" in state.error
    assert not any(cancel.is_set() for cancel in state._cancels)
    go.set()
    settled(state)
    assert state.position == 0


def test_of_another_model_only_what_a_form_brings_back(tmp_path, long, monkeypatch):
    for name, how in (("shipped", {"example": "digits-cnn"}), ("own", {"form": {"model": "own.py"}})):
        model = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 2))
        other = Session(model, torch.randn(31, 5), name=name, data_name=name)
        other.measure()
        with monkeypatch.context() as patch:
            patch.setattr("workbench.widgets.state.way_of", lambda session, how=how: how)
            state = shown(other, tmp_path)
            state._saves.wait(PATIENCE)
            state.close()
    (offer,) = shown(fresh(), tmp_path).offers
    assert offer["words"].startswith("own, measured in ")


def test_of_those_that_are_only_measured_the_newest_is_kept(tmp_path, long):
    folders = [left_measured(tmp_path) for _ in range(3)]
    there = {run.folder for run in runs(tmp_path)}
    assert there == set(folders[1:])  # the last, and the one before it, which the next would take away
    state, slow = measuring(tmp_path)
    assert len(state.offers) == 1
    slow.go.set()
    committed(idle(state)).close()
    assert len(runs(tmp_path)) == 2
