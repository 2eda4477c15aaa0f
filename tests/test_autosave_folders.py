"""The folders in which sessions keep themselves: which go, which stay, whose they are."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from labelled import session_of
from runs_kept import kept, only_run
from stored import equal, first, further, steps_of

from workbench.data.claims import in_use, is_open
from workbench.session.kept_in import root_folder
from workbench.session.runs import run_in, runs, taken_up


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


def tried(shares, seconds=2.0):
    """A session without a step in which each trial of a group alone took so long."""
    session = session_of()
    session.damage(shares)
    for measured in session._state.damages.values():
        for trials in measured.trials.values():
            trials.update({width: replace(one, seconds=seconds) for width, one in trials.items()})
    return session


def test_damage_that_took_long_is_work(tmp_path):
    quick = over(tmp_path, tried((0.5,), 0.1), 1)
    assert not runs(tmp_path)
    long = over(tmp_path, tried((0.25, 0.5, 0.75)), 2)
    assert not quick.exists()
    assert "measured in 18 seconds, no step yet" in str(run_in(long))
    over(tmp_path, tried((0.5,)), 3)
    assert long.is_dir()  # which has trials that the newer one lacks
    more = over(tmp_path, tried((0.25, 0.5, 0.75, 0.9)), 4)
    assert runs(tmp_path)[0].folder == more
    kept(first(), tmp_path)
    assert more.is_dir()
    assert not long.exists()


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


def test_a_folder_that_cannot_be_written_is_told_once_and_hinders_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    told, session = [], first()
    saves = kept(session, tmp_path / "file" / "runs", trouble=told.append)
    further(session)
    saves.wait(20)
    assert len(session.branches) == 2
    assert len(told) == 1
    assert str(tmp_path / "file") in told[0]


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
