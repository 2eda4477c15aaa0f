"""The face without a browser: the frontier, the rule of measured damage, megabytes, a shared sweep."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from states import idle, message

from workbench.pruning.budget import Round
from workbench.widgets.beside import brought_back
from workbench.widgets.budget_tab import plan_values, target_of
from workbench.widgets.constants import GOAL, RULE_WORDS, page_constants


@pytest.fixture
def looked(state):
    """The budget tab, with the damage measured."""
    state.tab = "budget"
    return idle(message(idle(state), "measure_damage"))


def curves(state):
    ends = np.cumsum([width + 1 for width in state.frontier["widths"]])
    return dict(zip(state.frontier["names"], np.split(np.frombuffer(state.damages), ends[:-1]), strict=True))


def test_the_rules_stand_in_their_order():
    assert list(RULE_WORDS) == ["equal", "shared", "least", "damage"]
    assert page_constants()["UNITS"][-1] == ("mb", "MB")


def test_it_is_the_sessions_once_damage_is_measured(state, session):
    state.tab = "budget"
    idle(state)
    assert state.frontier == {}
    count = state.unmeasured["missing"]
    assert count == session.damage_forecast()[0] > 9
    revision = state.revision
    idle(message(state, "measure_damage"))
    assert (state.error, state.revision) == ("", revision)
    line = session.frontier()
    names = state.frontier["names"]
    plans = [dict(zip(names, plan, strict=True)) for plan in state.frontier["plans"]]
    assert plans == [plan.widths for plan in line.plans]
    assert state.frontier["changes"] == [plan.change for plan in line.plans]
    assert [one["rule"] for one in state.frontier["others"]] == [plan.rule for plan in line.others]
    damage = session.damage()
    for name, curve in curves(state).items():
        np.testing.assert_array_equal(curve, damage.of(name).curve)
    for plan, change in zip(plans, state.frontier["changes"], strict=True):
        total = sum(curves(state)[name][width] for name, width in plan.items())
        assert change == pytest.approx(1 - np.exp(-total))


def test_measuring_blanks_no_sweep_and_bumps_no_revision(state, session):
    idle(message(state, "sweep_groups", options={}))
    before, revision = state.sweep, state.revision
    session.damage((0.4,))
    idle(state)
    assert (state.sweep, state.revision) == (before, revision)
    assert state.sweep["revision"] == state.revision


def test_one_sweep_serves_both(state, session):
    idle(message(state, "sweep_groups", options={}))
    assert np.isfinite(np.array(state.sweep["changes"], dtype=float)).all()
    assert np.isfinite(np.array(state.sweep["divergences"], dtype=float)).all()
    state.tab = "budget"
    idle(state)
    assert state.unmeasured["missing"] == 0
    assert state.frontier["plans"]


def test_it_is_solved_again_where_what_it_was_solved_for_moves(looked, session):
    looked.widths, looked.locks = {"2": 9}, ["2"]
    idle(looked)
    at = looked.frontier["names"].index("2")
    assert {plan[at] for plan in looked.frontier["plans"]} == {9}
    assert looked.frontier["settings"]["locks"] == {"2": 9}
    looked.goal = {**GOAL, "minimum": "4", "unit": "mb"}
    idle(looked)
    assert min(min(plan) for plan in looked.frontier["plans"]) == 4
    assert looked.frontier["whole"] == pytest.approx(session.original_cost("megabytes"))
    line = looked.frontier
    looked.goal = {**GOAL, "minimum": "none"}
    idle(looked)
    assert (looked.frontier, looked.error) == (line, "")
    looked.goal = {**GOAL, "target": "3x"}
    idle(looked)
    assert looked.frontier["settings"]["unit"] == "macs"


def test_another_way_of_pruning_is_measured_for_itself(looked):
    looked.selection = "magnitude-l1"
    idle(looked)
    assert looked.unmeasured["missing"] > 0
    assert looked.frontier["settings"]["selection"] == "greedy"
    idle(message(looked, "measure_damage"))
    assert looked.frontier["settings"]["selection"] == "magnitude-l1"


def test_after_a_commit_the_line_stays_and_the_change_is_measured(looked, session):
    plan = dict(zip(looked.frontier["names"], looked.frontier["plans"][9], strict=True))
    options = {name: getattr(looked, name) for name in ("theta", "selection", "reconstruction", "reestimate")}
    idle(message(looked, "try_plan", widths=plan, options=options, revision=looked.revision))
    tried = looked.tried_plan
    assert session.position == 0
    idle(message(looked, "commit_plan", widths=plan, options=options, revision=looked.revision))
    assert looked.frontier["revision"] == looked.revision - 1
    assert looked.unmeasured["missing"] > 0
    assert looked.outputs["revision"] == looked.revision
    assert looked.outputs["change"] == pytest.approx(session.output_change().change[0])
    assert (tried["change"], tried["score"]) == (
        pytest.approx(looked.outputs["change"]), session.history[-1].score,
    )  # fmt: skip
    idle(message(looked, "undo"))
    assert looked.frontier["revision"] == looked.revision
    idle(message(looked, "measure"))
    assert looked.unmeasured["missing"] > 0


def test_a_line_of_a_smaller_network_is_not_shown_of_a_larger_one(state, session):
    state.tab = "budget"
    session.commit_plan({"0": 9})
    idle(message(idle(state), "measure_damage"))
    assert state.frontier["plans"]
    session.undo()
    idle(state)
    assert state.frontier == {}


def test_the_rule_measures_what_is_missing_refines_and_says_what_it_won(state, session):
    goal = {"target": "2x", "unit": "mb", "minimum": "2", "multiple": "1", "refine": "30"}
    idle(message(state, "plan", rule="damage", goal=goal, locks=[], widths={}))
    assert state.error == ""
    assert state.planned["rounds"].startswith("started from ")
    assert state.planned["cost"] <= session.original_cost("megabytes") / 2
    assert state.planned["change"] > 0
    idle(message(state, "plan", rule="equal", goal=goal, locks=[], widths={}))
    assert (state.error, state.planned["rounds"]) == ("", "")
    idle(message(state, "plan", rule="damage", goal=goal | {"refine": "soon"}, locks=[], widths={}))
    assert "seconds of refining" in state.error


def test_rounds_are_said_in_words(session):
    plan = session.plan(session.macs / 2, rule="equal")
    object.__setattr__(
        plan,
        "rounds",
        (
            Round("damage", {}, float("nan"), 0.31, True, 1.0),
            Round("least", {}, float("nan"), 0.2412, True, 1.0),
            Round("round 1", {}, 0.2, 0.2134, True, 1.0),
            Round("round 2", {}, 0.2, 0.22, False, 1.0),
        ),
    )
    assert plan_values(plan)["rounds"] == (
        "started from least loss, damage 0.241; round 1: 0.213; round 2: 0.22, not taken"
    )


def test_what_is_cancelled_is_kept_and_said(state, session):
    state.tab = "budget"
    idle(state)
    count, told = state.unmeasured["missing"], threading.Event()
    state.observe(lambda change: change["new"].get("done") == 3 and (told.set(), state.cancel()), "progress")
    idle(message(state, "measure_damage"))
    assert told.is_set()
    assert 0 < state.unmeasured["missing"] < count
    assert state.unmeasured["seconds"] > 0
    assert state.frontier == {}


@pytest.mark.parametrize(("text", "share"), [("50 %", 0.5), ("4x", 0.25)])
def test_shares_are_of_the_originals_megabytes(session, text, share):
    whole = sum(tensor.nbytes for tensor in session.model.state_dict().values()) / 1e6
    session.commit(session.preview("0", width=7))
    assert target_of(session, text, "mb") == pytest.approx(share * whole)
    assert target_of(session, "12.5", "mb") == 12.5
    with pytest.raises(ValueError, match="in megabytes"):
        target_of(session, "1.2 M", "mb")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"target": "3x", "unit": "macs", "minimum": 1, "multiple": 1}, {"target": "3x"}),
        (
            {"target": "2x", "unit": "mb", "minimum": "4", "multiple": "8", "refine": "120"},
            {"target": "2x", "unit": "mb", "minimum": "4", "multiple": "8", "refine": "120"},
        ),
        ({"target": "2x", "unit": "watts"}, None),
        ({"target": "2x", "more": 1}, None),
        ({"target": 1}, None),
    ],
)
def test_goals_of_earlier_versions_come_back_as_far_as_they_fit(session, given, expected):
    found = brought_back({"goal": given}, session, 0)
    assert found.get("goal") == (None if expected is None else GOAL | given | expected)
