"""Groups that can only go together at equal widths are one, or refused; no plan gives a wrong network."""

import pytest
import torch
from networks_in_step import NETWORKS, REFUSED, TwoBranches
from silencing import each_alone, lively, open_session, worst_of_plans, worst_together
from torch import nn

import workbench as wb
from workbench.network.cost import count_cost
from workbench.network.cost_model import cost_saved
from workbench.network.finding.assembly import discover
from workbench.network.finding.proof import find_groups
from workbench.network.finding.trials import ROUNDS, Trials, lost_in_round
from workbench.network.surgery import remove_units


def opened(name):
    torch.manual_seed(0)
    build, shape = (NETWORKS | REFUSED)[name]
    return lively(build()), torch.randn(6, *shape, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("name", [*NETWORKS, *REFUSED])
def test_every_group_alone_and_plans_of_unequal_widths_are_silencing(name):
    model, x = opened(name)
    session = open_session(model, x)
    alone = each_alone(session.original, session.groups, x, times=4)
    assert all(wrong < 1e-9 < effect for wrong, effect in alone.values()), alone
    if alone:
        assert worst_of_plans(session, x, plans=4) < 1e-9
        assert worst_together(session.original, session.groups, x, times=4) < 1e-9


@pytest.mark.parametrize("name", NETWORKS)
def test_what_goes_in_step_is_prunable(name):
    model, x = opened(name)
    refused = [g for g in find_groups(model, x) if not g.prunable and "network's outputs" not in g.why_not]
    assert not refused, [g.details() for g in refused]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_linked_says_why(name):
    model, x = opened(name)
    refused = [g for g in find_groups(model, x) if not g.prunable]
    assert refused
    assert all(g.why_not for g in refused)


def test_two_branches_of_a_shuffle_are_one_group_and_a_unit_is_one_of_each():
    model, x = lively(TwoBranches()), torch.randn(4, 3, 9, 9).double()
    group, out = find_groups(model, x)
    assert (group.name, group.width, group.linked) == ("first", 12, ("first", "second"))
    assert [w.module for w in group.writers] == ["first", "second"]
    (reader,) = group.readers
    assert reader.columns.tolist() == [[2 * j, 2 * j + 1] for j in range(12)]
    assert not out.prunable


def test_halves_of_one_layer_under_two_activations_are_one_group():
    model, x = opened("halves under two activations")
    group = find_groups(model, x)[0]
    assert group.width == 8
    assert group.writers[0].rows.tolist() == [[j, j + 8] for j in range(8)]
    assert "parts of it go in step" in group.details()


def test_a_network_that_breaks_at_a_single_unit_keeps_two():
    model, x = opened("a careless squeeze")
    first, stays, _ = find_groups(model, x)
    assert (first.name, first.width, first.prunable) == ("first", 7, True)
    assert (stays.width, stays.prunable) == (1, False)
    assert "a single unit" in stays.why_not
    session = open_session(model, x)
    session.commit_plan({"first": 1})
    assert session.model(x).shape == (6, 4)


def test_groups_that_are_not_bound_stay_groups_of_their_own():
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(9, 9) if i % 2 == 0 else nn.ReLU() for i in range(11)])
    groups = find_groups(model, torch.randn(5, 9))
    assert [g.linked for g in groups] == [()] * 6


def test_sixty_groups_are_proved_in_a_few_passes():
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(9, 9) if i % 2 == 0 else nn.ReLU() for i in range(121)]).double().eval()
    x, passes = torch.randn(5, 9).double(), 0

    def count(_module, _args):
        nonlocal passes
        passes += 1

    model.register_forward_pre_hook(count)
    groups = find_groups(model, x)
    assert sum(g.prunable for g in groups) == 60
    assert passes <= 2 * ROUNDS + 1 + 11  # each round twice, the whole once; traces, what precedes them


def test_a_batch_of_any_size_is_proved_on_a_few_examples():
    model, seen = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)), []
    model.register_forward_pre_hook(lambda _m, args: seen.append(len(args[0])))
    find_groups(model, torch.randn(500, 5))
    assert max(seen) <= 8


