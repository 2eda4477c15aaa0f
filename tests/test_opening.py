"""Opening a session repeats no fit whose result was saved, and takes modules of any name."""

import hashlib
import json
import math

import pytest
import torch
from earlier_layout import save_earlier
from labelled import HALF, TARGETS, same, session_of, weights
from networks import conv_net, images
from safetensors.torch import load_file
from saved_sessions import FOLDER, small
from torch import nn

from workbench.pruning import problem, transitions
from workbench.session import recipe as recording
from workbench.session.recipe import RecipeError
from workbench.session.session import Session
from workbench.tuning.settings import Tuning

FITS = ("fit_present", "fit_original", "reestimate_norms", "cache_calls")


@pytest.fixture
def fitted(monkeypatch):
    """Names of the functions that fit or choose, a call each."""
    calls = []

    def counted(name, function):
        def run(*args, **options):
            calls.append(name)
            return function(*args, **options)

        return run

    for name in FITS:
        monkeypatch.setattr(transitions, name, counted(name, getattr(transitions, name)))
    for name in ("corrections", "order"):
        stock = getattr(problem.GroupProblem, name)
        monkeypatch.setattr(problem.GroupProblem, name, counted(name, stock))
    return calls


def worked():
    session = session_of()
    session.commit(session.preview("conv1", width=5, reconstruction="kernel", reestimate=True))
    session.commit_plan({"conv2": 7, "fc1": 9}, reconstruction="original")
    session.fork("other")
    session.refit()
    session.finetune(tuning=Tuning(steps=2))
    session.commit(session.preview("fc1", width=4))
    session.switch("main")
    session.commit(session.preview("conv1", width=3))
    return session


def opened(folder):
    x = images(64)
    return Session.open(folder, conv_net(), [(x, TARGETS)], [(x, TARGETS)])


def told(step):
    kept = step.choice and (step.choice.units, step.choice.lam, step.choice.reconstruction)
    return step.label, kept, step.tuning, step.score, step.parameters, step.macs, step.plan


def test_nothing_is_fitted_or_chosen_again(tmp_path, fitted):
    session = worked()
    assert set(fitted) == {*FITS, "corrections", "order"}
    session.save(tmp_path)
    fitted.clear()
    again = opened(tmp_path)
    assert fitted == []
    for branch in session.branches:
        session.switch(branch)
        again.switch(branch)
        assert [told(step) for step in again.history] == [told(step) for step in session.history]
        for place in range(len(session.history)):
            session.goto(place)
            again.goto(place)
            assert same(weights(session), weights(again))
            assert again.stale == session.stale


def test_what_an_earlier_version_did_not_write_alone_is_fitted_again(fitted):
    model, x, y = small()
    Session.open(FOLDER / "first", model, [(x, y)], [(x, y)])
    assert fitted == ["corrections", "corrections"]  # two commits before the last, whose weights are there


def test_the_original_s_fingerprint_is_computed_once(tmp_path, monkeypatch):
    session, calls = worked(), []
    session.save(tmp_path)

    class Counted:
        @staticmethod
        def sha256():
            calls.append(1)
            return hashlib.sha256()

    monkeypatch.setattr(recording, "hashlib", Counted)
    again = opened(tmp_path)
    again.save(tmp_path / "again")
    assert again.recipe == session.recipe
    again.export(tmp_path / "export")
    assert len(calls) == 1 + 2 * 2  # and at the ends of both branches, opened and saved


class Named(nn.Module):
    """Modules whose names have strokes, of which torch forbids points alone."""

    def __init__(self):
        super().__init__()
        self.add_module("in/0", nn.Linear(5, 11))
        self.add_module("0/active", nn.ReLU())
        self.blocks = nn.ModuleDict({"a/b": nn.Linear(11, 7), "a": nn.Linear(7, 7), "/": nn.Linear(7, 3)})

    def forward(self, x):
        x = getattr(self, "0/active")(getattr(self, "in/0")(x))
        x = torch.relu(self.blocks["a/b"](x))
        return self.blocks["/"](torch.relu(self.blocks["a"](x)))


def test_modules_with_strokes_in_their_names_are_saved_and_open_again(tmp_path):
    torch.manual_seed(0)
    model, x = Named(), torch.randn(50, 5)
    session = Session(model, [(x, torch.arange(50) % 3)])
    session.measure()
    session.measure_gradients()
    session.commit(session.preview("in/0", width=6))
    session.commit(session.preview("blocks.a/b", width=4, selection="taylor"))
    session.finetune(tuning=Tuning(steps=2))
    session.save(tmp_path / "saved")
    again = Session.open(tmp_path / "saved", model, [(x, torch.arange(50) % 3)])
    for place in (3, 2, 1, 0):
        session.goto(place)
        again.goto(place)
        assert same(weights(session), weights(again))
    for name in ("in/0", "blocks.a/b", "blocks.a"):
        assert torch.equal(again.moment(name).matrix, session.moment(name).matrix)
    session.goto(2)
    session.export(tmp_path / "export")
    assert load_file(tmp_path / "export" / "model.safetensors").keys() == model.state_dict().keys()


def tuned(**settings):
    return lambda record: record["steps"].append({"kind": "finetune", "tuning": settings})


DAMAGE = [
    (lambda r: r["steps"][0].update(width="six"), r"step 1 of .*Expected 'int', got 'str' .*\[0\]\.width'"),
    (lambda r: r["steps"][1]["kept"].__setitem__(2, 0.5), r"\$\.steps\[1\]\.kept\[2\]"),
    (lambda r: r["steps"][2].pop("theta"), r"missing required field 'theta' - at '\$\.steps\[2\]'"),
    (lambda r: r["steps"][2].update(kind="fold"), r"unknown kind of step 'fold'.*\$\.steps\[2\]"),
    (lambda r: r["steps"][2].update(lam=math.inf), r"λ must be positive and finite.*\$\.steps\[2\]"),
    (lambda r: r["steps"][2].update(kind=["refit"]), r"unknown kind of step \['refit'\].*\$\.steps\[2\]"),
    (lambda r: r["model"].update(fingerprint=7), r"'\$\.model\.fingerprint'"),
    (lambda r: r.update(procedure="both"), r"'both' - at '\$\.procedure'"),
    (tuned(epochs="1"), r"\$\.steps\[3\]\.tuning\.epochs"),
    (tuned(ratio=1), r"unknown settings 'ratio'.*\[3\]\.tuning"),
    (tuned(epochs=-1), r"epochs must be a positive"),
]


@pytest.mark.parametrize(("change", "words"), DAMAGE)
def test_errors_name_the_place_in_the_file(tmp_path, change, words):
    session = session_of()
    session.commit_plan(HALF)
    save_earlier(session, tmp_path)
    file = tmp_path / "recipe.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))
    with pytest.raises(RecipeError, match=words):
        opened(tmp_path)


def test_a_missing_or_damaged_file_of_the_steps_is_told(tmp_path):
    save_earlier(worked(), tmp_path)
    path = tmp_path / "steps.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecipeError, match=r"steps\.safetensors is not a whole"):
        opened(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"steps\.safetensors"):
        opened(tmp_path)
