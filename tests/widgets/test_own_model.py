"""The face without a browser: a model and data of one's own, from the form."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
import torch
from padded_tokens import MASKED
from states import PATIENCE, idle, message
from torch import nn

from workbench.data.models import load_model
from workbench.widgets.folders import folder_for
from workbench.widgets.load_form import short_name

NETS = """
import torch
from torch import nn

def small():
    torch.manual_seed(3)
    first = nn.Sequential(nn.Conv2d(1, 13, 3), nn.BatchNorm2d(13), nn.ReLU())
    return nn.Sequential(first, nn.Flatten(), nn.Linear(13 * 36, 7))

def accuracy(model):
    return 0.75

class Square(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.body = nn.Sequential(nn.Linear(4, 11), nn.ReLU(), nn.Linear(11, 25))

    def forward(self, x):
        return self.body(x).unflatten(1, (5, 5))
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

    @pytest.mark.parametrize(
        ("data", "mask", "count"),
        [("padded", "", 12), ("padded", "none", 24), ("named", "", 24), ("named", "real", 12)],
    )
    def test_the_mask_is_what_the_form_says(self, data, mask, count, state, files):
        (files / "masked_net.py").write_text(MASKED)
        form = {"model": "masked_net.py:Net", "calibration": f"masked_net.py:{data}", "mask": mask}
        idle(message(state, "load_own", form=form))
        assert state.error == ""
        assert state.session.moment("up").count == count

    def test_a_mask_that_is_not_there_is_said_of_its_field(self, state, files):
        (files / "masked_net.py").write_text(MASKED)
        form = {"model": "masked_net.py:Net", "calibration": "masked_net.py:padded", "mask": "padding"}
        idle(message(state, "load_own", form=form))
        assert state.error.startswith("Padding mask: ")
        assert "it has tokens, attention_mask" in state.error
        assert "mask=" not in state.error
        assert state.error_at == "load"

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
            ({"metric": "F1"}, "Score: expected one of accuracy, token accuracy.*got 'F1'"),
            ({"classes": "first"}, "Classes on: expected one of last, second; got 'first'"),
            (
                {"evaluation": "images.npz", "metric": "token accuracy"},
                "Score: .*“Score: token accuracy”, but .* give “Score: accuracy”$",
            ),
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

        monkeypatch.setattr("workbench.widgets.load_form.load_model", slow)
        message(state, "load_own", form={"model": "nets.py:small", "calibration": "images.npz"})
        assert begun.wait(PATIENCE)
        message(state, "cancel")
        gate.set()
        idle(state)
        assert (state.session, state.ended["how"]) == (session, "cancelled")
        assert state.notice == "Cancelled: loading nets.py:small"

    @pytest.fixture
    def square(self, files):
        """A form of the network whose classes may lie on either axis, with answers along the last."""
        x = np.random.default_rng(3).normal(size=(29, 4)).astype("f4")
        model = load_model("nets.py:Square")
        np.savez(files / "tokens.npz", x=x, y=model(torch.from_numpy(x)).argmax(2).numpy())
        return {"model": "nets.py:Square", "calibration": "tokens.npz", "evaluation": "tokens.npz"}

    def test_what_cannot_be_told_is_asked_for_by_the_field_s_name(self, state, session, square):
        idle(message(state, "load_own", form=square))
        assert re.match(r"Classes on: .*\(n, classes, length\) or as \(n, length, classes\)", state.error)
        assert state.error.endswith("with “Classes on: second axis” or “Classes on: last axis”")
        assert (state.error_at, state.session) == ("load", session)
        for classes, right in (("last", True), ("second", False)):
            idle(message(state, "load_own", form=square | {"classes": classes}))
            assert (state.error, state.metric, state.own["classes"]) == ("", "token accuracy", classes)
            assert (state.history[0]["score"] == 1.0) is right

    def test_an_axis_or_a_score_that_does_not_fit_is_said_of_its_field(self, state, square):
        form = square | {"calibration": "images.npz", "evaluation": "images.npz", "model": "nets.py:small"}
        idle(message(state, "load_own", form=form | {"metric": "label accuracy"}))
        assert re.match(r"Score: evaluation batch 0 .*“Score: R²”", state.error)
        idle(message(state, "load_own", form=form | {"metric": "accuracy", "classes": "second"}))
        assert (state.error, state.metric) == ("", "accuracy")

    def test_what_training_asks_for_later_is_asked_for_on_the_card(self, state, square):
        idle(message(state, "load_own", form=square | {"evaluation": "nets.py:accuracy"}))
        assert state.error == ""
        idle(message(state, "finetune", tuning={"amount": "1", "unit": "steps"}))
        wanted = "with “Classes on: second axis” or “Classes on: last axis” (on the Load card)"
        assert state.error.endswith(wanted)

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
