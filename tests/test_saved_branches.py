"""Branches are saved and opened with the session, and training data of one's own is used."""

import json

import pytest
import torch
from networks import conv_net, images
from torch.nn import functional

from workbench import RecipeError, Session, replay
from workbench.session.finetune import Tuning

TARGETS = torch.arange(64) % 5


def session_of(**options):
    x = images(64)
    session = Session(conv_net(), [(x, TARGETS)], [(x, TARGETS)], **options)
    session.measure()
    return session


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


@pytest.mark.parametrize(("value", "words"), [("many", "'branches' must be"), (7, "recipe.json")])
def test_a_damaged_list_of_branches_is_told(tmp_path, value, words):
    session = branched()
    session.save(tmp_path)
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
