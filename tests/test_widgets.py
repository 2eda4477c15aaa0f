"""The face without a browser: the shared state, its commands, and what the panels are given."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from workbench.measure import Cancelled
from workbench.session import Session
from workbench.widgets import Workbench, WorkbenchState
from workbench.widgets.app import AREAS, HERE
from workbench.widgets.budgets import target_of
from workbench.widgets.jobs import Reporter, Worker
from workbench.widgets.own import short_name
from workbench.widgets.saving import folder_for, unavailable_formats
from workbench.widgets.tunings import SETTINGS, tuning_of

PATIENCE = 20.0


def small_session(batches=None, **options) -> Session:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(11, 23),
        nn.ReLU(),
        nn.Linear(23, 17),
        nn.ReLU(),
        nn.Linear(17, 13),
        nn.ReLU(),
        nn.Linear(13, 3),
    )
    inputs = torch.randn(311, 11) @ torch.diag(torch.logspace(0, -2, 11))
    data = [(inputs, model(inputs).argmax(1).detach())]
    return Session(model, inputs if batches is None else batches(inputs), data, name="small", **options)


@pytest.fixture
def session() -> Session:
    session = small_session()
    session.measure()
    return session


@pytest.fixture
def state(session) -> WorkbenchState:
    return idle(WorkbenchState(session))


def idle(state: WorkbenchState) -> WorkbenchState:
    if not state.wait(PATIENCE):
        pytest.fail(f"still busy with {state.progress}")
    return state


def message(state: WorkbenchState, command: str, **rest) -> WorkbenchState:
    state._handle_custom_msg({"command": command, **rest}, [])
    return state


class TestWhatIsShown:
    def test_session_is_shown(self, state, session):
        assert (state.name, state.metric, state.procedure, state.measured) == (
            "small",
            "accuracy",
            "simultaneous",
            True,
        )
        assert [layer["name"] for layer in state.layers] == [group.name for group in session.groups]
        assert state.history[0]["parameters"] == session.parameters
        assert state.error == ""
        assert state.progress == {}

    def test_spectra_are_the_sessions(self, state, session):
        values = np.frombuffer(state.spectra)
        for layer in state.layers:
            mine = values[layer["offset"] : layer["offset"] + layer["count"]]
            if layer["prunable"]:
                np.testing.assert_array_equal(mine, session.spectrum(layer["name"]).eigenvalues.numpy())
            else:
                assert layer["count"] == 0
                assert layer["why_not"]

    def test_first_prunable_group_is_selected_and_previewed(self, state):
        assert state.selected == next(layer["name"] for layer in state.layers if layer["prunable"])
        assert state.preview["request"] == state.request()

    def test_preview_is_the_sessions(self, state, session):
        state.theta = 0.7
        state.selection = "magnitude-l1"
        idle(state)
        lam = state.lam * session.spectrum(state.selected).trace
        choice = session.preview(state.selected, state.width, lam, 0.7, "magnitude-l1")
        for name in ("input_loss", "output_loss", "predicted_error", "parameters_saved", "macs_saved"):
            assert state.preview[name] == getattr(choice, name)
        curve = np.frombuffer(state.curve).reshape(4, -1)
        np.testing.assert_array_equal(curve[3], choice.curve.combined.numpy())
        np.testing.assert_array_equal(curve[0], np.arange(curve.shape[1]))

    def test_unmeasured_session_is_measured_in_the_background(self):
        state = idle(WorkbenchState(small_session()))
        assert state.measured
        assert state.preview["request"]["group"] == state.selected

    def test_example_by_name(self):
        state = idle(Workbench("digits-cnn").state)
        assert (state.error, state.name, state.selected) == ("", "digits-cnn", "conv1")

    def test_change_from_another_cell_is_shown(self, state, session):
        session.commit(session.preview(state.selected, width=5))
        idle(state)
        assert state.position == 1
        assert next(x["width"] for x in state.layers if x["name"] == state.selected) == 5


class TestLinks:
    def test_width_follows_lam(self, state, session):
        spectrum = session.spectrum(state.selected)
        for lam in (1e-6, 1e-3, 0.1, 1.0):
            state.lam = lam
            freedom = spectrum.degrees_of_freedom(lam * spectrum.trace)
            assert state.width == min(max(int(np.ceil(freedom)), 1), spectrum.width)

    def test_lam_follows_width(self, state, session):
        spectrum = session.spectrum(state.selected)
        for width in (2, 5, 11):
            state.width = width
            assert state.width == width
            assert spectrum.degrees_of_freedom(state.lam * spectrum.trace) == pytest.approx(width, rel=1e-6)

    def test_free_when_off(self, state, session):
        state.follow = False
        lam = state.lam
        state.width = 3
        assert state.lam == lam
        state.lam = 0.5
        assert state.width == 3
        state.follow = True
        spectrum = session.spectrum(state.selected)
        assert state.width == np.ceil(spectrum.degrees_of_freedom(0.5 * spectrum.trace))

    def test_full_width_is_reached_although_n_of_lam_is_below(self, state, session):
        width = session.group(state.selected).width
        state.width = width
        assert state.width == width

    def test_values_out_of_range_are_brought_back(self, state, session):
        state.width = 10_000
        assert state.width == session.group(state.selected).width
        state.lam = -1.0
        assert state.lam == 1e-10

    def test_page_sends_both_at_once(self, state, session):
        spectrum = session.spectrum(state.selected)
        lam = spectrum.lam_for(7) / spectrum.trace
        state.set_state({"width": 7, "lam": lam})
        assert (state.width, state.lam) == (7, lam)

    def test_choosing_a_group_sets_its_width(self, state, session):
        name = session.groups[1].name
        state.choose(name)
        spectrum = session.spectrum(name)
        assert state.width == np.ceil(spectrum.degrees_of_freedom(state.lam * spectrum.trace))
        with pytest.raises(ValueError, match=re.escape(name)):
            state.choose("nowhere")


class TestPreviews:
    def test_latest_request_wins(self, state, session, monkeypatch):
        asked, gate, begun = [], threading.Event(), threading.Event()
        preview = session.preview

        def slow(name, **request):
            asked.append(request["theta"])
            begun.set()
            gate.wait(PATIENCE)
            return preview(name, **request)

        monkeypatch.setattr(session, "preview", slow)
        state.theta = 0.1
        assert begun.wait(PATIENCE)
        for theta in (0.2, 0.4, 0.6, 0.8):
            state.theta = theta
        gate.set()
        idle(state)
        assert asked == [0.1, 0.8]
        assert state.preview["request"]["theta"] == 0.8

    def test_error_is_told_beside_the_choice_and_goes(self, state, session, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(session, "preview", failing("conv2 has NaN in channel 5"))
            state.theta = 0.9
            idle(state)
        assert (state.error, state.error_at) == ("conv2 has NaN in channel 5", "choice")
        state.theta = 0.8
        idle(state)
        assert state.error == ""


def failing(words, kind=ValueError):
    def fail(*args, **options):
        raise kind(words)

    return fail


class TestCommands:
    def test_commit_undo_redo_reset(self, state, session):
        start = session.parameters
        message(state, "commit", request=state.request())
        idle(state)
        assert (state.position, state.can_undo, state.can_redo) == (1, True, False)
        assert state.history[1]["parameters"] < start
        idle(message(state, "undo"))
        assert (state.position, session.parameters, state.can_redo) == (0, start, True)
        idle(message(state, "redo"))
        assert state.position == 1
        idle(message(state, "reset"))
        assert state.position == 0
        idle(message(state, "goto", position=1))
        assert state.position == 1
        assert state.preview["request"] == state.request()

    def test_commit_is_of_what_was_shown(self, state, session):
        request = state.request()
        state.theta = 0.95
        idle(message(state, "commit", request=request))
        assert session.history[1].choice.theta == request["theta"]

    def test_choice_shown_before_another_commit_is_refused(self, state, session):
        request = state.request()
        state.commit(request)
        idle(state)
        idle(message(state, "commit", request=request))
        assert len(session.history) == 2
        assert "changed since" in state.error
        assert state.error_at == "choice"

    def test_same_position_of_another_network_is_another_request(self, state, session):
        first, second, third = (layer["name"] for layer in state.layers[:3])
        for name in (first, second):
            state.choose(name)
            idle(message(state, "commit", request=state.request()))
            state.choose(third)
            idle(state)
            lam = state.lam * session.spectrum(third).trace
            choice = session.preview(third, state.width, lam, state.theta)
            assert state.preview["request"] == state.request()
            assert state.preview["parameters_saved"] == choice.parameters_saved
            assert state.preview["macs_saved"] == choice.macs_saved
            idle(message(state, "undo"))

    def test_try_keeps_nothing(self, state, session):
        idle(message(state, "try_choice", request=state.request()))
        assert state.tried["request"] == state.request()
        assert state.tried["change"] == state.tried["score"] - session.history[0].score
        assert len(session.history) == 1

    def test_save_says_where(self, state, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        idle(message(state, "save", folder="", replace=False))
        assert (tmp_path / "small-pruned" / "recipe.json").is_file()
        assert str(tmp_path / "small-pruned") in state.notice

    @pytest.mark.parametrize("command", ["save", "export"])
    def test_files_are_replaced_only_when_that_is_said(self, state, tmp_path, command):
        rest = {"folder": str(tmp_path / "there"), "replace": False}
        rest |= {"formats": ["safetensors"]} if command == "export" else {}
        idle(message(state, command, **rest))
        assert (state.error, state.question, state.ended["how"]) == ("", {}, "done")
        before = (tmp_path / "there" / "recipe.json").stat().st_mtime_ns
        idle(message(state, command, **rest))
        assert state.question["command"] == command
        assert "recipe.json" in state.question["words"]
        assert (tmp_path / "there" / "recipe.json").stat().st_mtime_ns == before
        idle(message(state, command, **rest | {"replace": True}))
        assert (state.error, state.question) == ("", {})
        assert (tmp_path / "there" / "recipe.json").stat().st_mtime_ns > before

    def test_an_export_and_a_session_do_not_share_a_folder(self, state, tmp_path):
        idle(message(state, "save", folder=str(tmp_path), replace=False))
        idle(message(state, "export", folder=str(tmp_path), formats=[], replace=True))
        assert "saved session" in state.error
        assert state.error_at == "export"
        assert not (tmp_path / "architecture.json").exists()

    def test_export_goes_to_a_folder_of_the_models_name(self, state, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        idle(message(state, "export", folder=" ", formats=["safetensors"], replace=False))
        assert (tmp_path / "small-pruned" / "architecture.json").is_file()
        assert "model.safetensors" in state.notice

    def test_export_failures_are_told_in_its_card(self, state, session, tmp_path):
        (tmp_path / "file").write_text("here")
        idle(message(state, "export", folder=str(tmp_path / "file"), formats=[], replace=False))
        assert "is a file" in state.error
        assert (state.error_at, state.ended["how"]) == ("export", "failed")

    @pytest.mark.parametrize("kind", [ValueError, RuntimeError, OSError, KeyError])
    def test_errors_in_words(self, state, session, monkeypatch, kind):
        monkeypatch.setattr(session, "undo", failing("no room on the disk", kind))
        idle(message(state, "undo"))
        assert "no room on the disk" in state.error
        assert state.error_at == "header"
        assert state.progress == {}

    def test_unknown_example_leaves_the_session(self, state, session):
        idle(message(state, "load", name="digits-cnm"))
        assert "digits-cnn" in state.error
        assert state.session is session
        assert state.name == "small"

    @pytest.mark.parametrize(
        "content", [{"command": "__init__"}, {"command": "goto"}, {}, {"command": "wait"}]
    )
    def test_unknown_commands_are_refused(self, state, content):
        state._handle_custom_msg(content, [])
        assert "not known" in state.error

    def test_second_command_waits_for_no_one(self, state, session, monkeypatch):
        gate = threading.Event()
        monkeypatch.setattr(session, "redo", lambda: gate.wait(PATIENCE))
        message(state, "redo")
        message(state, "undo")
        assert "still running" in state.error
        gate.set()
        idle(state)


NETS = """
import torch
from torch import nn

