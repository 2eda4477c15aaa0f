"""What earlier versions saved opens, and replays, to the same weights."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from saved_sessions import FOLDER, small

from workbench.session.replay import replay
from workbench.session.session import Session

LINES = {"first": {"main": 4}, "second": {"main": 4, "tuned": 5}}  # steps of every branch, with the start
CASES = [(name, branch) for name, lines in LINES.items() for branch in lines]


def expected(name, branch, step):
    if step == 0:
        return small()[0].state_dict()
    place = f"expected-{step}" if name == "first" else f"expected-{branch}-{step}"
    return load_file(FOLDER / name / f"{place}.safetensors")


def opened(folder):
    model, x, y = small()
    return Session.open(folder, model, [(x, y)], [(x, y)])


def agree(model, wanted, *, exactly=False):
    found = model.state_dict()
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if exactly:
            assert torch.equal(found[key], value), key
        else:
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize(("name", "branch"), CASES)
def test_it_opens_with_every_step_and_the_same_weights(name, branch):
    session = opened(FOLDER / name)
    assert set(session.branches) == set(LINES[name])
    session.switch(branch)
    count = LINES[name][branch]
    assert len(session.history) == count
    assert session.position == count - 1
    agree(session.model, expected(name, branch, count - 1), exactly=True)
    for step in range(count):
        session.goto(step)
        agree(session.model, expected(name, branch, step))


@pytest.mark.parametrize(("name", "branch"), CASES)
def test_its_recipe_replays_to_the_same_weights(name, branch):
    folder = FOLDER / name if branch == "main" else FOLDER / name / "branches" / "1"
    model, x, y = small()
    session = replay(folder / "recipe.json", model, [(x, y)], [(x, y)])
    wanted = json.loads((folder / "recipe.json").read_text())
    for step in range(LINES[name][branch]):
        session.goto(step)
        agree(session.model, expected(name, branch, step))
    for step, one in zip(session.history[1:], wanted["steps"], strict=True):
        assert one["result"]["score"] in (None, step.score)  # a plan's inner steps had none
    # The same record comes out, but for what was not written then.
    record = session.recipe
    assert record["model"] == wanted["model"]
    for found, was in zip(record["steps"], wanted["steps"], strict=True):
        assert {key: value for key, value in was.items() if key != "result"}.items() <= found.items()


@pytest.mark.parametrize("name", LINES)
def test_saved_anew_it_opens_with_every_step_to_the_bit(name, tmp_path):
    session = opened(FOLDER / name)
    shutil.copytree(FOLDER / name, tmp_path / "again")  # over the files of the earlier version
    session.save(tmp_path / "again")
    again = opened(tmp_path / "again")
    assert again.recipe == session.recipe
    for branch, count in LINES[name].items():
        session.switch(branch)
        again.switch(branch)
        for step in range(count):
            session.goto(step)
            again.goto(step)
            agree(again.model, session.model.state_dict(), exactly=True)
