"""A path that begins with ~ begins at home, wherever a path may be given."""

import numpy as np
import pytest
import torch
from networks import conv_net, images
from safetensors.torch import save_file

from workbench.cli import main
from workbench.data.checkpoints import load_checkpoint
from workbench.data.loading import load_data
from workbench.data.models import load_model
from workbench.examples.datasets import cache_folder, data_folders
from workbench.session.replay import replay
from workbench.session.session import Session

NET = """
import torch
def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 3))
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield tmp_path / "home"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_models_weights_and_data(home):
    (home / "net.py").write_text(NET)
    np.save(home / "x.npy", np.ones((4, 5), np.float32))
    model = load_model("~/net.py:make")
    save_file(dict(model.state_dict()), home / "w.safetensors")
    assert load_checkpoint(model, "~/w.safetensors") is model
    assert load_model("~/net.py:make", checkpoint="~/w.safetensors")[0].in_features == 5
    assert next(iter(load_data("~/x.npy")))[0].shape[-1] == 5


def test_recipes(home):
    session = Session(conv_net(), images(8))
    session.measure()
    session.commit(session.preview("conv2", width=6))
    session.save("~/saved")
    again = replay("~/saved/recipe.json", conv_net(), images(8))
    assert torch.equal(again.model.fc1.weight, session.model.fc1.weight)


def test_the_command(home, capsys):
    (home / "net.py").write_text(NET)
    np.save(home / "x.npy", np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32))
    own = ["--model", "~/net.py:make", "--calibration", "~/x.npy"]
    assert main(["measure", *own, "--output", "~/saved"]) == 0
    assert main(["replay", "~/saved/recipe.json", *own, "--output", "~/again"]) == 0
    assert main(["page", "~/saved", *own, "-o", "~/page.html"]) == 0
    assert {path.name for path in home.iterdir()} >= {"saved", "again", "page.html"}


def test_folders_in_the_environment(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "~/caches")
    monkeypatch.setenv("WORKBENCH_DATA", "~")
    assert cache_folder().parent == home / "caches"
    assert data_folders()[0] == home
