"""The face without a browser: the commands of the buttons."""

from __future__ import annotations

import threading

import pytest
from states import PATIENCE, failing, idle, message

from workbench.widgets.folders import unavailable_formats


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
        idle(message(state, "save", folder="", replace=False, take_over=False))
        assert (tmp_path / "small-pruned" / "recipe.json").is_file()
        assert str(tmp_path / "small-pruned") in state.notice

    @pytest.mark.parametrize("command", ["save", "export"])
    def test_files_are_replaced_only_when_that_is_said(self, state, tmp_path, command):
        rest = {"folder": str(tmp_path / "there"), "replace": False}
        rest |= {"formats": ["safetensors"]} if command == "export" else {"take_over": False}
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
        idle(message(state, "save", folder=str(tmp_path), replace=False, take_over=False))
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


def test_a_second_enter_does_not_prune_again(state, session):
    state.lam = 1e-2
    state.wait()
    state.commit()
    state.wait()
    group = session.group(state.selected)
    assert group.width < session.original_width(state.selected)
    assert state.width == group.width


def test_formats_that_lack_a_package_say_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else name)
    assert unavailable_formats()["onnx"].startswith("needs onnxscript: pip install")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert unavailable_formats() == {}
