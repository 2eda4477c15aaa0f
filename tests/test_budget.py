"""Widths for a target: each rule ends at the target or just under it, and the limits hold."""

from threading import Event

import numpy as np
import pytest
import torch
from families import FAMILIES
from networks import conv_net, images, mlp
from torch import nn

from workbench.data.progress import Cancelled
from workbench.network.cost import count_cost
from workbench.network.cost_model import CostModel, Total
from workbench.pruning.budget import RULES, GroupBudget, Limits, solve, widths_at
from workbench.session.session import Session


def measured(name="resnet-bottleneck", n=64):
    family = FAMILIES[name]
    session = Session(family.build(), [(family.inputs(n), None)])
    session.measure()
    return session


@pytest.fixture(scope="module")
def session():
    return measured()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("unit", ["macs", "parameters"])
@pytest.mark.parametrize("share", [0.8, 0.5, 0.25])
def test_the_target_is_met_and_not_undershot(session, rule, unit, share):
    whole = {"macs": session.macs, "parameters": session.parameters}[unit]
    plan = session.plan(share * whole, unit, rule)
    assert plan.met
    assert plan.cost <= share * whole
    if rule != "least":
        assert plan.cost >= 0.95 * share * whole
        return
    # One unit more in any group would not fit.
    model = session.cost_model
    for name, width in plan.widths.items():
        if width < session.group(name).width:
            more = model.total(plan.widths | {name: width + 1})[unit == "macs"]
            assert more > share * whole


@pytest.mark.parametrize("rule", RULES)
def test_the_plan_costs_what_the_pruned_network_does(rule):
    session = measured("mobilenetv2")
    plan = session.plan(0.5 * session.macs, rule=rule)
    session.commit_plan(plan, selection="magnitude-l1", reconstruction="none")
    assert (session.parameters, session.macs) == (plan.parameters, plan.macs)
    cost = count_cost(session.model, FAMILIES["mobilenetv2"].inputs(1))
    assert (cost.parameters, cost.macs) == (plan.parameters, plan.macs)


@pytest.mark.parametrize(
    ("name", "rule"),
    [*(("vgg-bn", rule) for rule in RULES), *(("resnet20", rule) for rule in RULES if rule != "damage")],
)
def test_the_biases_that_the_fit_to_the_original_adds_are_counted(name, rule):
    session = measured(name, 16)
    target = 0.5 * session.parameters
    plan = session.plan(target, "parameters", rule, reconstruction="original")
    without = session.plan(target, "parameters", rule)
    assert plan.met
    assert plan.cost == plan.parameters <= target
    if rule == "least":
        model = session.cost_model
        for group, width in plan.widths.items():
            if width < session.group(group).width:
                assert model.total(plan.widths | {group: width + 1}, biased=True)[0] > target
    session.commit_plan(plan, reconstruction="original")
    assert session.parameters == plan.parameters
    session.undo()
    session.commit_plan(without, reconstruction="channel")
    assert session.parameters == without.parameters


@pytest.mark.parametrize("rule", RULES)
def test_locks_minimum_and_multiple_hold(session, rule):
    first, second = [g.name for g in session.groups if g.prunable][:2]
    locks = {first: session.group(first).width, second: 2}
    plan = session.plan(0.5 * session.macs, rule=rule, locks=locks, minimum=3, multiple=4)
    assert plan.widths[first] == locks[first]
    assert plan.widths[second] == 2
    for name, width in plan.widths.items():
        if name not in locks:
            assert width == session.group(name).width or (width % 4 == 0 and width >= 3)


def test_a_target_out_of_reach_names_the_nearest(session):
    plan = session.plan(10, rule="least", minimum=2)
    assert not plan.met
    assert "cannot be met: the nearest is" in plan.message
    assert all(width == min(2, session.group(name).width) for name, width in plan.widths.items())
    assert f"{plan.macs:,}" in plan.message


def test_a_target_above_the_present_cost_keeps_everything(session):
    plan = session.plan(2 * session.macs)
    assert plan.widths == {g.name: g.width for g in session.groups if g.prunable}


