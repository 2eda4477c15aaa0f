"""Plans, branches and comparisons of a session."""

import csv
import random
from threading import Event

import numpy as np
import pytest
import torch
from labelled import HALF, TARGETS, same, session_of, weights
from networks import conv_net, images

from workbench.data.progress import Cancelled
from workbench.measure.moments import measure_moments
from workbench.pruning.problem import NotMeasuredError
from workbench.pruning.state import StaleMomentsError
from workbench.session.replay import replay
from workbench.session.session import Session
from workbench.tuning.settings import Tuning


@pytest.mark.parametrize("reconstruction", ["channel", "kernel", "original", "none"])
def test_a_plan_is_what_its_commits_are_one_by_one(reconstruction):
    together, apart = session_of(), session_of()
    together.commit_plan(HALF, reconstruction=reconstruction)
    for name, width in HALF.items():
        lam = 1e-6 * apart.spectrum(name).trace
        apart.commit(apart.preview(name, width=width, lam=lam, reconstruction=reconstruction))
    assert same(weights(together), weights(apart))


def test_where_all_units_are_kept_nothing_is_fitted_and_nothing_saved():
    session = session_of()
    before = weights(session)
    choice = session.preview("conv1", width=7, reconstruction="original")  # its reader has no bias
    session.commit(choice)
    assert (choice.parameters_saved, choice.macs_saved) == (0, 0)
    assert session.history[1].parameters == session.history[0].parameters
    assert same(weights(session), before)


def test_a_plan_is_undone_at_once_or_layer_by_layer():
    session = session_of()
    session.commit(session.preview("fc1", width=11))
    before = weights(session)
    steps = session.commit_plan(HALF)
    after = weights(session)
    assert [step.plan for step in steps] == ["plan 1: 3 groups"] * 3
    assert [step.score is None for step in steps] == [True, True, False]
    session.undo()
    assert session.position == 1
    assert same(weights(session), before)
    session.redo()
    assert session.position == 4
    assert same(weights(session), after)
    session.goto(3)
    assert [session.group(n).width for n in HALF] == [4, 6, 11]
    session.undo()
    assert session.position == 1


def test_ten_random_plans_undone_and_redone_are_the_same_to_the_bit():
    rng = random.Random(5)
    session = session_of()
    seen = [(weights(session), session.history)]
    for _ in range(10):
        widths = {g.name: rng.randint(max(1, g.width - 1), g.width) for g in session.groups if g.prunable}
        if all(widths[g.name] == g.width for g in session.groups if g.prunable):
            name = next(g.name for g in session.groups if g.prunable and g.width > 1)
            widths[name] -= 1
        session.commit_plan(widths, reconstruction=rng.choice(["channel", "kernel", "original"]))
        seen.append((weights(session), session.history))
    for state, _ in reversed(seen[:-1]):
        session.undo()
        assert same(weights(session), state)
    assert session.position == 0
    for state, _ in seen[1:]:
        session.redo()
        assert same(weights(session), state)
    assert session.history == seen[-1][1]


def test_a_plan_that_is_cancelled_changes_nothing():
    session = session_of()
    before, cancel = weights(session), Event()
    cancel.set()
    with pytest.raises(Cancelled):
        session.commit_plan(HALF, cancel=cancel)
    assert session.position == 0
    assert same(weights(session), before)


BAD = [({"nowhere": 3}, "no group is called"), ({"conv1": 0}, "cannot get 0"), ({"fc2": 2}, "not prunable"),
       ({"conv1": 7}, "nothing to commit")]  # fmt: skip


@pytest.mark.parametrize(("widths", "words"), BAD)
def test_a_bad_plan_is_told_and_changes_nothing(widths, words):
    session = session_of()
    with pytest.raises(ValueError, match=words):
        session.commit_plan(widths)
    assert session.position == 0


def test_sequential_plans_measure_again_on_the_way():
    session = session_of(procedure="sequential")
    session.commit_plan(HALF)
    other = session_of(procedure="sequential")
    for name, width in HALF.items():
        if name in other.stale:
            other.remeasure()
        other.commit(other.preview(name, width=width, lam=1e-6 * other.spectrum(name).trace))
    assert same(weights(session), weights(other))


