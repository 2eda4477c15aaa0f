"""A session is saved while something runs; who listens to it and fails hides nothing."""

import threading

import pytest
import torch
from labelled import TARGETS, session_of, weights
from networks import conv_net, images
from stored import equal, first, opened, steps_of

from workbench.session.session import Session


class Hanging:
    """A loader that gives a batch and then waits until it is let go."""

    def __init__(self, data):
        self.data, self.began, self.go = data, threading.Event(), threading.Event()
        self.hangs = False

    def __iter__(self):
        yield self.data
        if self.hangs:
            self.began.set()
            assert self.go.wait(60)


RUNNING = {
    "measuring again": lambda session: session.remeasure(),
    "gradients": lambda session: session.measure_gradients(),
    "refitting": lambda session: session.refit(),
    "fine-tuning": lambda session: session.finetune(),
    "comparing": lambda session: session.compare([{"fc1": 9}], ["greedy"], ["none"]),
    "the score of a commit": lambda session: session.commit(session.preview("fc1", width=9)),
}


@pytest.mark.parametrize("what", RUNNING)
def test_saving_waits_for_nothing_that_runs(tmp_path, what):
    x = images(64)
    data, scored = Hanging((x, TARGETS)), Hanging((x, TARGETS))
    procedure = "sequential" if what == "measuring again" else "simultaneous"
    session = Session(conv_net(), data, scored, procedure=procedure)
    session.measure()
    session.commit(session.preview("conv2", width=6))
    hangs = scored if what in ("comparing", "the score of a commit") else data
    hangs.hangs = True
    runs = threading.Thread(target=RUNNING[what], args=(session,), daemon=True)
    runs.start()
    assert hangs.began.wait(60)
    session.save(tmp_path)  # would hang here
    hangs.hangs = False
    hangs.go.set()
    runs.join(60)
    assert not runs.is_alive()
    saved = opened(tmp_path)
    assert saved.position == 1
    assert torch.equal(weights(saved)["conv2.weight"], weights(first())["conv2.weight"])


def test_what_a_person_changed_by_hand_is_saved(tmp_path):
    session = first()
    with torch.no_grad():
        session.model.fc1.bias += 1
    session.save(tmp_path)
    assert equal(steps_of(opened(tmp_path)), steps_of(session))


def test_a_listener_that_fails_is_told_and_hides_nothing():
    session, heard = session_of(), []

    def fails(event):
        raise RuntimeError("of its own")

    session.subscribe(fails)
    session.subscribe(heard.append)
    with pytest.warns(RuntimeWarning, match="of its own"):
        step = session.commit(session.preview("conv2", width=6))
    assert heard == ["history"]
    assert session.position == 1
    assert step == session.history[1]


def test_another_session_on_the_same_network_opens_nothing_again(monkeypatch):
    session = first()
    monkeypatch.setattr(Session, "__init__", None)
    other = session.afresh("sequential")
    assert (other.position, other.procedure, session.position) == (0, "sequential", 1)
    assert other.measured
    other.commit(other.preview("fc1", width=9))
    assert "fc1" not in session.stale
    assert len(session.history) == 2
    with pytest.raises(ValueError, match="procedure must be"):
        session.afresh("other")
