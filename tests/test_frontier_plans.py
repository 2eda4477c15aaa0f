"""Plans of the least damage at every cost, and what is measured of the network that they leave."""

import numpy as np
import pytest
import torch
from labelled import session_of
from networks import images

from workbench.pruning.frontier import LADDER
from workbench.pruning.problem import NotMeasuredError


@pytest.fixture(scope="module")
def session():
    session = session_of()
    session.damage()
    return session


def outputs(model):
    with torch.no_grad():
        found = model(images(64)).double()
    return found - found.mean(1, keepdim=True)


def change(before, after):
    return float((after - before).square().sum() / (before - before.mean(0)).square().sum())


@pytest.mark.parametrize("unit", ["macs", "parameters", "megabytes"])
def test_the_line_leads_from_the_present_network_to_ten_times_fewer(session, unit):
    line = session.frontier(unit)
    costs, changes = [one.cost for one in line.plans], [one.change for one in line.plans]
    assert costs[0] == pytest.approx(line.whole)
    assert changes[0] == 0
    assert costs == sorted(costs, reverse=True)
    assert changes == sorted(changes)
    assert line.whole / costs[-1] > 8
    damage = session.damage()
    for plan in (*line.plans, *line.others):
        total = sum(float(damage.of(name).curve[width]) for name, width in plan.widths.items())
        assert plan.change == pytest.approx(1 - np.exp(-total))
    best = session.plan(line.whole / 3, unit, "damage")
    assert min(one.change for one in line.plans if one.cost <= line.whole / 3) == pytest.approx(
        best.change, rel=0.1
    )
    assert {one.rule for one in line.others} == {"equal", "shared", "least"}
    assert all(one.cost <= line.whole / LADDER[0] for one in line.others)


def test_no_other_rule_predicts_less_at_its_cost(session):
    line = session.frontier()
    for other in line.others:
        cheaper = [one.change for one in line.plans if one.cost <= other.cost]
        assert not cheaper or min(cheaper) <= other.change * 1.15 + 1e-9


def test_limits_are_those_of_a_plan(session):
    line = session.frontier(locks={"fc1": 9}, minimum=4, multiple=2)
    whole = {group.name: group.width for group in session.groups}
    for plan in line.plans:
        assert plan.widths["fc1"] == 9
        assert all(w >= 4 and (w % 2 == 0 or w in (9, whole[name])) for name, w in plan.widths.items())


def test_nothing_is_measured_for_it():
    session = session_of()
    assert session.damage_forecast()[0] > 9
    with pytest.raises(NotMeasuredError, match=r"session\.damage"):
        session.frontier()


@pytest.mark.parametrize("way", ["channel", "original"])
def test_what_a_plan_changes_is_measured_before_and_after_its_commit(way):
    session = session_of()
    session.damage(reconstruction=way)
    plan = session.frontier(reconstruction=way).plans[9]
    before, original = outputs(session.model), session.model
    assert session.output_change().change[0] == 0
    score, tried = session.try_plan(plan, reconstruction=way)
    assert session.position == 0
    assert session.model is original
    session.commit_plan(plan, reconstruction=way)
    committed = session.output_change()
    assert committed is session.output_change()
    assert score == session.history[-1].score
    assert tried.change[0] == pytest.approx(committed.change[0])
    assert committed.change[0] == pytest.approx(change(before, outputs(session.model)), rel=1e-3)


def test_a_pruned_network_starts_where_it_is():
    session = session_of()
    session.commit_plan({"conv1": 5, "fc1": 6})
    session.damage()
    line = session.frontier()
    assert line.plans[0].cost == session.macs
    assert line.plans[0].change == pytest.approx(min(session.output_change().change[0], 1 - 1e-6), rel=1e-6)


def test_a_sensitivity_is_the_same_measurement(monkeypatch):
    session = session_of()
    damage = session.damage((0.5, 0.25), scores=True)
    monkeypatch.setattr("workbench.pruning.damage.applied", None)
    found = session.sensitivity((1.0, 0.5, 0.25))
    for row, group in enumerate(damage.groups):
        trials = group.trials[::-1]
        assert list(found.changes[row, 1:]) == [one.change[0] for one in trials]
        assert list(found.divergences[row, 1:]) == [one.divergence[0] for one in trials]
        assert list(found.scores[row, 1:]) == [one.score for one in trials]
        assert list(found.losses[row, 1:]) == [one.loss for one in trials]
    assert (found.scores[:, 0] == session.history[0].score).all()
    assert (found.changes[:, 0] == 0).all()