@pytest.mark.parametrize("way", ["commit", "plan"])
def test_norms_estimated_anew_leave_every_moment_stale_under_the_sequential_procedure(way):
    session = session_of(procedure="sequential")
    if way == "commit":
        session.commit(session.preview("conv2", width=6, reestimate=True))
    else:
        session.commit_plan({"conv2": 6, "fc1": 7}, reestimate=True)
    assert set(session.stale) == {"conv1", "conv2", "fc1"}
    assert set(session.stale.values()) == {"measured before the norms were re-estimated"}
    before = float(session.moment("conv1").matrix.trace())
    session.remeasure()
    fresh = measure_moments(session.model, session.groups, session.calibration)
    for name in ("conv1", "conv2", "fc1"):
        torch.testing.assert_close(session.moment(name).matrix, fresh[name].moments[0].matrix)
    assert float(session.moment("conv1").matrix.trace()) != before


def test_a_choice_made_before_another_commit_is_refused_under_the_sequential_procedure():
    session = session_of(procedure="sequential")
    early = session.preview("fc1", width=7)
    session.commit(session.preview("conv1", width=3))
    for use in (session.commit, session.try_choice):
        with pytest.raises(StaleMomentsError, match="made on moments of fc1 that were measured before"):
            use(early)
    session.remeasure()
    with pytest.raises(StaleMomentsError, match="made on moments of fc1 that were measured again since"):
        session.commit(early)
    assert session.position == 1
    session.commit(session.preview("fc1", width=7))


def test_stale_moments_are_measured_again_before_they_are_planned_or_swept_on():
    asked, sweeping = session_of(procedure="sequential"), session_of(procedure="sequential")
    for session in (asked, sweeping):
        session.commit(session.preview("conv1", width=3, reconstruction="none"))
    known = asked.budget_groups(remeasure=False)
    assert asked.stale
    plan = asked.plan(0.6 * asked.macs)
    assert not asked.stale
    assert any(
        (one.losses != two.losses).any() for one, two in zip(known, asked.budget_groups(), strict=True)
    )
    assert plan.widths == asked.plan(0.6 * asked.macs).widths
    np.testing.assert_array_equal(sweeping.sensitivity((0.5,)).losses, asked.sensitivity((0.5,)).losses)