def test_one_lambda_gives_every_width():
    session = measured("vgg-bn")
    plan = session.plan(0.4 * session.macs, rule="shared")
    assert plan.lam is not None
    for name, width in plan.widths.items():
        spectrum = session.spectrum(name)
        freedom = spectrum.degrees_of_freedom(plan.lam * spectrum.trace)
        assert np.ceil(freedom - 1e-6) <= width <= np.ceil(freedom) + 1


@pytest.mark.parametrize("multiple", [1, 4, 8, 500])
@pytest.mark.parametrize("share", [0.9, 0.6, 0.4])
def test_the_shared_lambda_of_a_plan_asks_for_its_widths_and_no_more_fits(session, multiple, share):
    budgets = session.budget_groups(remeasure=False)
    first = budgets[0]
    limits = Limits({first.name: first.width - 1}, 3, multiple)
    plan = session.plan(share * session.macs, rule="shared", locks=limits.locks, minimum=3, multiple=multiple)
    if plan.lam is None:
        smallest = {g.name: min(g.width, -(-min(3, g.width) // multiple) * multiple) for g in budgets}
        assert plan.widths == smallest | limits.locks
        return
    assert plan.met
    asked = widths_at(budgets, plan.lam, limits)
    for group in budgets:
        low = asked[group.name]
        above = [w for w in range(low + 1, group.width + 1) if w == group.width or w % multiple == 0]
        assert plan.widths[group.name] in (low, *above[:1])  # the next step where that still fitted
    smaller = widths_at(budgets, plan.lam * (1 - 1e-6), limits)
    assert session.cost_model.total(asked)[1] <= share * session.macs
    assert session.cost_model.total(smaller)[1] >= session.cost_model.total(asked)[1]


def test_a_multiple_is_rounded_up_to_since_lambda_asks_for_so_many_at_least():
    budgets = [GroupBudget(str(m), m, np.zeros(m + 1), np.ones(m)) for m in (5, 16, 37)]
    lam = 0.5  # of the trace: N(λ) = m / (1 + m / 2)
    assert widths_at(budgets, lam) == {"5": 2, "16": 2, "37": 2}
    assert widths_at(budgets, lam, Limits(multiple=8)) == {"5": 5, "16": 8, "37": 8}
    assert widths_at(budgets, lam, Limits(minimum=9, multiple=8)) == {"5": 5, "16": 16, "37": 16}
    assert widths_at(budgets, lam, Limits({"37": 11}, 40, 64)) == {"5": 5, "16": 16, "37": 11}


def chain(width=13):
    """Two groups that cost the same, one of which loses a hundred times as much."""
    model = mlp(width, width, width, width).eval()
    groups = Session(model, torch.randn(32, width))
    cost = CostModel.of(groups.model, groups.groups, count_cost(groups.model, torch.randn(1, width)))
    losses = np.linspace(1, 0, width + 1) ** 2
    ones = np.ones(width)
    return [
        GroupBudget(name, width, losses, ones, scale)
        for name, scale in zip(cost.groups, (1.0, 100.0), strict=True)
    ], cost


def test_least_loss_takes_from_the_group_that_loses_less():
    groups, cost = chain()
    plan = solve("least", groups, cost, 0.6 * cost.macs)
    cheap, dear = plan.widths.values()
    assert cheap < dear


def test_least_loss_is_the_best_of_all_widths_on_a_small_case():
    groups, cost = chain(7)
    target = 0.5 * cost.macs
    plan = solve("least", groups, cost, target)

    def loss(widths):
        return sum(group.decay[width] for group, width in zip(groups, widths, strict=True))

    every = [
        (a, b)
        for a in range(1, 8)
        for b in range(1, 8)
        if cost.total(dict(zip(cost.groups, (a, b), strict=True)))[1] <= target
    ]
    assert loss(plan.widths.values()) <= 1.05 * min(map(loss, every))


def test_a_dear_step_does_not_hide_a_cheap_one():
    groups, cost = chain(7)
    odd = np.array([1.0, 0.5, 0.5, 0.5, 0.5, 0.49, 0.49, 0.0])  # the first to go is dear, the next are free
    steady = np.linspace(1, 0, 8)
    hidden = [
        GroupBudget(groups[0].name, 7, odd, np.ones(7)),
        GroupBudget(groups[1].name, 7, steady, np.ones(7)),
    ]
    plan = solve("least", hidden, cost, 0.4 * cost.macs)
    assert plan.widths[groups[0].name] <= 1


BAD = [
    ({"rule": "magic"}, "rule must be one of"),
    ({"unit": "bananas"}, "unit must be one of"),
    ({"target": 0}, "positive number"),
    ({"target": float("nan")}, "positive number"),
    ({"locks": {"nowhere": 3}}, "no prunable group is called 'nowhere'"),
    ({"locks": {"conv1": 99}}, "cannot be locked at 99"),
    ({"locks": {"conv1": 4.5}}, "cannot be locked at 4.5"),
    ({"minimum": 2.5}, "whole numbers, 1 or more"),
    ({"multiple": None}, "whole numbers, 1 or more"),
    ({"minimum": 0}, "whole numbers, 1 or more"),
    ({"reconstruction": "magic"}, "reconstruction must be one of"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_bad_input_is_told(change, words):
    session = Session(conv_net(), images(16))
    session.measure()
    options = {"target": session.macs / 2} | change
    with pytest.raises(ValueError, match=words):
        session.plan(options.pop("target"), **options)


def test_numbers_of_numpy_are_numbers():
    session = Session(conv_net(), images(16))
    session.measure()
    half, plain = session.macs // 2, {"locks": {"conv1": 4}, "minimum": 2, "multiple": 2}
    numbers = {"locks": {"conv1": np.int64(4)}, "minimum": np.int32(2), "multiple": 2.0}
    plan = session.plan(np.int64(half), **numbers)
    assert plan == session.plan(half, **plain)
    assert session.plan(np.float32(half), **numbers).widths == plan.widths
    assert {type(n) for n in (*plan.widths.values(), plan.parameters, plan.macs)} == {int}
    assert (type(plan.target), type(plan.met)) == (float, bool)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.Flatten(), nn.BatchNorm1d(64)),
        nn.Sequential(nn.Flatten(2), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 2), nn.BatchNorm1d(2)),
        nn.Sequential(nn.Flatten(2), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 4), nn.BatchNorm1d(2)),
    ],
    ids=["after flatten", "over positions, as many", "over positions"],
)
def test_a_norm_over_other_channels_than_a_layers_outputs_does_not_scale_its_losses(model):
    session = Session(model, images(16))
    session.measure()
    assert [reader.norm for group in session.groups if group.prunable for reader in group.readers] == [""]
    assert session.plan(session.macs / 2).met


