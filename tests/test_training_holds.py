"""Units that training mode holds: what it draws, counts, averages or returns is the reason given."""

import pytest
import torch
from torch import nn
from training_heads import Head, Net, built, example

import workbench as wb
from workbench.network.finding.proof import find_groups


class Noisy(Head):
    """Training mode draws numbers, and its code counts on eleven units."""

    def train_only(self, x, h, g):
        return [self.aux(h + torch.rand(11))]


class Features(Net):
    def train_only(self, x, h, g):
        return [h]


class Read(nn.Module):
    """Layer `a` is read in training mode alone, and layers of the head run then alone."""

    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(7, 11), nn.Linear(7, 5)
        self.aux, self.last = nn.Linear(11, 9), nn.Linear(9, 3)

    def forward(self, x):
        h, y = self.a(x).relu(), self.o(x)
        return (y, self.last(self.aux(h).relu())) if self.training else y


class FixedSize(Head):
    """The code of training mode counts on eleven units."""

    def train_only(self, x, h, g):
        return [self.aux(h + torch.zeros(11))]


class Average(Head):
    """Training mode takes a constant share of the units, whatever their number."""

    def train_only(self, x, h, g):
        return [self.aux(h) * h.shape[1]]


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        (Noisy, "a", "breaks the network in training mode"),
        (FixedSize, "a", "breaks the network in training mode"),
        (Average, "a", "not the same as silencing them in training mode"),
        (Features, "a", "returned by the network in training mode"),
        (Read, "a", "only training mode reads its units, in aux"),
        (Read, "aux", "the layer runs in training mode alone"),
        (Head, "aux", "the layer runs in training mode alone"),
    ],
)
def test_units_that_training_mode_holds_are_refused_with_the_reason(kind, name, reason):
    model = built(kind)
    group = wb.find_groups(model, example(model))
    found = next(g for g in group if g.name == name)
    assert not found.prunable
    assert reason in found.why_not


class Targets(Net):
    def train_only(self, x, h, g):
        raise ValueError("in training mode targets are needed")


def test_a_network_that_needs_targets_in_training_mode_is_taken_as_it_evaluates():
    groups = find_groups(built(Targets), example(None))
    assert [group.prunable for group in groups] == [True, True, False]
