"""Earlier sessions that are offered can be thrown away: whole, for good, never one that is open."""

import shutil

import pytest
from another_notebook import Other
from states import PATIENCE, message
from states_kept import committed, fresh, settled, shown

from workbench.data.claims import claim
from workbench.data.durable import FolderInUseError
from workbench.session import runs as runs_module
from workbench.session.autosave import autosave_of
from workbench.session.runs import clear, discard, run_in, runs
from workbench.session.session import Session
from workbench.widgets.recovery import LEFT, OFFERED


def left_behind(root, *widths):
    """Runs of sessions that have ended, the newest last, and each with fewer steps than those before it:
    none is over because of newer ones."""
    for steps, width in zip(range(len(widths), 0, -1), widths, strict=True):
        state = shown(fresh(), root)
        for more in range(steps - 1, -1, -1):
            committed(state, width=width + more)
        saves = state._saves
        state.close()
        saves.wait(PATIENCE)


def test_the_one_that_is_meant_goes_and_the_next_is_offered(tmp_path):
    left_behind(tmp_path, 9, 8, 7, 6)
    there = {run.folder for run in runs(tmp_path)}
    assert len(there) == OFFERED + 1
    state = shown(fresh(), tmp_path)
    asked = [offer["run"] for offer in state.offers]
    message(state, "discard", run=asked[1])
    settled(state)
    assert state.error == ""
    assert {folder.name for folder in there - {run.folder for run in runs(tmp_path)}} == {asked[1]}
    assert not any(folder.exists() for folder in there if folder.name == asked[1])
    now = [offer["run"] for offer in state.offers]
    assert now[:2] == [asked[0], asked[2]]
    assert len(now) == OFFERED  # one more came into its place
    assert "Thrown away: small, 2 steps" in state.notice
    while state.offers:
        message(state, "discard", run=state.offers[0]["run"])
        settled(state)
    assert runs(tmp_path) == []
    assert not state.session.position


def test_what_is_not_offered_is_not_thrown_away(tmp_path):
    left_behind(tmp_path, 9)
    state = shown(fresh(), tmp_path)
    for run in ("", "../..", LEFT, "20260101-000000-00000000"):
        message(state, "discard", run=run)
        settled(state)
        assert "is offered" in state.error
    assert len(runs(tmp_path)) == 1


def test_what_another_has_open_stays_and_says_so(tmp_path):
    writes = committed(shown(fresh(), tmp_path))
    state = shown(fresh(), tmp_path)
    (offer,) = state.offers
    assert offer["held"]
    message(state, "discard", run=offer["run"])
    settled(state)
    assert "open" in state.error
    assert writes._saves.folder.is_dir()
    committed(writes, "2", 3)
    assert run_in(writes._saves.folder).steps == 2


def test_what_another_process_has_open_stays_whoever_asks(tmp_path):
    left_behind(tmp_path, 9)
    (run,) = runs(tmp_path)
    other = Other()
    try:
        assert other.does("from pathlib import Path; from workbench.data.claims import claim") == "done"
        assert other.does(f"mine = claim(Path({str(run.folder)!r}))") == "done"
        before = sorted(run.folder.rglob("*"))
        with pytest.raises(FolderInUseError, match=f"process {other.process.pid}"):
            discard(run)
        assert sorted(run.folder.rglob("*")) == before
    finally:
        other.end()
    discard(run)
    assert not run.folder.exists()


def test_one_that_was_left_for_another_session_goes_with_what_was_kept_of_it(tmp_path, monkeypatch):
    state = committed(shown(fresh(), tmp_path))
    folder = state._saves.folder
    monkeypatch.setattr(Session, "example", classmethod(lambda cls, name, **options: fresh()))
    message(state, "load", name="digits-cnn")
    settled(state)
    assert [offer["run"] for offer in state.offers] == [LEFT]
    message(state, "discard", run=LEFT)
    settled(state)
    assert state.error == ""
    assert state.offers == []
    assert not folder.exists()


def test_one_that_was_left_and_is_shown_elsewhere_stays_on_the_disk(tmp_path, monkeypatch):
    state = committed(shown(fresh(), tmp_path))
    second = shown(state.session, tmp_path)
    folder = state._saves.folder
    monkeypatch.setattr(Session, "example", classmethod(lambda cls, name, **options: fresh()))
    message(state, "load", name="digits-cnn")
    settled(state)
    message(state, "discard", run=LEFT)
    settled(state)
    assert run_in(folder).steps == 1
    assert autosave_of(second.session, tmp_path, {}, lambda words: None) is second._saves
    committed(second, "2", 3)
    assert run_in(folder).steps == 2


def test_a_disk_without_locks_keeps_what_may_be_open(tmp_path, monkeypatch):
    left_behind(tmp_path, 9)
    (run,) = runs(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(runs_module, "claim", lambda folder: None)
        with pytest.raises(FolderInUseError, match="cannot be seen"):
            discard(run)
        assert len(runs(tmp_path)) == 1
        patch.setattr(runs_module, "DAY", 0.0)
        discard(run)
    assert not run.folder.exists()


def test_one_whose_removal_was_cut_short_is_offered_no_more_and_goes_later(tmp_path, monkeypatch):
    left_behind(tmp_path, 9)
    (run,) = runs(tmp_path)

    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            discard(run)
    assert runs(tmp_path) == []
    monkeypatch.setattr(runs_module, "HOUR", 0.0)
    clear(run.folder.parent, tmp_path, None, True)
    assert not run.folder.exists()
    assert claim(tmp_path) is not None
