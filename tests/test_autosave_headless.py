"""A session without widgets keeps itself as one with them, where that is asked for, and is taken up alike."""

import copy
import gc
import os
import subprocess
import sys
import warnings
import weakref

import pytest
from labelled import session_of
from runs_kept import only_run
from stored import equal, first, further, steps_of

import workbench as wb
from workbench.session import store
from workbench.session.kept_in import SWITCH
from workbench.session.runs import runs
from workbench.session.session import GIVEN, Session
from workbench.widgets.state import WorkbenchState

CHILD = """
import os, signal, sys, torch
torch.set_num_threads(1)
sys.path[:0] = {path!r}
from stored import first, further
import workbench as wb
session = first()
saves = wb.autosave(session, sys.argv[1])
further(session)
if sys.argv[2] == "killed":
    saves.wait()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(SWITCH, str(tmp_path / "state"))
    return tmp_path / "state"


def test_nothing_is_kept_unless_it_is_asked_for(state_folder):
    further(first())
    assert not state_folder.exists()


@pytest.mark.parametrize("how", ["killed", "at its end"])
def test_a_program_that_ends_is_taken_up_to_the_bit(tmp_path, how):
    code = CHILD.format(path=sys.path)
    subprocess.run([sys.executable, "-c", code, str(tmp_path), how], check=how != "killed", timeout=120)
    session = session_of()
    (run,) = wb.earlier_runs(session, tmp_path)
    assert str(run).startswith(f"{session.name}, 2 steps, 2 branches, ")
    assert not run.open
    taken = wb.taken_up(run, session)
    assert equal(steps_of(taken), steps_of(further(first())))
    saves = wb.autosave(taken, tmp_path, after=run)
    saves.wait(20)
    assert [one.folder for one in runs(tmp_path)] == [saves.folder]  # in the place of what it came from
    assert wb.earlier_runs(taken, tmp_path) == []  # its own is no earlier one


def test_the_session_keeps_what_keeps_it_and_both_go_together(tmp_path):
    session = first()
    wb.autosave(session, tmp_path)
    gc.collect()
    session.commit(session.preview("fc1", width=7))
    found = weakref.ref(session)
    other = session.afresh()
    assert copy.copy(other)._listeners == []
    wb.autosave(session, tmp_path).wait(20)
    assert only_run(tmp_path).steps == 2
    del session
    gc.collect()
    assert found() is None
    assert not only_run(tmp_path).open


def test_the_default_place_is_the_widgets_and_the_switch_counts(state_folder, monkeypatch):
    session = first()
    wb.autosave(session).wait(20)
    assert [run.folder.parent.parent for run in runs(state_folder)] == [state_folder]
    assert len(wb.earlier_runs(session_of())) == 1
    monkeypatch.setenv(SWITCH, "off")
    assert wb.autosave(first()) is None
    assert wb.earlier_runs(session_of()) == []
    assert wb.autosave(first(), False) is None


def test_a_view_of_it_keeps_it_once_and_goes_before_it(tmp_path):
    session = first()
    saves = wb.autosave(session, tmp_path)
    saves.wait(20)
    state = WorkbenchState(session, autosave=tmp_path)
    assert state.wait(20)
    assert state._saves is saves
    state.close()
    further(session)
    saves.wait(20)
    assert only_run(tmp_path).steps == 2
    saves.close()
    assert session._listeners == []


def test_the_screen_offers_what_a_program_left(tmp_path):
    saves = wb.autosave(further(first()), tmp_path)
    saves.wait(20)
    state = WorkbenchState(session_of(), autosave=tmp_path)
    assert state.wait(20)
    assert [offer["words"].partition(", just")[0] for offer in state.offers] == [
        f"{state.session.name}, 2 steps, 2 branches"
    ]
    state.close()


def test_an_example_says_how_it_comes_back(tmp_path):
    for data_name, how in (("digits", {"example": "digits-cnn"}), (GIVEN, {}), ("", {})):
        session = first()
        session.example_name, session.data_name = "digits-cnn", data_name
        saves = wb.autosave(session, tmp_path / (data_name or "none"))
        saves.wait(20)
        assert only_run(tmp_path / (data_name or "none")).about.how == how


def test_a_disk_that_is_full_warns_and_the_work_goes_on(tmp_path, monkeypatch):
    session = first()
    saves = wb.autosave(session, tmp_path)
    saves.wait(20)

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        patch.setattr(store, "write_whole", full)
        session.commit(session.preview("fc1", width=7))
        saves.wait(20)
    assert [one.category for one in told] == [RuntimeWarning]
    assert "not kept by itself" in str(told[0].message)
    assert "No space left" in str(told[0].message)
    assert session.position == 2
    session.undo()
    saves.wait(20)
    assert only_run(tmp_path).steps == 2


def test_what_is_no_session_is_told(tmp_path):
    with pytest.raises(TypeError, match="Session"):
        wb.autosave(first().model, tmp_path)
    with pytest.raises(TypeError, match="Session"):
        wb.earlier_runs("digits-cnn", tmp_path)
    assert isinstance(first(), Session)
    assert os.listdir(tmp_path) == []