def small():
    torch.manual_seed(3)
    first = nn.Sequential(nn.Conv2d(1, 13, 3), nn.BatchNorm2d(13), nn.ReLU())
    return nn.Sequential(first, nn.Flatten(), nn.Linear(13 * 36, 7))

def accuracy(model):
    return 0.75
"""


class TestOwnModel:
    @pytest.fixture
    def files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "nets.py").write_text(NETS)
        rng = np.random.default_rng(3)
        images = rng.integers(0, 256, (53, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / "images.npz", x=images, y=rng.integers(0, 7, 53))
        return tmp_path

    def test_form_becomes_a_measured_session(self, state, files):
        form = {
            "model": "nets.py:small",
            "calibration": " images.npz ",
            "calibration_limit": "17",
            "evaluation": "images.npz",
            "mean": "0.5",
            "std": "0.25",
        }
        idle(message(state, "load_own", form=form))
        assert (state.error, state.name, state.data_name) == ("", "nets.py:small", "images.npz")
        assert (state.measured, state.norms, state.metric) == (True, True, "accuracy")
        assert state.ended == {"command": "load_own", "how": "done", "count": state.ended["count"]}
        assert state.own == form
        inputs = state.session.calibration.inputs
        assert len(inputs) == 17
        assert (float(inputs.min()) >= -2.0, float(inputs.max()) <= 2.0) == (True, True)
        assert float(inputs.min()) < -1.9

    def test_a_function_of_the_model_is_the_score(self, state, files):
        form = {"model": "nets.py:small", "calibration": "images.npz", "evaluation": "nets.py:accuracy"}
        idle(message(state, "load_own", form=form))
        assert (state.error, state.history[0]["score"]) == ("", 0.75)

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"model": ""}, "Model: nothing is given"),
            ({"model": "nets.py:large"}, "Model: .*large"),
            ({"model": "nets.py:small", "pretrained": True}, "Model: .*torchvision"),
            ({"options": "{classes}"}, "Options: expected a JSON object"),
            ({"options": "[1]"}, "Options: expected a JSON object"),
            ({"checkpoint": "none.safetensors"}, "Checkpoint: there is no file none.safetensors"),
            ({"calibration": "nowhere.npz"}, "Calibration: there is no file"),
            ({"calibration_limit": "few"}, "Calibration, at most: expected a whole number"),
            ({"calibration_limit": "0"}, "Calibration: limit must be"),
            ({"evaluation": "nowhere.npz"}, "Evaluation: there is no file"),
            ({"size": "8x"}, "Size: expected 224"),
            ({"crop": "wide"}, "Crop: expected 224"),
            ({"mean": "grey"}, "Mean: expected a number"),
            ({"std": "0"}, "Calibration: .*std"),
        ],
    )
    def test_errors_name_the_field_and_leave_the_session(self, state, session, files, wrong, words):
        form = {"model": "nets.py:small", "calibration": "images.npz"} | wrong
        idle(message(state, "load_own", form=form))
        assert re.match(words, state.error), state.error
        assert (state.error_at, state.ended["how"], state.own) == ("load", "failed", {})
        assert (state.session, state.name) == (session, "small")

    def test_cancelling_leaves_the_session(self, state, session, files, monkeypatch):
        begun, gate = threading.Event(), threading.Event()

        def slow(*names, **options):
            begun.set()
            gate.wait(PATIENCE)
            return nn.Linear(3, 2)

        monkeypatch.setattr("workbench.widgets.own.load_model", slow)
        message(state, "load_own", form={"model": "nets.py:small", "calibration": "images.npz"})
        assert begun.wait(PATIENCE)
        message(state, "cancel")
        gate.set()
        idle(state)
        assert (state.session, state.ended["how"]) == (session, "cancelled")
        assert state.notice == "Cancelled: loading nets.py:small"

    @pytest.mark.parametrize(
        ("name", "short"),
        [
            ("path/to/nets.py:small", "nets.py:small"),
            ("package.module:make", "package.module:make"),
            ("torchvision:resnet18", "resnet18"),
            ("transformers:folder/of/bert", "bert"),
            ("data/images", "images"),
        ],
    )
    def test_names_are_short_and_make_folders(self, name, short):
        assert short_name(name) == short
        assert re.fullmatch(r"[\w.-]+-pruned", folder_for(short).name)


class TestReconstructions:
    def test_request_carries_mode_and_norms(self, state, session):
        state.reconstruction, state.reestimate = "kernel", True
        idle(state)
        assert state.preview["request"] == state.request()
        idle(message(state, "commit", request=state.request()))
        choice = session.history[1].choice
        assert (choice.reconstruction, choice.reestimate) == ("kernel", True)

    def test_a_network_without_norms_re_estimates_none(self, state, session):
        assert not state.norms
        state.reestimate = True
        state._take(session)
        assert not state.reestimate

    def test_heads_are_called_heads(self):
        layer = nn.TransformerEncoderLayer(12, 4, 17, batch_first=True, dropout=0.0)
        state = idle(WorkbenchState(Session(nn.Sequential(layer, nn.Linear(12, 3)), torch.randn(29, 5, 12))))
        units = {one["name"]: (one["unit"], one["rows"], one["width"]) for one in state.layers}
        assert units["0.self_attn.q_proj"] == ("heads", 3, 4)
        assert units["0.linear1"] == ("units", 1, 17)


class TestCancelAndProgress:
    def test_cancel_stops_measuring(self):
        class Slow:
            def __init__(self, inputs):
                self.inputs = inputs

            def __iter__(self):
                for index in range(1000):
                    if index:
                        time.sleep(0.02)
                    yield self.inputs

            def __len__(self):
                return 1000

        session = small_session(batches=Slow)
        state = WorkbenchState(session)
        seen = []
        state.observe(lambda change: seen.append(change["new"]), "progress")
        deadline = time.monotonic() + PATIENCE
        while not any(value.get("done") for value in seen) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert any(value.get("total") == 1000 for value in seen)
        message(state, "cancel")
        idle(state)
        assert not state.measured
        assert state.notice.startswith("Cancelled")
        assert (state.progress, state.error) == ({}, "")
        state.measure()
        message(state, "cancel")
        idle(state)
        assert state.notice.startswith("Cancelled")

    def test_progress_is_told_at_a_bearable_rate(self):
        told = []
        reporter = Reporter(told.append, "measuring")
        for done in range(10_001):
            reporter(done, 10_000, "measuring")
        assert told[-1]["done"] == 10_000
        assert len(told) < 200

    def test_worker_goes_on_after_each_job(self):
        worker, done = Worker("test"), []
        for index in range(5):
            worker.submit(lambda index=index: done.append(index))
        assert worker.wait(PATIENCE)
        assert done == [0, 1, 2, 3, 4]
        assert not worker.busy


class TestProcedures:
    def test_stale_groups_are_marked_and_measured_again(self):
        session = small_session(procedure="sequential")
        session.measure()
        state = idle(WorkbenchState(session))
        idle(message(state, "commit", request=state.request()))
        stale = [layer for layer in state.layers if layer["stale"]]
        assert stale
        assert stale[0]["stale"].startswith("measured before the commit to")
        state.choose(stale[0]["name"])
        idle(state)
        assert state.preview["request"]["group"] != state.selected
        idle(message(state, "remeasure"))
        assert not any(layer["stale"] for layer in state.layers)
        assert state.preview["request"] == state.request()

    def test_change_takes_the_moments_along(self, state, session):
        idle(message(state, "set_procedure", name="sequential"))
        assert (state.procedure, state.measured, state.error) == ("sequential", True, "")
        assert state.session is not session
        assert state.history[0]["score"] == session.history[0].score
        assert state.spectra == WorkbenchState(session).spectra

    def test_change_is_refused_once_something_is_committed(self, state):
        idle(message(state, "commit", request=state.request()))
        idle(message(state, "set_procedure", name="sequential"))
        assert state.procedure == "simultaneous"
        assert "committed" in state.error


def test_results_are_applied_on_the_event_loop(session):
    threads = set()

    async def main():
        state = WorkbenchState(session)
        state.observe(
            lambda change: threads.add(threading.current_thread()), ["preview", "progress", "history"]
        )
        while not state.preview:
            await asyncio.sleep(0.01)
        state.commit()
        while state.position == 0 or state.progress:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert threads == {threading.main_thread()}


def test_formats_that_lack_a_package_say_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else name)
    assert unavailable_formats()["onnx"].startswith("needs onnxscript: pip install")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert unavailable_formats() == {}


class TestWorkbench:
    def test_panels_share_one_state(self, session):
        workbench = Workbench(session)
        (grid,) = workbench.children
        for panel, kind in zip(grid.children, AREAS.values(), strict=True):
            assert isinstance(panel, kind)
        assert {panel.state for panel in grid.children} == {workbench.state}
        assert workbench.session is session
        assert "small" in repr(workbench)
        idle(workbench.state)

    def test_wrong_argument_is_named(self):
        with pytest.raises(TypeError, match="list"):
            Workbench([1])

    @pytest.mark.parametrize("panel", AREAS.values())
    def test_modules_are_joined_whole(self, panel):
        text = panel._esm
        assert text.count("export default") == 1
        assert not re.search(r"^\s*import ", text, re.M)
        names = re.findall(r"^(?:async )?(?:function|const|let) (\w+)", text, re.M)
        assert len(names) == len(set(names))

    def test_nothing_is_fetched_from_elsewhere(self):
        for file in [*HERE.glob("*.js"), *HERE.glob("*.css")]:
            addresses = re.findall(r"https?://[^\"')\s]+", file.read_text(encoding="utf-8"))
            assert set(addresses) <= {"http://www.w3.org/2000/svg"}


class TestSecondThoughts:
    def test_a_choice_gone_back_to_while_another_is_computed_is_answered(self, state):
        state.wait()
        first = state.lam
        state.lam = first / 2
        state.lam = first
        state.wait()
        assert state.preview["request"] == state.request()

    def test_after_a_reset_the_procedure_can_be_changed(self, state):
        state.commit()
        state.wait()
        state.reset()
        state.wait()
        state.set_procedure("sequential")
        state.wait()
        assert (state.procedure, state.error) == ("sequential", "")


def test_a_stopped_worker_ends_its_thread_and_takes_no_more():
    worker, done = Worker("test"), []
    worker.submit(lambda: done.append("first"))
    worker.wait()
    worker.stop()
    assert not worker._thread.is_alive()
    worker.submit(lambda: done.append("second"))
    assert not worker.busy
    assert done == ["first"]


def test_a_process_that_ends_during_a_job_ends_quietly():
    code = (
        "import time, torch; from workbench.widgets.jobs import Worker\n"
        "worker = Worker('test')\n"
        "worker.submit(lambda: [torch.rand(400, 400) @ torch.rand(400, 400) for _ in range(300)])\n"
        "time.sleep(0.05)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_second_enter_does_not_prune_again(state, session):
    state.lam = 1e-2
    state.wait()
    state.commit()
    state.wait()
    group = session.group(state.selected)
    assert group.width < session.original_width(state.selected)
    assert state.width == group.width


def test_whatever_reports_its_progress_can_be_cancelled():
    cancel = threading.Event()
    report = Reporter(lambda values: None, "loading", cancel)
    report(1, 2, "loading")
    cancel.set()
    with pytest.raises(Cancelled):
        report(2, 2, "loading")


def test_a_network_with_nothing_to_prune_is_measured_all_the_same():
    session = Session(nn.Sequential(nn.Linear(4, 2)), torch.randn(8, 4))
    state = idle(WorkbenchState(session))
    assert (state.measured, state.error) == (True, "")
    assert [layer["prunable"] for layer in state.layers] == [False]


class TestBudget:
    def test_terms_give_the_sessions_cost(self, state, session):
        budget = state.budget
        assert budget["names"] == [group.name for group in session.groups if group.prunable]
        assert (budget["parameters"], budget["macs"]) == (session.parameters, session.macs)
        assert len(budget["terms"]) == len(session.cost_model.terms)

    def test_losses_come_when_they_are_looked_at(self, state, session):
        assert state.losses_of == -1
        state.tab = "budget"
        idle(state)
        assert state.losses_of == state.revision
        expected = np.concatenate([group.losses for group in session.budget_groups()])
        np.testing.assert_array_equal(np.frombuffer(state.losses), expected)

    @pytest.mark.parametrize("rule", ["equal", "shared", "least"])
    def test_a_rule_gives_the_sessions_plan(self, state, session, rule):
        goal = {"target": "60 %", "unit": "macs", "minimum": "2", "multiple": "1"}
        idle(message(state, "plan", rule=rule, goal=goal, locks=["0"], widths={"0": 13}))
        plan = session.plan(0.6 * session.macs, "macs", rule, locks={"0": 13}, minimum=2)
        assert (state.error, state.widths) == ("", plan.widths)
        assert (state.planned["met"], state.planned["macs"]) == (plan.met, plan.macs)
        assert state.widths["0"] == 13

    @pytest.mark.parametrize(
        ("goal", "words"),
        [
            ({"target": ""}, "the target must be a number"),
            ({"target": "0"}, "the target must be a number"),
            ({"target": "1.2.3 M"}, "the target must be a number"),
            ({"target": "5 k", "unit": "ms"}, "in milliseconds"),
            ({"minimum": "none"}, "minimum width must be a whole number"),
            ({"multiple": 0}, "multiple must be a whole number"),
            ({"unit": "watts"}, "unit must be one of"),
        ],
    )
    def test_errors_stand_in_the_tab_and_move_nothing(self, state, goal, words):
        idle(message(state, "plan", rule="least", goal=goal, locks=[], widths={}))
        assert words in state.error
        assert (state.error_at, state.widths) == ("budget", {})

    @pytest.mark.parametrize(
        ("text", "unit", "share"), [("50 %", "macs", 0.5), ("2x", "parameters", 0.5), ("25%", "macs", 0.25)]
    )
    def test_shares_are_of_the_original(self, session, text, unit, share):
        whole = {"macs": session.macs, "parameters": session.parameters}[unit]
        session.commit(session.preview("0", width=7))
        assert target_of(session, text, unit) == pytest.approx(share * whole)

    @pytest.mark.parametrize(
        ("text", "number"), [("1.2 M", 1.2e6), ("1,300", 1300), ("7k", 7000), ("2G", 2e9)]
    )
    def test_targets_in_numbers(self, session, text, number):
        assert target_of(session, text, "macs") == pytest.approx(number)
        assert target_of(session, "12.5", "ms") == pytest.approx(0.0125)

    def test_plan_is_committed_and_undone_as_one(self, state, session):
        goal = {"target": "2x", "unit": "macs"}
        idle(message(state, "plan", rule="least", goal=goal, locks=[], widths={}))
        planned, wanted = state.planned["macs"], state.widths
        options = {"theta": 0.3, "selection": "greedy", "reconstruction": "none", "reestimate": False}
        idle(message(state, "commit_plan", widths=wanted, options=options, revision=state.revision))
        assert (state.error, session.macs) == ("", planned)
        assert session.history[-1].choice.reconstruction == "none"
        assert state.history[-1]["plan"].endswith("groups, least")
        assert state.widths == wanted == dict(zip(state.budget["names"], state.budget["widths"], strict=True))
        idle(message(state, "undo"))
        assert (state.position, state.widths) == (0, wanted)

    def test_widths_of_an_older_network_are_not_committed(self, state, session):
        revision = state.revision
        session.commit(session.preview("0", width=7))
        idle(state)
        idle(message(state, "commit_plan", widths={"2": 5}, options={}, revision=revision))
        assert "has changed" in state.error
        assert session.position == 1

    def test_nothing_to_commit_is_said(self, state):
        idle(message(state, "commit_plan", widths={"0": 23}, options={}, revision=state.revision))
        assert "nothing to commit" in state.error
        assert state.error_at == "budget"

    def test_another_session_starts_without_a_plan(self, state):
        state.widths, state.locks = {"0": 5}, ["0"]
        state._take(small_session())
        assert (state.widths, state.locks, state.planned) == ({}, [], {})


class TestBranches:
    def test_fork_switch_and_drop(self, state, session):
        idle(message(state, "fork", name=" narrow "))
        idle(message(state, "commit", request=state.request()))
        assert (state.branch, len(state.history)) == ("narrow", 2)
        idle(message(state, "switch", name="main"))
        assert (state.branch, len(state.history), session.position) == ("main", 1, 0)
        assert [(one["name"], len(one["steps"])) for one in state.branches] == [("main", 1), ("narrow", 2)]
        idle(message(state, "drop", name="narrow"))
        assert [one["name"] for one in state.branches] == ["main"]

    def test_a_name_in_use_is_refused_in_words(self, state):
        idle(message(state, "fork", name="main"))
        assert "in use" in state.error
        assert state.branch == "main"

    def test_steps_of_a_plan_carry_its_name(self, state, session):
        session.commit_plan({"0": 13, "2": 11})
        idle(state)
        assert [step["plan"] for step in state.history] == ["", *["plan 1: 2 groups"] * 2]
        assert state.history[1]["score"] is None


class TestComparisons:
    WAYS = {"selections": ["greedy", "magnitude-l1"], "reconstructions": ["none", "channel"]}  # noqa: RUF012

    def test_comparison_is_the_sessions_and_commits_nothing(self, state, session, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        widths = {"0": 13, "2": 11}
        idle(message(state, "compare", ways=self.WAYS, widths=widths))
        expected = session.compare(widths, *self.WAYS.values())
        assert [row["score"] for row in state.comparison["rows"]] == [row.score for row in expected.rows]
        assert (state.error, session.position) == ("", 0)
        assert state.comparison["budgets"] == [
            {"title": "the budget", "macs": session.cost_model.total(widths)[1]}
        ]
        assert state.comparison["revision"] == state.revision
        idle(message(state, "save_comparison"))
        idle(message(state, "save_comparison"))
        kinds = ("csv", "png", "svg")
        names = {f"{name}.{kind}" for name in ("comparison", "comparison-2") for kind in kinds}
        assert {file.name for file in tmp_path.iterdir()} == names
        assert "comparison-2.csv" in state.notice

    @pytest.mark.parametrize(
        ("ways", "widths", "words"),
        [
            (WAYS, {}, "keeps all units"),
            (WAYS | {"selections": []}, {"0": 5}, "at least one selection"),
            (WAYS | {"selections": ["taylor"]}, {"0": 5}, "targets"),
        ],
    )
    def test_errors_stand_in_the_tab(self, state, ways, widths, words):
        idle(message(state, "compare", ways=ways, widths=widths))
        assert words in state.error
        assert (state.error_at, state.comparison) == ("compare", {})

    def test_taylor_measures_what_it_needs(self):
        torch.manual_seed(3)
        data = (torch.randn(97, 11), torch.randint(0, 3, (97,)))
        session = small_session(batches=lambda inputs: data)
        session.measure()
        state = idle(WorkbenchState(session))
        assert (state.learns["targets"], state.learns["size"]) == (True, 97)
        ways = {"selections": ["taylor"], "reconstructions": ["channel"]}
        idle(message(state, "compare", ways=ways, widths={"0": 5}))
        assert (state.error, len(state.comparison["rows"])) == ("", 1)
        assert state.comparison["revision"] == state.revision

    def test_a_rule_finds_the_widths_of_several_budgets(self, state, session):
        ways = self.WAYS | {"at": "least", "theta": 0.7}
        idle(message(state, "compare", ways=ways, widths={}))
        assert state.error == ""
        plans = [session.plan(session.macs / ratio) for ratio in (1.5, 2, 3, 5)]
        assert [one["macs"] for one in state.comparison["budgets"]] == [plan.macs for plan in plans]
        expected = session.compare(plans, *self.WAYS.values(), theta=0.7)
        rows = state.comparison["rows"]
        assert [(row["budget"], row["score"], row["theta"]) for row in rows] == [
            (row.budget, row.score, 0.7) for row in expected.rows
        ]

    def test_locks_that_leave_nothing_to_compare_are_told(self, state):
        state.locks = ["0", "2"]
        idle(message(state, "compare", ways=self.WAYS | {"at": "equal"}, widths={}))
        assert ("smaller than the present one" in state.error, state.error_at) == (True, "compare")

    def test_sweep_has_a_row_a_group(self, state, session):
        options = {"theta": 0.3, "selection": "greedy", "reconstruction": "channel"}
        idle(message(state, "sweep_groups", options=options))
        found = session.sensitivity((0.75, 0.5, 0.25))
        assert (state.error, state.sweep["groups"]) == ("", list(found.groups))
        np.testing.assert_array_equal(state.sweep["scores"], found.scores)


class TestTunings:
    @pytest.fixture
    def labelled(self):
        torch.manual_seed(5)
        data = (torch.randn(97, 11), torch.randint(0, 3, (97,)))
        session = small_session(batches=lambda inputs: data)
        session.measure()
        return idle(WorkbenchState(session))

    def test_the_best_becomes_a_step(self, labelled):
        form = {"amount": "13", "unit": "steps", "rate": "0.001", "distill": "0.5"}
        idle(message(labelled, "finetune", tuning=form))
        assert (labelled.error, labelled.position, labelled.tuned["how"]) == ("", 1, "done")
        assert labelled.tuned["reports"][-1][:2] == [13, 13]
        assert labelled.session.history[1].tuning.distill == 0.5

    def test_what_it_learns_from_and_a_refit(self):
        torch.manual_seed(5)
        inputs = torch.randn(97, 11)
        session = small_session(training=(inputs[:31], torch.randint(0, 3, (31,))))
        session.measure()
        state = idle(WorkbenchState(session))
        assert state.learns == {"targets": True, "size": 31, "own": True, "batches": False, "images": False}
        form = {"amount": "1", "unit": "epochs", "batch": "8", "match": "0.5", "flips": True}  # of no images
        idle(message(state, "finetune", tuning=form))
        assert state.error == ""
        assert state.tuned["reports"][-1][:2] == [4, 4]
        idle(message(state, "refit"))
        assert ("nothing is pruned" in state.error, state.error_at) == (True, "tune")
        session.commit(session.preview("0", width=5))
        idle(message(state, "refit"))
        assert (state.error, session.history[-1].label) == ("", "refitted")

    def test_taylor_in_the_layer_and_the_budget_measures_its_gradients(self, labelled):
        labelled.selection = "taylor"
        idle(idle(labelled))  # the preview asks for a job, whose end asks for a preview
        assert (labelled.error, labelled.session.has_gradients) == ("", True)
        assert labelled.preview["request"]["selection"] == "taylor"
        options = {"selection": "taylor"}
        idle(message(labelled, "commit_plan", widths={"0": 5}, options=options, revision=None))
        assert (labelled.error, labelled.session.history[-1].choice.selection) == ("", "taylor")

    def test_taylor_without_labels_says_so_once(self, state, session):
        state.selection = "taylor"
        idle(idle(state))
        assert ("no targets" in state.error, state.error_at) == (True, "choice")
        assert not session.has_gradients

    def test_without_labels_only_distilling_goes(self, state, session):
        idle(message(state, "finetune", tuning={"amount": "3", "unit": "steps"}))
        assert ("no labels" in state.error, state.error_at) == (True, "tune")
        idle(message(state, "finetune", tuning={"amount": "3", "unit": "steps", "distill": "1"}))
        assert (state.error, session.position) == ("", 1)

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"amount": "few"}, "number of epochs must be a number"),
            ({"amount": "1.5", "unit": "steps"}, "number of steps must be a whole number"),
            ({"rate": ""}, "rate must be a number"),
            ({"rate": "-1"}, "rate must be a positive number"),
            ({"distill": "2"}, "distill is a share"),
            ({"amount": "inf"}, "epochs must be a positive number"),
            ({"unit": "weeks"}, "epochs or steps"),
        ],
    )
    def test_wrong_settings_are_said_in_the_tab(self, labelled, wrong, words):
        idle(message(labelled, "finetune", tuning=wrong))
        assert words in labelled.error
        assert (labelled.error_at, labelled.position) == ("tune", 0)

    def test_images_are_moved_by_whole_pixels(self):
        assert (tuning_of(SETTINGS).flips, tuning_of(SETTINGS).shifts) == (False, 0)
        with pytest.raises(ValueError, match="number of pixels must be a whole number, 0 or more; got '-1'"):
            tuning_of(SETTINGS | {"shifts": "-1"})

    def test_pause_means_nothing_where_nothing_runs(self, labelled):
        message(labelled, "pause_tuning")
        assert labelled.tuned == {}
        idle(message(labelled, "finetune", tuning={"amount": "2", "unit": "steps"}))
        message(labelled, "pause_tuning")
        assert labelled.tuned["how"] == "done"

    def test_a_malformed_message_is_an_error_in_words(self, labelled):
        idle(message(labelled, "finetune", tuning="fast"))
        assert (labelled.error != "", labelled.error_at) == (True, "tune")
        idle(message(labelled, "compare", ways="all", widths={}))
        assert labelled.error_at == "compare"
        assert labelled.session.position == 0

    @pytest.mark.parametrize("paused", [True, False])
    def test_cancel_keeps_the_best_even_in_a_pause(self, labelled, paused):
        form = {"amount": "100000", "unit": "steps", "rate": "0.001", "distill": "0"}
        message(labelled, "finetune", tuning=form)
        message(labelled, "pause_tuning")
        time.sleep(0.2)
        assert not labelled._jobs.wait(0.2)
        if not paused:
            message(labelled, "go_on_tuning")
        message(labelled, "cancel")
        idle(labelled)
        assert (labelled.tuned["how"], len(labelled.history), labelled.error) == ("stopped", 2, "")
        assert labelled.history[1]["score"] >= labelled.history[0]["score"]
