"""What was there before is offered, taken up with what was beside it, and never mixed with what is there."""

import gc
import threading
import time

import msgspec
import pytest
import torch
from states import PATIENCE, failing, idle, message, small_session
from states_kept import committed, fresh, settled, shown, tensors

from workbench.data.durable import sealed, write_whole
from workbench.session import store
from workbench.session.runs import ABOUT, runs
from workbench.session.session import Session
from workbench.widgets.beside import brought_back
from workbench.widgets.recovery import LEFT


def test_it_is_offered_and_taken_up_with_what_was_set_beside_it(tmp_path):
    before = committed(shown(fresh(), tmp_path))
    before.widths = {"2": 5}
    before.theta = 0.7
    before.plan("equal", {"target": "60 %"})
    settled(before)
    wanted = dict(before.widths)
    time.sleep(1.2)  # PAUSE
    settled(before)
    made = tensors(before.session)
    before.close()
    state = shown(fresh(), tmp_path)
    (offer,) = state.offers
    assert offer["words"].startswith("small, 1 step, ")
    assert offer["lost"] == ""
    message(state, "take_up", run=offer["run"])
    settled(state)
    assert state.error == ""
    assert (state.position, state.theta, state.widths) == (1, 0.7, wanted)
    assert all(torch.equal(one, made[name]) for name, one in tensors(state.session).items())
    assert state.offers == []
    assert "Taken up" in state.notice
    (run,) = runs(tmp_path)  # what it came from is away
    assert run.folder == state._saves.folder


def test_what_ran_when_it_ended_is_said_to_be_lost(tmp_path):
    before = committed(shown(fresh(), tmp_path))
    go = threading.Event()
    before._start("commit", "committing 2", lambda progress, cancel: go.wait(PATIENCE))
    deadline = time.monotonic() + PATIENCE
    while not runs(tmp_path)[0].about.doing and time.monotonic() < deadline:
        time.sleep(0.02)
    state = shown(fresh(), tmp_path)
    assert state.offers[0]["lost"] == "committing 2"
    message(state, "take_up", run=state.offers[0]["run"])
    settled(state)
    assert "lost: committing 2" in state.notice
    go.set()
    settled(before)
    assert runs(tmp_path)[0].about.doing == ""


def test_nothing_is_offered_without_steps_or_of_another_model(tmp_path):
    shown(fresh(), tmp_path)
    assert shown(fresh(), tmp_path).offers == []
    committed(shown(fresh(), tmp_path))
    other = Session(
        torch.nn.Sequential(torch.nn.Linear(5, 9), torch.nn.ReLU(), torch.nn.Linear(9, 2)), torch.randn(31, 5)
    )
    other.measure()
    assert shown(other, tmp_path).offers == []


def test_switched_off_nothing_is_kept_and_nothing_offered(tmp_path):
    committed(shown(fresh(), tmp_path))
    there = sorted(tmp_path.rglob("*"))
    state = shown(fresh(), False)
    state.choose("0")
    state.commit()
    idle(state)
    assert state.offers == []
    assert state.kept == ""
    assert sorted(tmp_path.rglob("*")) == there


def test_another_model_leaves_the_steps_one_click_away(tmp_path, monkeypatch):
    state = committed(shown(fresh(), tmp_path))
    made, session = tensors(state.session), state.session
    monkeypatch.setattr(Session, "example", classmethod(lambda cls, name, **options: fresh()))
    message(state, "load", name="digits-cnn")
    settled(state)
    assert state.session is not session
    words = "small, 1 step, left for another session"
    assert state.offers[0] == {"run": LEFT, "words": words, "lost": "", "held": "", "measured": False}
    assert len(state.offers) == 1  # not again as a run
    message(state, "take_up", run=LEFT)
    settled(state)
    assert state.session is session
    assert all(torch.equal(one, made[name]) for name, one in tensors(state.session).items())
    assert state.offers == []
    state.undo()
    settled(state)
    assert state.position == 0


@pytest.mark.parametrize("where", ["offer", "folder"])
def test_what_cannot_be_brought_back_says_so_and_changes_nothing(tmp_path, where):
    before = committed(shown(fresh(), tmp_path / "runs"))
    before.session.save(tmp_path / "saved")
    before.close()
    state = shown(fresh(), tmp_path / "runs")
    session = state.session
    folder = tmp_path / "saved" if where == "folder" else runs(tmp_path / "runs")[0].folder
    blob = next((folder / "tensors").iterdir())
    blob.write_bytes(b"damaged")
    if where == "folder":
        message(state, "open_saved", folder=str(folder), take_over=False, read_only=False)
    else:
        message(state, "take_up", run=state.offers[0]["run"])
    settled(state)
    assert blob.name in state.error
    assert state.session is session
    assert state.position == 0


