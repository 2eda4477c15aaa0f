"""A duel scores by-hand widths as the rules' are scored, and refuses in words what is no fair one."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.course import check, duel, example
from workbench.course.duelling import OverBudgetError
from workbench.network.cost import count_cost
from workbench.pruning.problem import NotMeasuredError
from workbench.session.session import Session

WIDTHS = {"conv1": 14, "conv2": 16, "conv3": 16, "fc1": 20}

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def session():
    return example("digits-cnn", say=False)


@pytest.fixture(scope="module")
def fought(session):
    return duel(session, WIDTHS)


def test_every_score_and_cost_is_that_of_the_network_committed(session, fought):
    own = example("digits-cnn", fresh=True, say=False)
    assert [one.name for one in fought.contenders] == ["yours", "equal", "shared", "least"]
    for one in fought.contenders:
        own.commit_plan(one.widths)
        cost = count_cost(own.model, own.example_input)
        assert (one.parameters, one.macs) == (cost.parameters, cost.macs)
        with torch.no_grad():
            right = sum(
                int((own.model(inputs).argmax(1) == targets).sum()) for inputs, targets in own.evaluation
            )
        assert one.score == pytest.approx(right / sum(len(targets) for _, targets in own.evaluation))
        assert one.macs <= fought.budget == int(0.1 * session.macs)
        own.reset()
    assert session.position == 0


def test_it_shows_a_row_a_contender_and_says_who_is_beaten(fought):
    text = fought.to_markdown()
    assert fought._repr_markdown_() == repr(fought) == text
    lines = text.splitlines()
    assert lines[0].startswith("|  | conv1 | conv2 | conv3 | fc1 | accuracy |")
    assert [line.split("|")[1].strip() for line in lines[2:6]] == ["yours", "equal", "shared", "least"]
    beaten = [one.name for one in fought.contenders if fought["yours"].score > one.score]
    assert (f"Yours beats {', '.join(beaten)}." if beaten else "none of the rules") in lines[-1]
    with pytest.raises(KeyError, match="nobody is called"):
        fought["mine"]


def test_a_plan_and_numpy_s_numbers_are_widths_and_a_tie_is_no_win(session):
    plan = session.plan(int(0.2 * session.macs), rule="equal")
    same = duel(session, plan, 0.2)
    assert same["yours"].score == same["equal"].score
    assert not same.beats("equal")
    assert duel(session, {name: np.int64(width) for name, width in plan.widths.items()}, 0.2) == same


@pytest.mark.parametrize(
    ("widths", "share", "said"),
    [
        ({}, 0.5, r"1,821,952 MACs, 910,976 over the budget of 910,976"),
        ({"conv9": 3}, 0.5, "no prunable group is called 'conv9'; there are conv1"),
        ({"fc2": 3}, 0.5, "no prunable group is called 'fc2'"),
        ({"conv1": 0}, 0.5, r"conv1 keeps a whole number of units, 1 to 32; got 0"),
        ({"conv1": 2.5}, 0.5, "got 2.5"),
        ({"conv1": True}, 0.5, "got True"),
        ([8, 8], 0.5, "a dictionary of group and units"),
        (WIDTHS, 0.0, "between 0 and 1, got 0.0"),
        (WIDTHS, 1e-6, "over the budget of 1"),
    ],
)
def test_what_is_no_fair_duel_is_refused_in_words(session, widths, share, said):
    with pytest.raises(ValueError, match=said):
        duel(session, widths, share)


def test_over_the_budget_is_told_apart_and_a_session_that_went_on_or_has_no_score_is_refused(session):
    with pytest.raises(OverBudgetError):
        duel(session, {"conv1": 8})
    own = Session.example("digits-mlp")
    own.measure()
    own.commit(own.preview("fc1", width=100))
    with pytest.raises(ValueError, match="reset"):
        duel(own, {"fc1": 10})
    blind = Session(own.original, own.calibration)
    blind.measure()
    with pytest.raises(ValueError, match="evaluation data"):
        duel(blind, {"fc1": 10})
    with pytest.raises(NotMeasuredError):
        duel(Session.example("digits-mlp"), {"fc1": 10, "fc2": 10})


def test_any_widths_that_beat_the_equal_ones_are_right(session):
    for widths in (WIDTHS, {"conv1": 12, "conv2": 19, "conv3": 14, "fc1": 14}):
        assert bool(check("07.4", widths)) == duel(session, widths).beats("equal")
    assert check("07.4", WIDTHS)
    assert check("07.4", session.plan(int(0.1 * session.macs), rule="shared")) == check("07.4", WIDTHS)


def test_another_form_of_widths_is_told(session):
    said = check("07.4", {"conv1": 14, "conv9": 3}).text
    assert "no prunable group is called 'conv9'" in said
    assert "a whole number of units" in check("07.4", {"conv1": 2.5}).text
    assert "dictionary" in check("07.4", [14, 16, 16, 20]).text


def test_the_stored_numbers_of_the_notebook_are_those_of_the_results():
    results = (ROOT / "tests" / "benchmarks" / "RESULTS.md").read_text("utf-8")
    notebook = (ROOT / "notebooks" / "course" / "source" / "07-budgets.ipynb").read_text("utf-8")
    for column, network in enumerate(("vgg13-cifar10", "resnet20")):
        table = results.split(f"<!-- table {network} -->")[1].split("<!-- end -->")[0]
        for rule in ("equal", "shared", "least"):
            measured = re.search(rf"\| {rule} \| greedy, `original` \|(.*)\|", table)[1].split("|")[2].strip()
            stored = re.search(rf"\| {rule} \| (\d.*?) \|\\n", notebook)[1].split(" | ")[column]
            assert stored == measured
