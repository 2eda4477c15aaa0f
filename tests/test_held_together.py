"""Bare parameters and buffers that meet each other before a unit meets them all go with that unit."""

import pytest
import torch
from mentions import unmentioned
from silencing import each_alone, lively
from torch import nn

import workbench as wb
from workbench.network.finding.labels import Labels


class Frozen(nn.Module):
    """A batch norm whose numbers are buffers, put together before they meet the channels."""

    def __init__(self, channels):
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(channels) + 0.5)

    def forward(self, x):
        weight, bias, mean, var = (
            tensor.reshape(1, -1, 1, 1)
            for tensor in (self.weight, self.bias, self.running_mean, self.running_var)
        )
        scale = weight * (var + 1e-5).rsqrt()
        return x * scale + (bias - mean * scale)


class Places(nn.Module):
    """A table of places and a start of each feature are summed first; a temperature is one number."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 10), nn.Linear(10, 3)
        self.table, self.start = nn.Parameter(torch.randn(1, 5, 10)), nn.Parameter(torch.randn(10))
        self.temperature = nn.Parameter(torch.tensor([1.5]))

    def forward(self, x):
        return self.b(torch.tanh(self.a(x) + (self.table + self.start) * self.temperature))


NETWORKS = {
    "frozen": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), Frozen(8), nn.ReLU(), nn.Conv2d(8, 6, 3), Frozen(6),
                              nn.ReLU(), nn.Conv2d(6, 2, 1)),
        (3, 9, 9), {"1.weight", "1.bias", "1.running_mean", "1.running_var"}, set(),
    ),
    "places": (Places, (5, 6), {"table", "start"}, {"temperature"}),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_all_that_meet_go_with_the_unit(name):
    build, shape, held, stays = NETWORKS[name]
    torch.manual_seed(0)
    x = torch.randn(4, *shape).double()
    model = lively(build(), x)
    session = wb.Session(model, [x])
    first = session.groups[0]
    assert {f"{part.module}.{part.tensor}".lstrip(".") for part in first.held} == held
    assert unmentioned(session) == set()
    assert {one.name for one in session.stays} == stays
    alone = each_alone(session.model, session.groups, x, times=3)
    assert set(alone) == {group.name for group in session.groups[:-1]}
    assert all(off <= 1e-9 and effect > 1e-4 for off, effect in alone.values())


def test_a_unit_meets_all_of_which_a_held_entry_is_made():
    labels = Labels()
    first, second, third = (labels.hold(torch.zeros(2)) for _ in range(3))
    a, b, c = (-torch.arange(start, start + 2) for start in (first, second, third))
    units = labels.fresh(2)
    labels.meet(labels.meet(labels.meet(a, b), c), units)
    labels.meet(labels.fresh(2), b)
    pairs = {tuple(pair) for pair in labels.linked().tolist()}
    made = {(start + at, int(units[at])) for start in (first, second, third) for at in range(2)}
    assert made < pairs
    assert pairs - made == {(second, 3), (second + 1, 4)}
    assert Labels().linked().shape == (0, 2)
