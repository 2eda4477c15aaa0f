"""Nothing goes unmentioned: every parameter is in a group, or in the list of what stays with the reason."""

import re

import pytest
import small_transformers
import torch
from families import FAMILIES
from mentions import check_census
from small_transformers import NETWORKS
from torch import nn
from torch.nn import functional

import workbench as wb
from workbench.network.finding.proof import take_apart


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_of_a_family_is_mentioned(name):
    session = wb.Session(FAMILIES[name].build(), [(FAMILIES[name].inputs(4), None)])
    check_census(session)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_of_a_network_of_transformers_is_mentioned(name):
    check_census(wb.Session(small_transformers.build(name), [NETWORKS[name][1](2)]))


class Own(nn.Module):
    """Everything that has no group of its own, a parameter a kind."""

    def __init__(self):
        super().__init__()
        self.a, self.idle, self.b = nn.Linear(6, 10), nn.Linear(10, 10), nn.Linear(10, 3)
        self.norm, self.slope = nn.LayerNorm(10), nn.PReLU()
        self.scale, self.matrix = nn.Parameter(torch.ones(())), nn.Parameter(torch.randn(10, 10))
        self.unused, self.start = nn.Parameter(torch.ones(4)), nn.Parameter(torch.randn(1, 1, 6))
        self.shift = nn.Parameter(torch.randn(10))

    def forward(self, x):
        x = torch.cat([self.start.expand(len(x), 1, 6), x], 1)
        x = self.slope(self.a(x)) * self.scale @ self.matrix
        return self.b(self.norm(x) + self.shift)


def test_each_reason_is_the_true_one():
    torch.manual_seed(0)
    session = wb.Session(Own(), [torch.randn(4, 5, 6)])
    check_census(session)
    why = {one.name: one.why_not for one in session.stays}
    assert why["scale"] == why["slope.weight"] == "it is one number for all units"
    assert "multiplies by it" in why["matrix"]
    assert "does not use it" in why["unused"]
    assert "no units" in why["start"]
    assert "norm" in why["norm.weight"]
    assert "no units" in why["shift"]
    assert not any(name.startswith(("a.", "b.", "idle.")) for name in why)


def test_a_parameter_that_goes_with_units_that_stay_says_which():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.place = nn.Linear(6, 10), nn.Linear(10, 3), nn.Parameter(torch.randn(10))

        def forward(self, x):
            return self.b(functional.normalize(self.a(x) + self.place, dim=-1))

    session = wb.Session(Shifted(), [torch.randn(4, 6)])
    (place,) = session.stays
    assert place.name == "place"
    assert re.search("the units of a, which stay: .*mixed", place.why_not)


def test_parameters_that_go_with_units_are_in_their_group():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.scale = nn.Linear(6, 10), nn.Linear(10, 3), nn.Parameter(torch.randn(10))

        def forward(self, x):
            return self.b(self.a(x).relu() * self.scale)

    assert wb.Session(Scaled(), [torch.randn(4, 6)]).stays == ()


def test_what_does_not_run_is_said_so():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.rnn = nn.Linear(6, 3), nn.LayerNorm(3), nn.LSTM(3, 4, proj_size=2)
            self.per = nn.BatchNorm1d(3)

        def forward(self, x):
            return self.a(x)

    session = wb.Session(Unused(), [torch.randn(4, 6)])
    check_census(session)
    assert {one.name.split(".")[0] for one in session.stays} == {"norm", "per"}
    assert all("does not run" in one.why_not for one in session.stays)


def test_a_network_that_cannot_be_traced_says_so_of_every_parameter():
    class Strange(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.scale = nn.Linear(6, 10), nn.Linear(10, 3), nn.Parameter(torch.ones(10))

        def forward(self, x):
            x = self.a(x) * self.scale
            if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
                x = x.view(7, 10)
            return self.b(x)

    reference = Strange()
    groups, stays = take_apart(reference, torch.randn(4, 6))
    assert {g.name for g in groups} == {"a", "b"}
    assert [one.name for one in stays] == ["scale"]
    assert "could not be traced" in stays[0].why_not
