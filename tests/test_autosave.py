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
from pathlib import Path

import pytest
import torch
from labelled import session_of, weights
from stored import equal, first, further, opened, steps_of, values

from workbench.data import blobs
from workbench.data.claims import in_use, is_open
from workbench.session import store
from workbench.session.autosave import (
    ABOUT,
    Autosave,
    autosave_of,
    run_in,
    runs,
    taken_up,
)
from workbench.session.kept_in import root_folder
from workbench.session.of_what import examples_of, key_of
from workbench.session.recipe import RecipeError

CHILD = """
import sys, time
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


def kept(session, root, **options):
    saves = Autosave(session, root, **options)
    saves.wait(20)
    return saves


def only_run(root):
    (run,) = runs(root)
    return run


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


def test_what_is_taken_up_replaces_where_it_came_from(tmp_path):
    session = further(first())
    before = kept(session, tmp_path)
    before.close()
    before._writer.shutdown()
    run = only_run(tmp_path)
    assert not run.open
    other = taken_up(run, session_of())
    after = kept(other, tmp_path, after=run)
    assert only_run(tmp_path).folder == after.folder != run.folder


def test_runs_that_are_over_go_where_they_have_no_steps_or_are_too_many(tmp_path):
    folders = []
    for number in range(6):
        session = session_of() if number == 1 else first()
        saves = kept(session, tmp_path)
        folders.append(saves.folder)
        saves.close()
        saves._writer.shutdown()
        renamed = saves.folder.with_name(f"2026010{number}-000000-{number:08x}")  # as on days of their own
        saves.folder.rename(renamed)
    left = kept(first(), tmp_path)
    names = sorted(folder.name[:8] for folder in left.folder.parent.iterdir())
    assert names == ["20260103", "20260104", "20260105", left.folder.name[:8]]


def test_a_run_that_somebody_works_on_stays(tmp_path):
    sessions = [first() for _ in range(5)]
    saves = [kept(session, tmp_path) for session in sessions]
    assert all(is_open(one.folder) for one in saves)
    assert len(runs(tmp_path)) == 5


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


def test_where_it_goes_and_how_it_is_switched_off(tmp_path, monkeypatch):
    monkeypatch.delenv("WORKBENCH_AUTOSAVE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert root_folder() == tmp_path / "state" / "spectral-pruning-workbench"
    assert root_folder(False) is None
    assert root_folder(tmp_path / "mine") == tmp_path / "mine"
    for word in ("off", "0", "No"):
        monkeypatch.setenv("WORKBENCH_AUTOSAVE", word)
        assert root_folder() is None
        assert root_folder(tmp_path) == tmp_path
    for word in ("on", "1", "True"):
        monkeypatch.setenv("WORKBENCH_AUTOSAVE", word)
        assert root_folder() == tmp_path / "state" / "spectral-pruning-workbench"
    monkeypatch.setenv("WORKBENCH_AUTOSAVE", str(tmp_path / "all"))
    assert root_folder() == tmp_path / "all"
    kept(first(), root_folder())
    assert (tmp_path / "all").stat().st_mode & 0o777 == 0o700


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


def over(root, session, day):
    """A run that is over, as if written on that day."""
    saves = kept(session, root)
    saves.close()
    saves._writer.shutdown()
    os.utime(saves.folder / "recipe.json", (day * 86400, day * 86400))
    return saves.folder


def test_a_few_short_runs_never_cost_a_long_one(tmp_path):
    long = over(tmp_path, further(first()), 1)
    short = [over(tmp_path, first(), day) for day in range(2, 7)]
    mine = kept(first(), tmp_path)
    there = set(mine.folder.parent.iterdir())
    assert there == {long, *short[-3:], mine.folder}


def test_what_was_planned_without_a_step_is_kept_and_offered(tmp_path):
    saves = Autosave(session_of(), tmp_path, screen={"widths": {"fc1": 7}})
    saves.wait(20)
    saves.close()
    saves._writer.shutdown()
    run = only_run(tmp_path)
    assert run.words(run.when) == f"{run.about.name}, widths planned, just now"
    kept(first(), tmp_path)
    assert run.folder.is_dir()


def test_a_run_that_somebody_went_on_with_is_not_replaced(tmp_path):
    folder = over(tmp_path, first(), 1)
    before = run_in(folder)
    os.utime(folder / "recipe.json", (2 * 86400, 2 * 86400))
    kept(taken_up(before, session_of()), tmp_path, after=before)
    assert folder.is_dir()


def test_a_folder_that_was_taken_away_is_made_again(tmp_path):
    session = first()
    saves = kept(session, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs")
    further(session)
    saves.wait(20)
    run = only_run(tmp_path / "runs")
    assert run.open
    assert equal(steps_of(taken_up(run, session_of())), steps_of(session))


def test_foreign_folders_with_names_like_ours_stay(tmp_path):
    saves = kept(first(), tmp_path)
    theirs = saves.folder.with_name("20200101-000000-0123abcd")
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("precious")
    os.utime(theirs, (0, 0))
    begun = saves.folder.with_name("20200102-000000-0123abcd")
    begun.mkdir()
    os.utime(begun, (0, 0))
    kept(first(), tmp_path)
    assert (theirs / "thesis.txt").read_text() == "precious"
    assert not begun.exists()


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


def test_a_fork_writes_nothing_into_the_run_and_leaves_it_open(tmp_path):
    session = first()
    saves = kept(session, tmp_path)
    before = (saves.folder / "recipe.json").read_bytes()
    child = os.fork()
    if not child:
        code = 1
        try:
            session.undo()
            saves.wait(20)
            saves._claim.release()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (saves.folder / "recipe.json").read_bytes() == before
    assert is_open(saves.folder)
    assert in_use(saves.folder) is None


def test_a_process_that_goes_elsewhere_writes_where_it_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    session = first()
    saves = kept(session, Path("runs"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    further(session)
    saves.wait(20)
    assert only_run(tmp_path / "runs").steps == 2
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_process_that_ends_writes_what_is_pending(tmp_path):
    code = CHILD.format(path=sys.path).partition("saves.wait()")[0]  # and nothing waits for it
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)
    run = only_run(tmp_path)
    assert (run.steps, run.branches, run.open) == (2, 2, False)
    assert equal(steps_of(taken_up(run, session_of())), steps_of(further(first())))


def test_a_folder_that_cannot_be_written_is_told_once_and_hinders_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    told, session = [], first()
    saves = kept(session, tmp_path / "file" / "runs", trouble=told.append)
    further(session)
    saves.wait(20)
    assert len(session.branches) == 2
    assert len(told) == 1
    assert str(tmp_path / "file") in told[0]


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