def test_a_target_in_seconds_tells_its_progress_and_is_cancelled():
    session, cancel, said = measured("vgg-bn", 8), Event(), []

    def progress(*one):
        said.append(one)
        cancel.set()

    with pytest.raises(Cancelled):
        session.plan(1e-9, "seconds", "equal", progress=progress, cancel=cancel)
    assert said == [(0, 8, "measuring latency")]


def test_the_work_for_sixty_wide_groups_grows_as_the_units_that_go(monkeypatch):
    counted, saving = [], Total.saving
    monkeypatch.setattr(Total, "saving", lambda *args: counted.append(1) or saving(*args))
    groups, cost = long_chain(60, 512)
    plan = solve("least", groups, cost, 0.4 * cost.macs, limits=Limits(minimum=8))
    gone = sum(512 - width for width in plan.widths.values())
    assert plan.met
    # For each unit its own saving, and the prices of the three groups at most that share a layer with it.
    assert gone <= len(counted) <= 4 * gone + 3 * 60


def long_chain(count, width):
    from workbench.network.cost_model import Term

    terms = tuple(
        Term(
            f"layer{i}",
            width,
            width,
            width * width * 9,
            1000 * width * width,
            0,
            ((i, 1),) if i < count else (),
            ((i - 1, 1),) if i else (),
        )
        for i in range(count + 1)
    )
    names = tuple(f"group{i}" for i in range(count))
    cost = CostModel(
        names, (width,) * count, sum(t.parameters for t in terms), sum(t.macs for t in terms), terms
    )
    rng = np.random.default_rng(0)
    values = np.sort(rng.random((count, width)) ** 4, axis=1)
    losses = [np.concatenate([np.cumsum(v)[::-1], [0.0]]) / v.sum() for v in values]
    return [
        GroupBudget(name, width, curve, np.ones(width)) for name, curve in zip(names, losses, strict=True)
    ], cost
