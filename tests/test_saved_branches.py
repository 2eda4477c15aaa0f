"""Branches are saved and opened with the session, and training data of one's own is used."""

import json

import pytest
import torch
from earlier_layout import save_earlier
from labelled import TARGETS, session_of
from networks import conv_net, images
from safetensors.torch import load_file, save_file
from torch.nn import functional

from workbench.session import store
from workbench.session.recipe import RecipeError
from workbench.session.replay import replay
from workbench.session.session import Session
from workbench.tuning.settings import Tuning
from workbench.widgets.page_values import with_procedure


def branched():
    """main: conv2, fc1 · thin: conv2, then fine-tuned and refitted · side: fine-tuned, then conv1 · bare."""
    session = session_of()
    session.commit(session.preview("conv2", width=6))
    session.fork("thin")
    session.finetune(tuning=Tuning(steps=3))
    session.refit()
    session.fork("same as thin")
    session.switch("main")
    session.commit_plan({"fc1": 7})
    session.commit(session.preview("conv1", width=5))
    session.undo()
    session.reset()
    session.fork("bare")
    session.finetune(tuning=Tuning(steps=2, seed=1))
    session.fork("side")
    session.commit(session.preview("conv1", width=3))
    session.switch("main")
    session.goto(2)
    return session


def opened(session, folder):
    session.save(folder)
    x = images(64)
    return Session.open(folder, conv_net(), [(x, TARGETS)], [(x, TARGETS)])


def contents(session, branch):
    session.switch(branch)
    weights = {key: value.clone() for key, value in session.model.state_dict().items()}
    steps = session.history[: session.position + 1]
    return weights, [(step.label, step.plan, step.score, step.parameters, step.macs) for step in steps]


def test_every_branch_is_as_it_was(tmp_path):
    session = branched()
    again = opened(session, tmp_path)
    assert again.branch == session.branch == "main"
    assert set(again.branches) == set(session.branches) == {"main", "thin", "same as thin", "bare", "side"}
    for branch in session.branches:
        (before, steps), (after, found) = contents(session, branch), contents(again, branch)
        assert found == steps, branch
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before), branch
        assert again.recipe == session.recipe


def test_the_present_branch_need_not_be_main(tmp_path):
    session = branched()
    session.switch("side")
    again = opened(session, tmp_path)
    assert again.branch == "side"
    assert len(again.history) == 3
    again.undo()
    again.switch("thin")
    assert [step.label for step in again.history][-2:] == ["fine-tuned, 3 steps", "refitted"]


def test_a_folder_saved_with_fewer_branches_opens_with_those(tmp_path):
    session = branched()
    session.save(tmp_path)
    session.drop("thin")
    session.drop("same as thin")
    again = opened(session, tmp_path)
    assert set(again.branches) == {"main", "bare", "side"}


def test_a_branch_of_an_earlier_version_ends_with_its_own_weights_where_another_goes_on(tmp_path):
    """What was computed once need not come out the same again: the saved weights count."""
    session = session_of()
    session.commit(session.preview("conv2", width=6))
    session.fork("thin")
    session.commit(session.preview("fc1", width=7))
    save_earlier(session, tmp_path)
    file = tmp_path / "branches" / "1" / "model.safetensors"
    saved = load_file(file)
    saved["conv1.bias"] += 0.25
    save_file(saved, file)
    again = Session.open(tmp_path, conv_net(), images(64))
    again.switch("main")
    assert torch.equal(again.model.conv1.bias, saved["conv1.bias"])
    again.switch("thin")
    assert torch.equal(again.model.conv1.bias, session.model.conv1.bias)
    again.undo()
    assert not torch.equal(again.model.conv1.bias, saved["conv1.bias"])


def test_a_save_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    session = session_of()
    session.commit(session.preview("conv2", width=6))
    session.save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    session.finetune(tuning=Tuning(steps=2))
    with monkeypatch.context() as patch:
        patch.setattr(store, "sealed", lambda values: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            session.save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert len(Session.open(tmp_path, conv_net(), images(64)).history) == 2


def test_weights_of_another_network_never_become_the_original(tmp_path):
    session = session_of()
    save_earlier(session, tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({key: value + 1 for key, value in load_file(file).items()}, file)
    with pytest.raises(RecipeError, match="not the original network's"):
        Session.open(tmp_path, conv_net(), images(64))


DAMAGE = [
    ("recipe.json", {"original": ["x"]}, "score must be a number"),
    ("branches/1/recipe.json", {"procedure": "sequential"}, "another session"),
    ("branches/1/recipe.json", {"branch": "main"}, "one name each"),
    ("branches/1/recipe.json", {"branch": "  "}, "one name each"),
    ("branches/1/recipe.json", {"branch": 5}, "'branch' must be a name"),
]


@pytest.mark.parametrize(("name", "change", "words"), DAMAGE)
def test_a_damaged_branch_is_told(tmp_path, name, change, words):
    session = session_of()
    session.commit(session.preview("conv2", width=6))
    session.fork("thin")
    session.switch("main")
    save_earlier(session, tmp_path)
    file = tmp_path / name
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RecipeError, match=words):
        Session.open(tmp_path, conv_net(), images(64))


def test_damaged_weights_of_a_tuning_are_told(tmp_path):
    session = session_of()
    session.finetune(tuning=Tuning(steps=2))
    save_earlier(session, tmp_path)
    save_file({"conv1.bias": torch.zeros(3)}, tmp_path / "tuned-0.safetensors")
    with pytest.raises(RecipeError, match="do not fit the recipe"):
        Session.open(tmp_path, conv_net(), images(64))


def test_a_procedure_is_not_changed_under_other_branches():
    session = session_of()
    session.fork("work")
    session.commit(session.preview("conv2", width=6))
    session.switch("main")
    with pytest.raises(ValueError, match="drop work first"):
        with_procedure(session, "sequential")
    session.drop("work")
    assert with_procedure(session, "sequential").procedure == "sequential"


@pytest.mark.parametrize(("value", "words"), [("many", "'branches' must be"), (7, "recipe.json")])
def test_a_damaged_list_of_branches_is_told(tmp_path, value, words):
    session = branched()
    save_earlier(session, tmp_path)
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"branches": value}))
    with pytest.raises((RecipeError, FileNotFoundError), match=words):
        Session.open(tmp_path, conv_net(), images(64))


# Training data and a loss of one's own


def test_finetuning_and_taylor_use_the_session_s_own_training_data_and_loss():
    seen = []

    def loss(outputs, targets):
        seen.append(len(targets))
        return functional.cross_entropy(outputs, targets)

    x = images(64)
    session = Session(conv_net(), x, [(x, TARGETS)], training=(x[:20], TARGETS[:20]), loss=loss)
    session.measure()
    session.measure_gradients()
    assert sum(seen) == 20
    seen.clear()
    session.finetune(tuning=Tuning(steps=3, batch=9))
    assert seen == [9, 9, 2]
    again = replay(session.recipe, conv_net(), x, [(x, TARGETS)], training=(x[:20], TARGETS[:20]), loss=loss)
    assert [step.label for step in again.history] == ["original", "fine-tuned, 3 steps"]
    assert again.history[-1].score == session.history[-1].score


def test_training_data_that_can_be_read_once_only_is_told():
    with pytest.raises(ValueError, match="training data"):
        Session(conv_net(), images(64), training=iter([(images(4), TARGETS[:4])]))