def test_a_saved_session_is_opened_in_place_of_the_present_one(tmp_path):
    before = committed(shown(fresh(), tmp_path / "runs"))
    before.session.save(tmp_path / "saved")
    made = tensors(before.session)
    state = committed(shown(fresh(), tmp_path / "runs"), "2", 3)
    message(state, "open_saved", folder=str(tmp_path / "saved"), take_over=False, read_only=False)
    settled(state)
    assert state.error == ""
    assert all(torch.equal(one, made[name]) for name, one in tensors(state.session).items())
    assert state.offers[0]["words"] == "small, 1 step, left for another session"


def test_one_of_another_model_says_what_to_load(tmp_path):
    other = Session(
        torch.nn.Sequential(torch.nn.Linear(5, 9), torch.nn.ReLU(), torch.nn.Linear(9, 2)),
        torch.randn(31, 5),
        name="else",
        data_name="rows",
    )
    other.measure()
    other.save(tmp_path)
    state = shown(fresh(), False)
    message(state, "open_saved", folder=str(tmp_path), take_over=False, read_only=False)
    idle(state)
    assert "session of else on rows: load these first" in state.error
    assert state.error_at == "export"


def test_a_disk_that_is_full_is_said_and_the_work_goes_on(tmp_path, monkeypatch):
    state = shown(fresh(), tmp_path)
    state._saves.wait(PATIENCE)
    with monkeypatch.context() as patch:
        patch.setattr("workbench.session.store.write_whole", failing("No space left on device", OSError))
        committed(state)
        assert "No space left" in state.kept
    assert state.position == 1
    committed(state, "2", 5)
    assert state.kept == ""


def test_saving_works_beside_a_job_that_hangs(tmp_path):
    state = shown(fresh(), False)
    go = threading.Event()
    state._start("commit", "waiting", lambda progress, cancel: go.wait(PATIENCE))
    message(state, "save", folder=str(tmp_path / "saved"), replace=False, take_over=False)
    assert state._aside.wait(PATIENCE)
    assert state.progress["what"] == "waiting"  # still there, and said to be
    assert (tmp_path / "saved" / "recipe.json").is_file()
    assert state.ended["command"] == "save"
    go.set()
    idle(state)


def test_views_that_are_closed_let_go_of_threads_listeners_and_runs(tmp_path):
    session = fresh()
    before = threading.active_count()
    for _ in range(20):
        state = shown(session, tmp_path)
        state.close()
    assert session._listeners == []
    del state
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > before and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
    assert threading.active_count() <= before


def test_threads_of_views_that_stay_end_by_themselves(monkeypatch):
    monkeypatch.setattr("workbench.widgets.jobs.IDLE_SECONDS", 0.05)
    session = fresh()
    before = threading.active_count()
    states = [shown(session, False) for _ in range(20)]
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before
    state = states[7]
    state.choose("0")
    state.commit()
    idle(state)
    assert all(one.position == 1 for one in map(idle, states))


def test_what_was_planned_or_undone_is_offered_too(tmp_path):
    before = shown(fresh(), tmp_path)
    before.widths = {"2": 5}
    settled(before).close()
    before = committed(shown(fresh(), tmp_path))
    before.reset()
    settled(before).close()
    state = shown(fresh(), tmp_path)
    words = [offer["words"] for offer in state.offers]
    assert words[0].startswith("small, 1 step, 1 of them undone, ")
    assert words[1].startswith("small, widths planned, ")
    message(state, "take_up", run=state.offers[0]["run"])
    settled(state)
    assert (state.position, state.can_redo) == (0, True)
    state.redo()
    settled(state)
    assert state.position == 1