def test_a_plan_and_a_tuning_survive_saving_and_replay(tmp_path):
    session = session_of()
    session.commit_plan(HALF, reestimate=True)
    session.finetune(tuning=Tuning(steps=3, rate=1e-4))
    session.commit(session.preview("fc1", width=3))
    session.save(tmp_path)
    x = images(64)
    data = [(x, TARGETS)]
    opened = Session.open(tmp_path, conv_net(), data, data)
    assert same(weights(opened), weights(session))
    assert [step.label for step in opened.history] == [step.label for step in session.history]
    assert [step.score for step in opened.history] == [step.score for step in session.history]
    opened.goto(3)
    session.goto(3)
    assert same(weights(opened), weights(session))
    opened.undo()
    assert opened.position == 0
    again = replay(tmp_path / "recipe.json", conv_net(), data, data)
    session.goto(5)
    for key, value in again.model.state_dict().items():
        torch.testing.assert_close(value, session.model.state_dict()[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("procedure", ["simultaneous", "sequential"])
def test_taylor_goes_through_a_whole_plan(procedure):
    session = session_of(procedure=procedure)
    session.measure_gradients()
    session.commit_plan(HALF, selection="taylor")
    assert [step.choice.selection for step in session.history[1:]] == ["taylor"] * 3
    session.reset()
    assert session.compare(HALF, ["taylor"], ["channel"]).rows[0].score is not None


# Branches


def test_branches_keep_their_own_steps():
    session = session_of()
    session.commit(session.preview("conv1", width=5))
    session.fork("thin")
    session.commit(session.preview("conv2", width=2))
    assert session.branch == "thin"
    thin = weights(session)
    session.switch("main")
    assert session.position == 1
    session.commit(session.preview("fc1", width=2))
    session.switch("thin")
    assert same(weights(session), thin)
    assert {name: len(steps) for name, steps in session.branches.items()} == {"main": 3, "thin": 3}
    for wrong in ("thin", " "):
        with pytest.raises(ValueError, match="name of its own"):
            session.fork(wrong)
    with pytest.raises(ValueError, match="there are main, thin"):
        session.switch("fat")
    with pytest.raises(ValueError, match="present branch"):
        session.drop("thin")
    session.drop("main")
    assert list(session.branches) == ["thin"]


# Comparing


def test_a_comparison_scores_every_way_and_changes_nothing(tmp_path):
    session = session_of()
    before = weights(session)
    plans = [session.plan(share * session.macs) for share in (0.7, 0.4)]
    found = session.compare(plans, ["greedy", "magnitude-l1", "random"], ["none", "channel"])
    assert len(found.rows) == 12
    assert {row.macs for row in found.rows} == {plan.macs for plan in plans}
    assert same(weights(session), before)
    assert session.position == 0
    row = next(r for r in found.rows if (r.budget, r.selection, r.reconstruction) == (1, "greedy", "channel"))
    session.commit_plan(plans[1])
    assert row.score == session.history[-1].score
    found.to_csv(tmp_path / "rows.csv")
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert [float(r["score"]) for r in rows] == [r.score for r in found.rows]
    assert found.to_markdown().count("\n") == 13


def test_comparing_what_is_already_committed_is_told():
    session = session_of()
    session.commit_plan(HALF)
    with pytest.raises(ValueError, match="no group gets narrower in budget 2 of 2"):
        session.compare([{"fc1": 3}, HALF])


def test_the_unpruned_score_is_the_originals_also_from_a_later_step():
    session = Session(conv_net(), images(64), lambda model: sum(p.numel() for p in model.parameters()))
    session.measure()
    session.commit_plan({"conv1": 2, "fc1": 2})
    start = session.history[0].score
    assert start != session.history[-1].score
    assert session.compare({"conv2": 3}, ["greedy"], ["none"]).unpruned == start
    assert session.sensitivity((0.5,)).unpruned == start


def test_taylor_needs_gradients_and_says_so():
    session = session_of()
    with pytest.raises(NotMeasuredError, match="measure_gradients"):
        session.compare(HALF, ["taylor"], ["none"])
    session.measure_gradients()
    (row,) = session.compare(HALF, ["taylor"], ["none"]).rows
    assert row.score is not None


def test_the_taylor_score_is_the_change_of_the_loss_to_first_order():
    session = session_of()
    session.measure_gradients()
    x, model = images(64), session.model
    scores = session.original_statistics()["fc1"].taylor

    def loss(scale, unit):
        def shrink(_m, args):
            value = args[0].clone()
            value[:, unit] *= scale
            return (value,)

        handle = model.fc2.register_forward_pre_hook(shrink)
        with torch.no_grad():
            found = torch.nn.functional.cross_entropy(model(x).double(), TARGETS)
        handle.remove()
        return float(found)

    for unit in (0, 5, 12):
        slope = (loss(1 + 1e-3, unit) - loss(1 - 1e-3, unit)) / 2e-3
        assert abs(slope) == pytest.approx(float(scores[unit]), rel=1e-3, abs=1e-7)


def test_a_sweep_takes_each_group_alone():
    session = session_of()
    found = session.sensitivity((1.0, 0.5))
    assert found.groups == ("conv1", "conv2", "fc1")
    assert found.scores.shape == found.losses.shape == (3, 2)
    assert np.allclose(found.scores[:, 0], session.history[0].score, atol=0.05)
    assert (found.losses[:, 1] >= found.losses[:, 0]).all()
    assert session.position == 0
    with pytest.raises(ValueError, match="shares of the width"):
        session.sensitivity((0.5, 1.5))


@pytest.mark.parametrize("rule", ["equal", "shared", "least"])
def test_planning_tells_how_far_it_is_and_is_cancelled_between_two_groups(rule):
    session = session_of()
    told, cancel = [], Event()
    session.plan(session.macs // 2, rule=rule, progress=lambda *one: told.append(one), cancel=cancel)
    assert {done for done, total, what in told if "predicting" in what} == set(range(len(HALF)))
    assert any("comparing" in what for *_, what in told) == (rule == "least")

    def stop(done, _total, _what):
        if done == 1:
            cancel.set()

    session = session_of()
    with pytest.raises(Cancelled, match="planning"):
        session.plan(session.macs // 2, rule=rule, progress=stop, cancel=cancel)