@pytest.mark.parametrize("width", [2, 3, 5, 16, 97])
def test_rounds_take_other_shares_of_each_group_and_leave_it_whole_once(width):
    for index in range(8):
        counts = [len(lost_in_round(r, index, width)) for r in range(ROUNDS)]
        assert sorted(counts[1:])[0] == 0
        assert {1, width - 1} <= set(counts)
        assert max(counts) < width
    neighbours = [[len(lost_in_round(r, i, width)) for r in range(ROUNDS)] for i in range(2)]
    assert neighbours[0] != neighbours[1]


def test_one_run_of_units_goes_at_once():
    for index in range(8):
        runs = [lost_in_round(r, index, 40) for r in range(1, ROUNDS)]
        assert any(len(run) > 5 and run[-1] - run[0] == len(run) - 1 for run in runs)


def test_a_pair_that_fails_only_together_is_not_believed():
    class Odd(nn.Module):
        """Right while either of two layers is whole."""

        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            hidden = self.a(x).relu()
            both = hidden.shape[-1] < 8 and self.b.out_features < 8
            return self.c(self.b(hidden).relu() * (2 if both else 1))

    torch.manual_seed(0)
    groups = find_groups(Odd().eval(), torch.randn(6, 5))
    assert sum(g.prunable for g in groups) == 1


def test_trials_count_the_whole_network_once():
    model, x = lively(TwoBranches()), torch.randn(4, 3, 9, 9).double()
    groups = [g for g in discover(model, x).groups if g.prunable]
    trials = Trials(model, x, groups)
    assert trials.failure(groups, 0)
    assert trials.failure(groups[:1], 1) or trials.failure(groups[:1], 2)
    assert trials.passes <= 7


@pytest.mark.parametrize("reconstruction", ["none", "channel", "kernel", "original"])
@pytest.mark.parametrize(
    "name", ["C2f with shortcuts", "two branches and a shuffle", "parts of a kept width"]
)
def test_every_reconstruction_takes_linked_units(name, reconstruction):
    model, x = opened(name)
    session = open_session(model, x)
    group = next(g for g in session.groups if g.linked)
    whole = session.model(x)
    choice = session.preview(group.name, width=group.width, lam=1e-12 * session.spectrum(group.name).trace)
    assert choice.output_loss < 1e-6
    session.commit(session.preview(group.name, width=group.width // 2, reconstruction=reconstruction))
    error = (session.model(x) - whole).norm() / whole.norm()
    assert 0 < error.item() < 1
    session.refit()
    session.undo()
    session.undo()
    assert torch.equal(session.model(x), whole)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_linked_units_save_is_counted(name):
    model, x = opened(name)
    groups, whole = find_groups(model, x), count_cost(model, x)
    for group in (g for g in groups if g.prunable):
        kept = list(range(0, group.width, 2))
        left = count_cost(remove_units(model, groups, group.name, kept)[0], x)
        saved = cost_saved(whole, group, len(kept), model)
        assert saved == (whole.parameters - left.parameters, whole.macs - left.macs), group.name


def test_linked_units_are_saved_and_open_again(tmp_path):
    model, x = opened("C2f")
    session = open_session(model, x)
    session.commit_plan({"cv1[0:8]": 5, "m.0": 3})
    session.save(tmp_path / "saved")
    again = wb.Session.open(tmp_path / "saved", model, [x])
    assert torch.equal(again.model(x), session.model(x))


def test_reconstruction_of_linked_units_is_better_than_none():
    model, x = opened("C2f")
    session, errors = open_session(model, x), {}
    for reconstruction in ("none", "channel", "kernel"):
        session.commit(session.preview("cv1[0:8]", width=5, reconstruction=reconstruction))
        errors[reconstruction] = (session.model(x) - session.original(x)).norm().item()
        session.undo()
    assert errors["kernel"] < errors["channel"] < errors["none"]
