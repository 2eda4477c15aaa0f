"""The unit view in the kernel: what is kept, leverage and pictures follow the choice, if somebody looks."""

import numpy as np
from states import idle

from workbench.widgets.state import WorkbenchState


def numbers(data, kind):
    return np.frombuffer(data, dtype=kind)


def test_the_order_is_the_choices_and_nothing_else_is_made_while_nobody_looks(session):
    state = idle(WorkbenchState(session))
    name, width = state.selected, state.width
    choice = session.preview(name, width=width, lam=state.lam * session.spectrum(name).trace)
    assert tuple(numbers(state.unit_order, "<i4")) == choice.order
    assert set(numbers(state.unit_order, "<i4")[:width]) == set(choice.kept)
    assert state.unit_leverage == b""
    assert state.unit_pictures == {}


def test_leverage_and_pictures_come_when_somebody_looks_and_follow(session):
    state = idle(WorkbenchState(session))
    state.units_shown = 5
    idle(state)
    spectrum = session.spectrum(state.selected)
    expected = spectrum.leverage(state.lam * spectrum.trace).numpy()
    assert np.allclose(numbers(state.unit_leverage, "<f4"), expected, rtol=1e-6)
    assert len(state.unit_pictures["weights"]) == 5
    assert state.unit_pictures["group"] == state.selected
    other = session.groups[1].name
    state.selected = other
    idle(state)
    assert state.unit_pictures["group"] == other
    before = state.unit_pictures
    state.lam = state.lam / 10
    idle(state)
    assert state.unit_pictures is before  # λ moves no picture
    assert numbers(state.unit_leverage, "<f4").sum() > 0.999


def test_after_a_commit_they_are_of_the_smaller_network(session):
    state = idle(WorkbenchState(session))
    state.units_shown = 64
    idle(state)
    first = session.groups[0].name
    session.commit(session.preview(first, width=3))
    idle(state)
    assert len(state.unit_pictures["weights"]) == 3
    assert state.unit_pictures["revision"] == state.revision


def test_what_fails_is_said_and_ends_nothing(session, monkeypatch):
    state = idle(WorkbenchState(session))

    def fail(*_args, **_options):
        raise RuntimeError("no such layer")

    monkeypatch.setattr("workbench.widgets.units.pictures_of", fail)
    state.units_shown = 64
    idle(state)
    assert state.unit_pictures["why_not"] == "no such layer"
    assert state.error == ""
