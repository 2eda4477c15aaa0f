"""A session that keeps itself: written after each change, taken up again to the bit, never mixed."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest
import torch
from labelled import session_of, weights
from runs_kept import kept, only_run
from stored import equal, first, further, opened, steps_of, values

from workbench.data import blobs
from workbench.session import store
from workbench.session.autosave import Autosave, autosave_of
from workbench.session.of_what import examples_of, key_of
from workbench.session.recipe import RecipeError
from workbench.session.runs import ABOUT, run_in, runs, taken_up

CHILD = """
import sys, time, torch
torch.set_num_threads(1)
sys.path[:0] = {path!r}
from pathlib import Path
from stored import first, further
from workbench.session.autosave import Autosave
session = first()
saves = Autosave(session, Path(sys.argv[1]))
further(session)
saves.wait()
saves.doing("committing fc1")
saves.wait()
print(saves.folder, flush=True)
time.sleep(600)
"""


def test_each_change_is_written_and_taken_up_to_the_bit(tmp_path):
    session = session_of()
    saves = kept(session, tmp_path)
    session.commit(session.preview("conv2", width=6))
    saves.wait(20)
    assert only_run(tmp_path).steps == 1
    further(session)
    saves.wait(20)
    run = only_run(tmp_path)
    assert (run.steps, run.branches, run.open) == (2, 2, True)
    assert run.words(run.when + 190) == f"{session.name}, 2 steps, 2 branches, 3 minutes ago"
    other = taken_up(run, session_of())
    assert equal(steps_of(other), steps_of(session))
    assert other.original_statistics().keys() == session.original_statistics().keys()
    assert [step.score for step in other.history] == [step.score for step in session.history]


@pytest.mark.parametrize("change", ["undo", "redo", "reset", "fork", "switch", "drop", "refit", "finetune"])
def test_no_change_is_left_out(tmp_path, change):
    session = further(first())
    if change == "redo":
        session.undo()
    saves = kept(session, tmp_path)
    before = values(saves.folder)
    given = {"fork": ["again"], "switch": ["thin"], "drop": ["thin"]}.get(change, [])
    getattr(session, change)(*given)
    saves.wait(20)
    after = values(saves.folder)
    assert after != before
    store.write(session.saved(undone=True), tmp_path / "whole")
    assert values(tmp_path / "whole") == after
    taken = taken_up(run_in(saves.folder), session_of())
    assert (taken.branch, taken.position) == (session.branch, session.position)
    assert [len(steps) for steps in taken.branches.values()] == [
        len(session.branches[name]) for name in taken.branches
    ]
    assert equal(steps_of(taken), steps_of(session))


def test_a_process_that_is_killed_leaves_all_but_what_it_was_doing(tmp_path):
    code = CHILD.format(path=sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            folder = child.stdout.readline().strip()
            assert only_run(tmp_path).open
        finally:
            child.send_signal(signal.SIGKILL)
    run = only_run(tmp_path)
    assert str(run.folder) == folder
    assert not run.open
    assert run.about.doing == "committing fc1"
    assert equal(steps_of(taken_up(run, session_of())), steps_of(further(first())))


def test_another_model_or_other_data_is_another_key_and_never_mixed(tmp_path):
    session = first()
    run = run_in(kept(session, tmp_path).folder)
    assert run.about.key == key_of(session) == key_of(session_of())
    assert run.about.examples == examples_of(session)
    others = [session_of() for _ in range(2)]
    with torch.no_grad():
        others[0]._history.original.model.fc1.weight += 1
    others[0]._fingerprint = ""
    others[1].data_name = "others"
    for other, words in zip(others, ["another network", "measured on"], strict=True):
        assert key_of(other) != run.about.key
        with pytest.raises(RecipeError, match=words):
            taken_up(run, other)
        assert other.position == 0


def test_a_session_that_does_not_fit_leaves_the_present_one(tmp_path):
    saves = kept(further(first()), tmp_path)
    saved = store.read(saves.folder)
    saved.branches[0].recipe["steps"][0]["of"] = 99
    saved.branches[0].__dict__.pop("steps", None)
    present = session_of()
    with pytest.raises(RecipeError, match="cannot be opened"):
        present.as_saved(saved)
    assert present.position == 0
    assert list(present.branches) == ["main"]


def test_damage_is_passed_over_in_the_list_and_told_where_it_is_taken_up(tmp_path):
    saves = kept(first(), tmp_path)
    run = only_run(tmp_path)
    blob = next((saves.folder / "tensors").iterdir())
    blob.write_bytes(b"damaged")
    with pytest.raises(RecipeError, match=blob.name):
        taken_up(run, session_of())
    for name in (ABOUT, "recipe.json"):
        whole = (saves.folder / name).read_bytes()
        (saves.folder / name).write_bytes(whole[:-9])
        assert runs(tmp_path) == []
        (saves.folder / name).write_bytes(whole)
    os.symlink(saves.folder, saves.folder.with_name("20260101-000000-00000000"))
    assert len(runs(tmp_path)) == 1


def test_a_full_disk_is_told_and_the_next_change_tried_again(tmp_path, monkeypatch):
    told = []
    session = first()
    saves = kept(session, tmp_path, trouble=told.append)

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_whole", full)
        session.undo()
        saves.wait(20)
    assert "No space left" in told[-1]
    assert only_run(tmp_path).steps == 1  # as it was
    session.redo()
    saves.wait(20)
    assert told[-1] == ""


def test_what_the_screen_has_is_kept_with_it(tmp_path):
    saves = kept(first(), tmp_path)
    saves.keep({"widths": {"fc1": 7}})
    deadline = time.monotonic() + 20
    while not only_run(tmp_path).about.screen and time.monotonic() < deadline:
        time.sleep(0.05)
    assert only_run(tmp_path).about.screen == {"widths": {"fc1": 7}}


def test_nothing_is_written_or_read_of_a_large_tensor_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(blobs, "ALONE", 1)  # all are large
    session = further(first())
    saves = kept(session, tmp_path)
    there = {path.name for path in (saves.folder / "tensors").iterdir()}
    put, stock = [], blobs.Blobs._put
    monkeypatch.setattr(blobs.Blobs, "_put", lambda self, one: put.append(one) or stock(self, one))
    session.fork("again")
    saves.wait(20)
    assert {path.name for path in (saves.folder / "tensors").iterdir()} == there
    moments = {id(one) for found in session.original_statistics().values() for one in found.state().values()}
    assert moments
    assert not moments & {id(one) for tensors in put for one in tensors.values()}


def writers():
    return {one for one in threading.enumerate() if "autosave" in one.name}


def test_it_keeps_neither_the_session_nor_a_thread(tmp_path):
    before = writers()
    session = first()
    saves = kept(session, tmp_path)
    found = weakref.ref(session), weakref.ref(saves)
    assert writers() - before
    del session, saves
    gc.collect()
    assert [one() for one in found] == [None, None]
    deadline = time.monotonic() + 20
    while writers() - before and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
    assert not writers() - before
    assert not only_run(tmp_path).open


def test_a_copy_of_a_run_is_a_session_like_any_other(tmp_path):
    session = further(first())
    saves = kept(session, tmp_path / "runs")
    shutil.copytree(saves.folder, tmp_path / "copy")
    other = session_of().as_saved(store.read(tmp_path / "copy"))
    assert equal({"a": weights(other)}, {"a": weights(session)})


@pytest.mark.parametrize("procedure", ["simultaneous", "sequential"])
def test_steps_that_were_undone_come_back_with_redo(tmp_path, procedure):
    session = session_of(procedure=procedure)
    session.commit(session.preview("conv2", width=6))
    session.fork("thin")
    session.commit(session.preview("fc1", width=7))
    session.undo()
    session.switch("main")
    session.commit(session.preview("fc1", width=9))
    saves = kept(session, tmp_path)
    session.reset()  # to look at the original, when the kernel dies
    saves.wait(20)
    run = only_run(tmp_path)
    assert (run.steps, run.undone, run.branches) == (2, 2, 2)
    assert "2 steps, 2 of them undone, 2 branches" in run.words(run.when)
    other = taken_up(run, session_of())
    assert (other.branch, other.position, other.can_redo) == ("main", 0, True)
    assert equal(steps_of(other), steps_of(session))
    session.goto(1)
    session.save(tmp_path / "by hand")  # where they are not written
    assert len(opened(tmp_path / "by hand").history) == 2


def test_undone_steps_of_a_network_whose_weights_are_saved_whole(tmp_path):
    session = further(first())
    session._saves_weights = True
    saves = kept(session, tmp_path)
    session.undo()
    saves.wait(20)
    ground = session_of()
    ground._saves_weights = True
    other = taken_up(only_run(tmp_path), ground)
    assert other.position == session.position == 1
    assert equal(steps_of(other), steps_of(session))


def test_what_was_planned_without_a_step_is_kept_and_offered(tmp_path):
    saves = Autosave(session_of(), tmp_path, screen={"widths": {"fc1": 7}})
    saves.wait(20)
    saves.close()
    saves._writer.shutdown()
    run = only_run(tmp_path)
    assert run.words(run.when) == f"{run.about.name}, widths planned, just now"
    kept(first(), tmp_path)
    assert run.folder.is_dir()


def test_all_who_show_a_session_keep_it_once(tmp_path):
    session, told = first(), []
    found = [autosave_of(session, tmp_path, {}, told.append)]
    others = [lambda words, number=number: told.append(number) for number in range(19)]
    found += [autosave_of(session, tmp_path, {}, one) for one in others]
    assert len(set(map(id, found))) == 1
    found[0].keep({"widths": {"fc1": 7}}, 1)
    found[1].keep({"widths": {}}, 2)  # another view, in which nothing is planned
    for one in others:
        found[0].close(one)
    further(session)
    found[0].wait(20)
    assert only_run(tmp_path).steps == 2
    assert only_run(tmp_path).about.screen == {"widths": {"fc1": 7}}
    found[0].close(told.append)
    assert session._listeners == []
    assert found[0].closed


def test_what_the_screen_had_last_is_written_when_it_closes(tmp_path):
    saves = kept(first(), tmp_path)
    saves.keep({"widths": {"fc1": 7}})
    saves.close()
    saves._writer.shutdown()
    assert only_run(tmp_path).about.screen == {"widths": {"fc1": 7}}


def test_a_process_that_ends_writes_what_is_pending(tmp_path):
    code = CHILD.format(path=sys.path).partition("saves.wait()")[0]  # and nothing waits for it
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)
    run = only_run(tmp_path)
    assert (run.steps, run.branches, run.open) == (2, 2, False)
    assert equal(steps_of(taken_up(run, session_of())), steps_of(further(first())))


def test_what_keeps_a_session_does_not_hold_it(tmp_path):
    session = first()
    saves = autosave_of(session, tmp_path, {}, lambda words: None)
    saves.wait(20)
    found = weakref.ref(session), weakref.ref(saves)
    del session, saves
    gc.collect()
    assert [one() for one in found] == [None, None]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_a_screen_that_cannot_be_read_again_does_not_cost_the_run(tmp_path, value):
    saves = Autosave(first(), tmp_path, screen={"widths": {"fc1": value}})
    saves.wait(20)
    assert only_run(tmp_path).about.screen == {}
    assert only_run(tmp_path).steps == 1
