"""A folder that another notebook has open: Save on the screen asks, and takes it over where that is said."""

import signal

import pytest
from another_notebook import Other
from labelled import session_of
from states import idle, message
from stored import equal, first, further, opened, steps_of

from workbench.data.durable import FolderInUseError, locked
from workbench.session import place
from workbench.session.session import Session
from workbench.widgets.state import WorkbenchState


@pytest.fixture(scope="module")
def other():
    one = Other()
    yield one
    if one.process.returncode is None:
        one.end()


@pytest.fixture
def shown():
    return idle(WorkbenchState(further(first()), autosave=False))


def save(state, folder, **rest):
    said = {"folder": str(folder), "replace": False, "take_over": False}
    return idle(message(state, "save", **said | rest))


def test_it_is_asked_about_once_and_taken_over(shown, tmp_path, other):
    folder = tmp_path / "both"
    assert other.does(f"session = first(); session.save({str(folder)!r})") == "done"
    before = (folder / "recipe.json").read_bytes()
    save(shown, folder)
    question = shown.question
    assert (shown.error, question["command"], question["take_over"]) == ("", "save", True)
    assert f"process {other.process.pid}" in question["words"]
    assert question["yes"] == "Take over"
    assert "take_over" not in question["words"]
    assert (folder / "recipe.json").read_bytes() == before
    save(shown, folder, replace=True)  # an answer to another question is none to this one
    assert shown.question["take_over"]
    assert (folder / "recipe.json").read_bytes() == before
    save(shown, folder, replace=True, take_over=True)
    assert (shown.error, shown.question) == ("", {})
    assert str(folder) in shown.notice
    assert equal(steps_of(opened(folder)), steps_of(further(first())))
    assert "was taken over by another notebook" in other.does(f"session.save({str(folder)!r})")


def test_one_opened_read_only_may_be_taken_over_later(tmp_path, other):
    assert other.does(f"session = first(); session.save({str(tmp_path)!r})") == "done"
    with pytest.warns(UserWarning, match="read-only"):
        session = opened(tmp_path)
    state = idle(WorkbenchState(session, autosave=False))
    save(state, tmp_path)
    assert state.question["take_over"]
    save(state, tmp_path, replace=True, take_over=True)
    assert state.error == ""
    assert not session.read_only
    assert "taken over" in other.does(f"session.save({str(tmp_path)!r})")


def test_one_that_was_taken_over_is_told_and_may_take_it_back(shown, tmp_path, other):
    save(shown, tmp_path)
    folder = repr(str(tmp_path))
    assert other.does(f"session = opened({folder}); session.save({folder}, take_over=True)") == "done"
    save(shown, tmp_path, replace=True)
    assert "was taken over by another notebook" in shown.question["words"]
    save(shown, tmp_path, replace=True, take_over=True)
    assert shown.error == ""
    assert "taken over" in other.does(f"session.save({str(tmp_path)!r})")


def test_one_who_comes_between_the_question_and_the_saving_is_asked_about(
    shown, tmp_path, other, monkeypatch
):
    stock, folder = Session.save, str(tmp_path)

    def late(session, *args, **options):
        assert other.does(f"session = first(); session.save({folder!r})") == "done"
        return stock(session, *args, **options)

    monkeypatch.setattr(Session, "save", late)
    save(shown, tmp_path)
    assert shown.question["take_over"]


def test_who_writes_at_this_moment_is_waited_for_not_taken_over(shown, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.data.durable.PATIENCE", 0.0)
    with locked(tmp_path):
        save(shown, tmp_path)
    assert shown.question == {}
    assert "is being written to" in shown.error
    with locked(tmp_path), pytest.raises(FolderInUseError):
        session_of().save(tmp_path, take_over=True)


def test_what_another_saved_there_and_left_is_asked_about_too(shown, tmp_path, other, monkeypatch):
    monkeypatch.setattr(place, "_written", set())
    save(shown, tmp_path)
    folder = repr(str(tmp_path))
    assert other.does(f"session = opened({folder})") == "done"
    assert other.does("session.commit(session.preview('fc1', width=3))") == "done"
    assert other.does(f"session.save({folder}, take_over=True)") == "done"
    other.end(signal.SIGKILL)
    save(shown, tmp_path, replace=True)
    assert "was saved by another notebook" in shown.question["words"]
    assert shown.question["take_over"]
