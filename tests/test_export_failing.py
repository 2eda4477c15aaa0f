"""Export: what cannot be written is said, and files are whole or not there."""

import os
import sys
import threading

import pytest
import torch
from crashes import tree
from exports import apart, contents, outputs, small_session
from networks import conv_net, images
from torch import nn

import workbench as wb
from workbench.data.progress import Cancelled
from workbench.export import folder as export_module


class Rows(nn.Module):
    """Goes through its examples one by one, which leaves their number in the program."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(13, 17), nn.Linear(17, 5)

    def forward(self, x):
        return self.fc2(torch.stack([torch.relu(self.fc1(row)) for row in x]))


class Random(Rows):
    """With numbers drawn at random in evaluation mode too."""

    def forward(self, x):
        hidden = torch.relu(self.fc1(x))
        return self.fc2(hidden) + 0 * hidden.sum() + torch.rand(()) * 3


@pytest.mark.parametrize(
    ("model", "words"),
    [(Rows, "any batch size: .*constant"), (Random, "does not compute what the network does")],
)
def test_what_is_no_program_says_why_and_leaves_nothing(model, words, tmp_path, capfd):
    torch.manual_seed(0)
    session = wb.Session(model(), torch.randn(8, 13))
    with pytest.raises(ValueError, match=words) as caught:
        session.export(tmp_path / "out", formats=("pt2",))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""
    session.export(tmp_path / "out")  # its weights can be written all the same
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"'pth'.*safetensors, pt2, onnx"):
        small_session().export(tmp_path / "out", formats=("pt2", "pth"))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"onnxscript.*spectral-pruning-workbench\[onnx\]"):
        small_session().export(tmp_path / "out", formats="onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_example_that_does_not_go_through_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"does not run on an example input of \(2, 9, 6, 6\)"):
        small_session().export(tmp_path / "out", example_input=torch.zeros(2, 9, 6, 6))
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_fails_leaves_no_file(tmp_path, monkeypatch):
    session = small_session()

    def fail(*_):
        raise ValueError("no such operation")

    monkeypatch.setattr(export_module, "write_onnx", fail)
    monkeypatch.setattr(export_module, "onnx_packages", list)
    with pytest.raises(ValueError, match="no such operation"):
        session.export(tmp_path / "a" / "b", formats=("pt2", "onnx"))
    assert list(tmp_path.iterdir()) == []
    session.export(tmp_path / "a" / "b")
    before = contents(tmp_path / "a" / "b")
    session.undo()
    with pytest.raises(ValueError, match="no such operation"):
        session.export(tmp_path / "a" / "b", formats=("pt2", "onnx"))
    assert contents(tmp_path / "a" / "b") == before


@pytest.mark.parametrize("moves", range(9))
def test_a_disk_that_fails_half_way_leaves_the_earlier_export(moves, tmp_path, monkeypatch):
    session = small_session()
    session.export(tmp_path, formats=("pt2",))
    (tmp_path / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    session.undo()
    replace, left = os.replace, [moves]

    def fail(source, target):
        left[0] -= 1
        if left[0] == -1:
            raise OSError("no space left")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        session.export(tmp_path)
    assert contents(tmp_path) == before


def test_a_place_that_cannot_be_written_is_left_alone(tmp_path):
    session = small_session()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        session.export(tmp_path / "file")
    with pytest.raises(OSError):
        session.export(tmp_path / "file" / "below")
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    if not os.access(closed, os.W_OK):  # to an administrator nothing is closed
        with pytest.raises(PermissionError):
            session.export(closed)
    assert list(closed.iterdir()) == []


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_cancelled_export_leaves_no_file(after, tmp_path):
    session, cancel, told = small_session(), threading.Event(), []

    def progress(done, total, what):
        told.append((done, total, what))
        if done == after:
            cancel.set()

    if after == 2:
        session.export(tmp_path / "out", progress=progress, cancel=cancel)  # too late: it is there
        assert told[-1][0] == told[-1][1]
        return
    with pytest.raises(Cancelled):
        session.export(tmp_path / "out", formats=("pt2",), progress=progress, cancel=cancel)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_is_replaced_and_other_files_stay(tmp_path):
    session = small_session()
    session.export(tmp_path, formats=("pt2",))
    (tmp_path / "notes.txt").write_text("mine")
    session.undo()
    session.export(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    # The program was of another network than the weights that are there now.
    assert names == {"model.safetensors", "architecture.json", "recipe.json", "README.md", "notes.txt"}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    loaded = wb.load_pruned(conv_net(), tmp_path)
    assert apart(outputs(loaded, images(3)), outputs(session.model, images(3))) <= 1e-6


def test_files_of_others_are_in_the_way(tmp_path):
    session = small_session()
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"README\.md that is not of an export.*replace=True"):
        session.export(tmp_path)
    assert contents(tmp_path) == {"README.md": b"mine"}
    session.export(tmp_path, replace=True)
    wb.load_pruned(conv_net(), tmp_path)


def test_a_saved_session_is_not_written_over(tmp_path):
    session = small_session()
    session.save(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="a saved session"):
        session.export(tmp_path)
    assert tree(tmp_path) == before