def test_what_fits_the_model_is_offered_before_others(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.widgets.state.way_of", lambda session: {"example": session.name})
    committed(shown(fresh(), tmp_path)).close()
    for name in "abcd":
        other = Session(
            torch.nn.Sequential(torch.nn.Linear(5, 9), torch.nn.ReLU(), torch.nn.Linear(9, 2)),
            torch.randn(31, 5),
            name=name,
            data_name=name,
        )
        other.measure()
        state = shown(other, tmp_path)
        committed(state, width=3).close()
    words = [offer["words"].partition(",")[0] for offer in shown(fresh(), tmp_path).offers]
    assert words[0] == "small"
    assert len(words) == 3


@pytest.mark.parametrize("kept", [True, False])
def test_all_that_only_this_memory_has_stays_one_click_away(tmp_path, monkeypatch, kept):
    state = shown(fresh(), tmp_path if kept else False)
    first = state.session
    monkeypatch.setattr(Session, "example", classmethod(lambda cls, name, **options: fresh()))
    for width in (9, 8):  # another model by mistake, twice
        state.choose("0")
        state.width = width
        idle(state)
        state.commit()
        idle(state)
        message(state, "load", name="digits-cnn")
        idle(state)
    message(state, "put_off")
    message(state, "load", name="digits-cnn")
    idle(state)
    left = [offer["run"] for offer in state.offers if offer["run"].startswith(LEFT)]
    # A session that was given from Python does not come back from the disk by itself.
    assert left == ([LEFT] if kept else [LEFT, f"{LEFT}1"])
    message(state, "take_up", run=left[-1])
    idle(state)
    assert state.session is first
    assert state.position == 1


def test_what_was_left_is_kept_as_before_and_taken_back_without_writing_it_anew(tmp_path, monkeypatch):
    state = committed(shown(fresh(), tmp_path))
    saves = state._saves
    monkeypatch.setattr(Session, "example", classmethod(lambda cls, name, **options: fresh()))
    message(state, "load", name="digits-cnn")
    settled(state)
    assert not saves.closed
    message(state, "take_up", run=LEFT)
    settled(state)
    assert state._saves is saves
    assert len(runs(tmp_path)) == 1
    state.close()
    assert saves.closed


def test_views_on_one_session_keep_it_once_and_the_last_ends_it(tmp_path):
    session = fresh()
    states = [shown(session, tmp_path) for _ in range(5)]
    committed(states[3])
    states[3].widths = {"2": 5}
    states[1].theta = 0.7
    settled(states[0])
    for state in states[1:]:
        state.close()
    states[0]._saves.wait(PATIENCE)
    (run,) = runs(tmp_path)
    assert (run.steps, run.open) == (1, True)
    states[0].close()
    assert session._listeners == []


HOSTILE = [
    {
        "widths": 3,
        "found": [],
        "selected": ["0"],
        "theta": "high",
        "lam": -1.0,
        "goal": 1,
        "ways": [],
    },
    {
        "widths": {"2": -1, "none": 4},
        "selection": "none such",
        "reconstruction": 7,
        "width": 0,
        "locks": [[]],
    },
    {"found": {"comparison": [1], "sweep": {"rows": 3}}, "at": "elsewhere", "by": "99.0"},
    {"goal": {"target": 1}, "ways": {"selections": 0}, "theta": 7, "budget_lam": -1, "follow": 2},
    {"widths": {"2": 10**9, "0": 2}, "selected": "gone", "width": 2},
]


@pytest.mark.parametrize("screen", HOSTILE)
def test_a_screen_of_another_version_or_a_strangers_brings_back_what_fits(tmp_path, screen):
    committed(shown(fresh(), tmp_path)).close()
    (run,) = runs(tmp_path)
    write_whole(
        run.folder / ABOUT,
        sealed(msgspec.to_builtins(msgspec.structs.replace(run.about, screen=screen))),
    )
    state = shown(fresh(), tmp_path)
    before = {name: getattr(state, name) for name in ("theta", "selection", "goal", "ways", "locks")}
    message(state, "take_up", run=state.offers[0]["run"])
    settled(state)
    assert state.error == ""
    assert state.position == 1
    assert {name: getattr(state, name) for name in before} == before
    assert state.comparison == state.sweep == {}
    present = {layer["name"]: layer["width"] for layer in state.layers}
    assert all(1 <= width <= present[name] for name, width in state.widths.items())
    assert 1 <= state.width <= present[state.selected]


def test_what_was_compared_is_shown_again_on_that_network_alone(tmp_path):
    state = committed(shown(fresh(), tmp_path))
    state.compare({"selections": ["greedy"], "reconstructions": ["none"]}, {"2": 5})
    settled(state)
    assert state.comparison["revision"] == state.revision
    screen, session = state._screen(state.session), state.session
    again = session.as_saved(saved_of(session, tmp_path / "same"))
    assert brought_back(screen, again, 7)["comparison"] == {**state.comparison, "revision": 7}
    session.undo()
    session.commit(session.preview("0", width=9, theta=0.0))  # as many units, but others
    assert "comparison" not in brought_back(screen, session, 8)


def saved_of(session, folder):
    store.write(session.saved(), folder)
    return store.read(folder)


def test_what_is_saved_is_what_was_there_when_it_was_asked_for(tmp_path, monkeypatch):
    state = shown(fresh(), False)
    state.choose("0")
    state.commit()
    idle(state)
    made, go = state.session, threading.Event()
    state._aside.submit(lambda: go.wait(PATIENCE))  # an earlier one, on a slow disk
    message(state, "save", folder=str(tmp_path), replace=False, take_over=False)
    monkeypatch.setattr(Session, "example", classmethod(lambda cls, name, **options: fresh()))
    message(state, "load", name="digits-cnn")
    assert state._jobs.wait(PATIENCE)
    go.set()
    idle(state)
    assert state.session is not made
    assert len(store.read(tmp_path).branches[0].steps) == 1


def test_what_was_measured_on_other_examples_says_so(tmp_path):
    committed(shown(fresh(), tmp_path)).close()
    session = small_session(batches=lambda inputs: inputs.flip(0))  # as from a loader that shuffles
    session.measure()
    state = shown(session, tmp_path)
    assert ", on other examples" in state.offers[0]["words"]
    message(state, "take_up", run=state.offers[0]["run"])
    settled(state)
    assert "measured on other examples" in state.notice
