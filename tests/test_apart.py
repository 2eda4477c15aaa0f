"""Rounding that adds up from layer to layer is told from what one layer does, without float64."""

import gc

import pytest
import torch
from test_opening_passes import passes
from torch import nn
from torch.nn import functional

import workbench as wb
from workbench.network.collecting import collecting_new_alone
from workbench.network.duplicating import duplicate
from workbench.network.finding.benches import Bench
from workbench.network.finding.trials import Trials

WIDTH, DEPTH = 16, 24
ONE_ROUND = 3  # passes: the whole network, without units, and with these silent


class Chaotic(nn.Module):
    """Layers each of which makes the rounding before it a little larger."""

    def __init__(self, last=None):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 40), nn.Tanh(), nn.Linear(40, WIDTH)) for _ in range(DEPTH)
        )
        for block in self.blocks:
            for layer in (block[0], block[2]):
                nn.init.orthogonal_(layer.weight, 2.2)
        self.last = last or nn.Identity()

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.last(x)


class Hidden(nn.Module):
    """A part of which a little goes wrong with the number of its units, by `share` of what it gives."""

    def __init__(self, share, inside):
        super().__init__()
        self.a, self.b, self.share, self.inside = nn.Linear(WIDTH, 9), nn.Linear(9, 5), share, inside

    def forward(self, x):
        h = self.a(x).tanh()
        factor = 1 + self.share * h.shape[-1]
        return self.b(h * factor) if self.inside else self.b(h) * factor


class Scaling(nn.Linear):
    """A layer that scales what it receives by how many inputs it has."""

    def forward(self, x):
        return functional.linear(x * (1 + 3e-6 * x.shape[-1]), self.weight, self.bias)


def test_rounding_that_adds_up_behind_many_layers_costs_no_rounds_in_float64(monkeypatch):
    doubts, ask = [], Bench.may_add_up
    monkeypatch.setattr(Bench, "may_add_up", lambda *given: doubts.append(ask(*given)) or doubts[-1])
    session, found = passes(Chaotic().eval(), torch.randn(8, WIDTH))
    assert any(doubts)
    assert sum(group.prunable for group in session.groups) == 2 * DEPTH - 1
    assert found[torch.float64] <= ONE_ROUND


@pytest.mark.parametrize("share", [1e-5, 1e-4])
@pytest.mark.parametrize("inside", [True, False])
def test_what_a_layer_does_wrong_shows_behind_rounding_that_adds_up(share, inside):
    model = Chaotic(last=Hidden(share, inside)).eval()
    groups = {g.name: g for g in wb.Session(model, [torch.randn(8, WIDTH)]).groups}
    assert not groups["last.a"].prunable
    assert all(groups[f"blocks.{at}.0"].prunable for at in range(DEPTH))


def test_a_layer_that_does_more_than_multiply_is_not_believed_for_receiving_the_same():
    model = Chaotic(last=nn.Sequential(nn.Linear(WIDTH, 9), nn.Tanh(), Scaling(9, 5))).eval()
    groups = {g.name: g for g in wb.Session(model, [torch.randn(8, WIDTH)]).groups}
    assert not groups["last.0"].prunable


def test_float32_is_asked_again_after_one_trial_in_which_it_told_nothing():
    model, x = Chaotic().eval(), torch.randn(8, WIDTH)
    groups = [group for group in wb.Session(model, [x]).groups if group.prunable]
    trials, tried = Trials(model.requires_grad_(False), x, groups), []
    whole = trials._failure_on

    def doubting(bench, *rest):
        tried.append(bench.quick)
        return "it differs" if bench.quick and len(tried) == 1 else whole(bench, *rest)

    trials._failure_on = doubting
    assert [trials.failure(groups, round_) for round_ in range(2)] == ["", ""]
    assert tried == [True, False, True]


def test_opening_leaves_the_collector_of_garbage_as_it_found_it():
    before = gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()
    inside = []

    @collecting_new_alone()
    @collecting_new_alone()
    def open_it():
        inside.append(gc.get_freeze_count())
        raise RuntimeError("it cannot be opened")

    with pytest.raises(RuntimeError, match="cannot be opened"):
        open_it()
    assert inside[0] > before[2]
    assert (gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()) == before


def test_objects_that_the_user_froze_stay_so():
    gc.freeze()
    try:
        with collecting_new_alone():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_a_copy_keeps_what_two_attributes_share_and_takes_tensors_among_them():
    model = nn.Linear(2, 2)
    model.first = model.second = {}
    model.kept, model.empty = torch.zeros(2), set()
    new = duplicate(model)
    assert new.first is new.second is not model.first
    assert new.empty is not model.empty
    assert torch.equal(new.kept, model.kept)
