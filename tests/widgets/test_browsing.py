"""Files for the Load card, listed on the kernel's side."""

from __future__ import annotations

import numpy as np
import pytest
from states import message

from workbench.data.loading import load_data
from workbench.data.models import load_model
from workbench.widgets.browsing import KINDS, listing_of
from workbench.widgets.load_form import FIELDS

CODE = """
import torch

raise SystemExit("nothing of it is run")

def small(): ...
def wide(width, depth=2, *, act): ...
def _hidden(): ...
class Net(torch.nn.Module): ...
"""


@pytest.fixture
def start(tmp_path):
    here = tmp_path / "notebooks"
    for folder in ("images", "images10", "images9", ".git", "__pycache__"):
        (here / folder).mkdir(parents=True)
    for name in ("a.npy", "b.NPZ", "c.zip", "train-images-idx3-ubyte.gz", "w.pt", "w.safetensors", "read.me"):
        (here / name).write_bytes(b"12345")
    (here / "nets.py").write_text(CODE)
    (tmp_path / "above.npy").write_bytes(b"1")
    (here / "away").symlink_to(tmp_path)
    (here / "gone").symlink_to(tmp_path / "nowhere")
    return here


def names(listing, kind=None):
    return [one["name"] for one in listing["entries"] if kind in (None, one["kind"])]


def test_each_field_lists_what_it_can_load(start):
    assert set(KINDS) <= set(FIELDS)
    data = listing_of("", "calibration", start)
    assert names(data, "folder") == ["away", "images", "images9", "images10"]
    assert names(data, "file") == ["a.npy", "b.NPZ", "c.zip", "train-images-idx3-ubyte.gz"]
    assert names(data, "code") == ["nets.py"]
    assert names(listing_of("", "checkpoint", start), "file") == ["w.pt", "w.safetensors"]
    assert names(listing_of("", "targets", start), "file") == ["a.npy", "b.NPZ", "train-images-idx3-ubyte.gz"]
    assert names(listing_of("", "model", start))[-1:] == ["nets.py"]
    assert (data["place"], data["outside"], data["value"]) == ("the notebook's folder", False, ".")
    assert listing_of("images", "calibration", start)["value"] == "images"
    assert listing_of("images", "model", start)["value"] == ""


def test_functions_of_a_file_are_listed_and_nothing_is_run(start):
    found = listing_of("nets.py", "model", start)
    assert [(one["name"], one["note"], one["value"]) for one in found["entries"]] == [
        ("small", "function", "nets.py:small"),
        ("wide", "needs width, act", "nets.py:wide"),
        ("Net", "class", "nets.py:Net"),
    ]


def test_what_lies_outside_is_said_to(start):
    for way in ("..", str(start.parent), "away"):
        found = listing_of(way, "calibration", start)
        assert (found["outside"], found["path"]) == (True, str(start.parent))
        (file,) = [one for one in found["entries"] if one["kind"] == "file"]
        assert file["value"] == str(start.parent / "above.npy")
    assert listing_of("images/..", "calibration", start)["outside"] is False
    assert listing_of("/", "calibration", start)["up"] == ""


def test_a_chosen_path_is_loaded_by_the_same_words(start, monkeypatch):
    monkeypatch.chdir(start)
    np.save("a.npy", np.ones((7, 3), dtype=np.float32))
    listed = {one["name"]: one["value"] for one in listing_of("", "calibration", start)["entries"]}
    assert load_data(listed["a.npy"]).examples == 7
    (start / "nets.py").write_text("import torch\ndef small(): return torch.nn.Linear(3, 2)\n")
    (made,) = listing_of("nets.py", "model", start)["entries"]
    assert load_model(made["value"]).out_features == 2


@pytest.mark.parametrize(
    ("folder", "field", "words"),
    [
        ("nowhere", "model", "nowhere cannot be read, since it is not there"),
        ("a.npy", "calibration", "cannot be read, since it is a file that holds"),
        ("a\0b", "model", "a character that no name can have"),
        ("bad.py", "model", "bad.py cannot be read as Python (line 2)"),
        ("", "metric", "files are chosen for model, checkpoint"),
    ],
)
def test_errors_are_said_in_the_list_and_change_nothing(state, start, monkeypatch, folder, field, words):
    monkeypatch.chdir(start)
    (start / "bad.py").write_text("x = 1\ndef (:\n")
    message(state, "browse", folder=folder, field=field)
    assert words in state.listing["wrong"]
    assert (state.error, state.progress) == ("", {})


def test_it_is_listed_while_something_runs_and_each_answer_is_another(state, start, monkeypatch):
    monkeypatch.chdir(start)
    monkeypatch.setattr(state, "_jobs", type("Busy", (), {"busy": True})())
    seen = []
    state.observe(lambda change: seen.append(change["new"]["count"]), "listing")
    for _ in range(2):
        message(state, "browse", folder="images", field="calibration")
    assert seen == [1, 2]
    assert state.error == ""


def test_a_large_folder_is_cut_and_says_so(start):
    many = start / "images"
    for i in range(450):
        (many / f"{i}.npy").touch()
    found = listing_of("images", "calibration", start)
    assert (len(found["entries"]), found["more"], names(found)[:3]) == (400, 50, ["0.npy", "1.npy", "2.npy"])


def test_a_folder_that_may_not_be_read_says_why(state, start, monkeypatch):
    monkeypatch.chdir(start)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("workbench.widgets.browsing.os.scandir", refuse)
    message(state, "browse", folder="images", field="calibration")
    assert state.listing["wrong"] == "images cannot be read, since this account may not"
