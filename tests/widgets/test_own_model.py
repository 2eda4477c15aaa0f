"""The face without a browser: a model and data of one's own, from the form."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
from states import PATIENCE, idle, message
from torch import nn

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

        monkeypatch.setattr("workbench.widgets.load_form.load_model", slow)
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
