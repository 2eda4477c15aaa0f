"""What is opened or taken up and measures again says how far it is, and is cancelled whole."""

import threading

import pytest
import torch
from labelled import TARGETS, session_of
from networks import conv_net, images
from runs_kept import kept, only_run
from stored import equal, steps_of

from workbench.data.progress import Cancelled
from workbench.session import store
from workbench.session.runs import taken_up
from workbench.session.session import Session


@pytest.fixture(scope="module")
def made():
    session = session_of(procedure="sequential")
    for name, width in (("conv1", 5), ("conv2", 6), ("fc1", 7)):
        session.commit(session.preview(name, width=width))
    session.fork("thin")
    session.undo()
    session.commit(session.preview("fc1", width=4))
    return session


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    where = tmp_path_factory.mktemp("made")
    store.write(made.saved(), where)
    return where


def opened(where, **options):
    x = images(64)
    return Session.open(where, conv_net(), [(x, TARGETS)], [(x, TARGETS)], **options)


def taken(where, **options):
    return session_of(procedure="sequential").as_saved(store.read(where), **options)


@pytest.mark.parametrize("way", [opened, taken])
def test_each_pass_is_told_with_the_step_that_needs_it(folder, made, way):
    told = []
    other = way(folder, progress=lambda *one: told.append(one))
    measured = [what for _, _, what in told if what.startswith("step ") and "measuring moments" in what]
    assert [what.partition(":")[0] for what in measured] == ["step 2 of 3", "step 3 of 3"]
    assert all(0 <= done <= total for done, total, _ in told if total is not None)
    assert equal(steps_of(other), steps_of(made))


def test_a_run_tells_it_too(tmp_path, made):
    kept(made, tmp_path)
    told = []
    taken_up(only_run(tmp_path), session_of(), lambda *one: told.append(one[2]))
    assert any(what.startswith("step 2 of 3: measuring moments") for what in told)


@pytest.mark.parametrize("way", [opened, taken])
def test_it_is_cancelled_at_any_moment_and_whole_the_next_time(folder, made, way):
    moments = []
    way(folder, progress=lambda *one: moments.append(one))
    assert len(moments) >= 6
    for moment in range(len(moments)):
        cancel, count = threading.Event(), []

        def tell(*one, moment=moment, cancel=cancel, count=count):
            count.append(one)
            if len(count) == moment + 1:
                cancel.set()

        try:
            session = way(folder, progress=tell, cancel=cancel)
        except Cancelled:
            continue
        assert moment >= len(moments) - 2  # nothing more was to be done
        assert equal(steps_of(session), steps_of(made))


def test_who_cancels_keeps_the_session_that_was_there(folder):
    ground = session_of(procedure="sequential")
    before = {name: tensor.clone() for name, tensor in ground.model.state_dict().items()}
    moments = {name: one.moments[0].matrix.clone() for name, one in ground.original_statistics().items()}
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        ground.as_saved(store.read(folder), progress=lambda done, total, what: cancel.set(), cancel=cancel)
    assert (ground.position, list(ground.branches)) == (0, ["main"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in ground.model.state_dict().items())
    now = ground.original_statistics()
    assert all(torch.equal(now[name].moments[0].matrix, moment) for name, moment in moments.items())
    ground.commit(ground.preview("fc1", width=7))
