"""The theory tab's half in the kernel: what it answers, when, and that an old answer is not shown."""

from __future__ import annotations

import threading

import pytest
from states import idle, small_session

from workbench.session.session import Session
from workbench.widgets.state import WorkbenchState


def test_nothing_is_measured_until_the_tab_is_looked_at(state):
    state.lam = 1e-2
    assert idle(state).theory == {}
    state.tab = "theory"
    idle(state)
    assert state.theory["request"]["lam"] == 1e-2
    assert len(state.network_theory["layers"]) == 3
    assert state.stretch["groups"] == ("0", "2", "4")
    assert state.loss_sweep["group"] == "0"


def test_answers_are_the_sessions_own(state, session):
    state.tab = "theory"
    state.selected = "2"
    state.lam = 1e-2
    idle(state)
    trace = session.spectrum("2").trace
    found = session.theory("2", lam=1e-2 * trace)
    shown = state.theory
    assert shown["width"] == found.width
    for name in ("local_bound", "local_measured", "propagated_bound", "output_change", "output_error"):
        assert shown[name] == pytest.approx(getattr(found, name), rel=1e-9)
    assert shown["largest_loss"] == pytest.approx(found.largest_loss / trace, rel=1e-9)
    assert shown["examples"] == 311
    whole = session.network_theory(1e-2)
    assert state.network_theory["propagated_bound"] == pytest.approx(whole.propagated_bound, rel=1e-9)
    ratios = [one.largest_loss / one.read_out_bound for one in whole.layers]
    assert [row["ratio"] for row in state.network_theory["layers"]] == pytest.approx(ratios, rel=1e-9)


def test_only_the_latest_request_is_answered(state, monkeypatch):
    """The first one is cancelled while it runs; those between are never begun."""
    asked, began, go_on = [], threading.Event(), threading.Event()
    theory = Session.theory

    def slow(self, name, lam=None, width=None, **options):
        asked.append(round(lam / self.spectrum(name).trace, 6))
        if len(asked) == 1:
            began.set()
            assert go_on.wait(20)
        return theory(self, name, lam, width, **options)

    monkeypatch.setattr(Session, "theory", slow)
    state.lam = 1e-1
    state.tab = "theory"
    assert began.wait(20)
    for lam in (1e-2, 3e-3, 1e-3):
        state.lam = lam
    go_on.set()
    idle(state)
    assert asked == [1e-1, 1e-3]
    assert state.theory["request"]["lam"] == state.network_theory["request"]["lam"] == 1e-3


def test_after_a_commit_the_network_as_committed_is_told(state, session):
    state.tab = "theory"
    state.theory_of = "committed"
    idle(state)
    assert state.network_theory["none"]
    session.commit(session.preview("2", width=5))
    idle(state)
    assert [row["group"] for row in state.network_theory["layers"]] == ["2"]
    assert state.stretch["revision"] == state.revision
    session.undo()
    idle(state)
    assert state.network_theory["none"]


def test_stale_moments_are_not_used(monkeypatch):
    session = small_session(procedure="sequential")
    session.measure()
    state = idle(WorkbenchState(session))
    session.commit(session.preview("0", width=9))
    idle(state)
    state.selected = "2"
    state.tab = "theory"
    idle(state)
    assert session.stale
    assert state.theory == {}
    session.remeasure()
    idle(state)
    assert state.theory["request"]["group"] == "2"


def test_an_error_is_said_on_the_tab(state, monkeypatch):
    def failing(*args, **options):
        raise ValueError("no such number")

    monkeypatch.setattr(Session, "network_theory", failing)
    state.tab = "theory"
    idle(state)
    assert (state.error, state.error_at) == ("no such number", "theory")
