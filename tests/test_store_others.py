"""A saved session beside others: writers, files of theirs, exports, what earlier versions saved."""

import shutil
import subprocess
import sys

import pytest
import torch
from crashes import tree
from earlier_layout import save_earlier
from labelled import weights
from saved_sessions import FOLDER, small
from stored import equal, first, further, opened, steps_of, values

from workbench.data import blobs, durable
from workbench.data.durable import FolderInUseError
from workbench.session.recipe import RecipeError
from workbench.session.session import Session


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Tensors of a small network lie in files of their own too."""
    monkeypatch.setattr(blobs, "ALONE", 64)


HOLD = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(20)
"""


def test_a_second_process_is_told_and_one_that_was_killed_holds_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "PATIENCE", 0.1)
    session = first()
    session.save(tmp_path)
    before = tree(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path / durable.LOCK)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(FolderInUseError, match="is being written to by another process"):
            further(session).save(tmp_path)
        assert len(opened(tmp_path).history) == 2  # reading goes on
        other.kill()
    (tmp_path / durable.LOCK).unlink(missing_ok=True)
    assert tree(tmp_path) == before
    session.save(tmp_path)
    assert equal(steps_of(opened(tmp_path)), steps_of(session))


def test_a_session_that_is_saved_while_it_is_read_opens_as_one_of_the_two(tmp_path, monkeypatch):
    session = first()
    session.save(tmp_path)
    session.undo()
    session.commit(session.preview("conv2", width=4))
    stock, saves = blobs.Blobs.get, []

    def saved_meanwhile(self, bundle):
        if not saves:
            saves.append(session.save(tmp_path))
        return stock(self, bundle)

    monkeypatch.setattr(blobs.Blobs, "get", saved_meanwhile)
    found = values(tmp_path)
    assert found == values(tmp_path)
    assert found[1][0][2][0]["width"] == 4


def test_files_of_others_survive(tmp_path):
    session = first()
    mine = ["notes.txt", "model.safetensors", "tensors/mine.safetensors", "tensors/a.txt", ".writing-notes"]
    mine += ["branches/notes.txt", "steps.safetensors"]
    for name in mine:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    for _ in range(2):
        session.save(tmp_path)
        opened(tmp_path)
        further(session) if len(session.branches) == 1 else None
    assert all((tmp_path / name).read_text() == "mine" for name in mine)


@pytest.mark.parametrize("content", ["mine", "{}", '{"format": "spectral-pruning-recipe"}', "recipe"])
def test_a_recipe_that_is_no_session_s_is_in_the_way(tmp_path, content):
    session = first()
    if content == "recipe":
        session.export(tmp_path / "out")
        content = (tmp_path / "out" / "recipe.json").read_text()
    (tmp_path / "recipe.json").write_text(content)
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=r"recipe\.json"):
        session.save(tmp_path)
    assert tree(tmp_path) == before


def test_a_session_and_an_export_never_share_a_folder(tmp_path):
    session = first()
    session.export(tmp_path / "export")
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="holds an export"):
        session.save(tmp_path / "export")
    with pytest.raises(RecipeError, match="holds an export, not a session"):
        opened(tmp_path / "export")
    assert tree(tmp_path) == before
    session.save(tmp_path / "session")
    save_earlier(session, tmp_path / "earlier")
    before = tree(tmp_path)
    for name in ("session", "earlier"):
        for replace in (False, True):
            with pytest.raises(ValueError, match="a saved session"):
                session.export(tmp_path / name, replace=replace)
    assert tree(tmp_path) == before


# Earlier versions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_session_of_an_earlier_version_is_converted_by_the_next_save(tmp_path, name):
    folder = tmp_path / name
    shutil.copytree(FOLDER / name, folder, ignore=shutil.ignore_patterns("expected*"))
    (folder / "mine.safetensors").write_text("mine")
    (folder / ".saving-ab1_cd2e").mkdir()  # what a save of that version left when it was killed
    model, x, y = small()
    session = Session.open(folder, model, [(x, y)], [(x, y)])
    session.save(folder)
    assert {name.split("/")[0] for name in tree(folder)} == {"mine.safetensors", "recipe.json", "tensors"}
    again = Session.open(folder, model, [(x, y)], [(x, y)])
    assert equal(steps_of(again), steps_of(session))


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    session = first()
    session.save("~/saved")
    assert equal(steps_of(opened("~/saved")), steps_of(session))
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


class Counting(torch.nn.Sequential):
    """Writes into a buffer of its own whenever it runs, so that the data has a part in it."""

    def __init__(self):
        super().__init__(torch.nn.Linear(6, 13), torch.nn.Tanh(), torch.nn.Linear(13, 3))
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        self.mean.copy_(0.5 * self.mean + 0.5 * x.mean(0))
        return super().forward(x)


def test_a_network_that_writes_into_itself_opens_beside_other_data(tmp_path):
    torch.manual_seed(0)
    model, x = Counting().eval(), torch.randn(40, 6)
    session = Session(model, [x])
    session.measure()
    session.commit(session.preview("0", width=5))
    session.save(tmp_path)
    expected = weights(session)
    again = Session.open(tmp_path, model, [x[:20] + 1, x[20:]])
    assert equal({"": weights(again)}, {"": expected})
