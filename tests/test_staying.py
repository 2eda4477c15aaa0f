"""Nothing goes unmentioned: every parameter is in a group, or in the list of what stays with the reason."""

import re

import pytest
import small_transformers
import torch
from mentions import unmentioned
from silencing import each_alone
from small_transformers import NETWORKS, ODD, images, tokens
from torch import nn
from torch.nn import functional

import workbench as wb
from workbench.network.finding.proof import take_apart


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_of_a_network_of_transformers_is_mentioned(name):
    assert unmentioned(wb.Session(small_transformers.build(name), [NETWORKS[name][1](2)])) == set()


@pytest.mark.parametrize("name", ODD)
def test_odd_networks_are_opened_measured_and_mentioned_whole(name):
    transformers = pytest.importorskip("transformers")
    options, which, least = ODD[name]
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    cache = {} if which in ("both", "inputs", "pixels") else {"use_cache": False}
    model = kind(kind.config_class(**options | cache)).eval()
    ids, pixels = tokens(4)["input_ids"], images(4)
    inputs = {
        "ids": {"input_ids": ids},
        "inputs": {"inputs": ids},
        "pairs": {"input_ids": ids, "decoder_input_ids": ids},
        "pixels": pixels,
        "both": pixels | {"input_ids": ids},
    }[which]
    session = wb.Session(model, [inputs])
    assert unmentioned(session) == set()
    assert sum(group.prunable for group in session.groups) >= least
    session.measure()


class Own(nn.Module):
    """Everything that has no group of its own, a parameter a kind."""

    def __init__(self):
        super().__init__()
        self.a, self.idle, self.b = nn.Linear(6, 10), nn.Linear(10, 10), nn.Linear(10, 3)
        self.norm, self.slope = nn.LayerNorm(10), nn.PReLU()
        self.scale = nn.Parameter(torch.ones(()))
        self.matrices = nn.ParameterList([torch.randn(10, 10)])
        self.unused, self.start = nn.Parameter(torch.ones(4)), nn.Parameter(torch.randn(1, 1, 6))
        self.shift = nn.Parameter(torch.randn(10))

    def forward(self, x):
        x = torch.cat([self.start.expand(len(x), 1, 6), x], 1)
        x = self.slope(self.a(x)) * self.scale @ self.matrices[0]
        return self.b(self.norm(x) + self.shift)


def test_each_reason_is_the_true_one():
    torch.manual_seed(0)
    session = wb.Session(Own(), [torch.randn(4, 5, 6)])
    assert unmentioned(session) == set()
    why = {one.name: one.why_not for one in session.stays}
    assert why["scale"] == why["slope.weight"] == "it is one number for all units"
    assert "multiplies by it" in why["matrices.0"]
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
    assert unmentioned(session) == set()
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
    groups, stays, _ = take_apart(reference, torch.randn(4, 6))
    assert {g.name for g in groups} == {"a", "b"}
    assert [one.name for one in stays] == ["scale"]
    assert "could not be traced" in stays[0].why_not


class Numbers(nn.Module):
    """Parameters and buffers that are one number, or none."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 10), nn.Linear(10, 3)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("nothing", torch.zeros(0))

    def forward(self, x):
        return self.b(self.a(x).relu() * self.scale.exp() / self.count + self.nothing.sum())


class Scaling(nn.Module):
    def forward(self, x, scale):
        return x * scale


class Views(nn.Module):
    """Views of parameters are handed to a module, as relative positions are to attention."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 10), nn.Linear(10, 10), nn.Linear(10, 3)
        self.rows, self.scaling = nn.Parameter(torch.rand(2, 10) + 0.5), Scaling()

    def forward(self, x):
        return self.c(self.b(self.scaling(self.a(x), self.rows[0])) + self.b(self.rows[1:]))


@pytest.mark.parametrize(("kind", "stays"), [(Numbers, {"scale"}), (Views, set())])
def test_single_numbers_and_views_of_parameters_hinder_nothing(kind, stays):
    torch.manual_seed(0)
    model, x = kind().double().eval(), torch.randn(5, 6).double()
    session = wb.Session(model, [x])
    assert unmentioned(session) == set()
    assert [group.prunable for group in session.groups[:-1]] == [True] * (len(session.groups) - 1)
    assert {one.name for one in session.stays} == stays
    alone = each_alone(model, session.groups, x, times=3)
    assert all(off <= 1e-9 and effect > 1e-4 for off, effect in alone.values())
    session.measure()
    session.commit(session.preview("a", width=4))


class Cosines(nn.Module):
    """A head that compares directions: of features, and of the rows of its weight."""

    def __init__(self, layer):
        super().__init__()
        self.a, self.b = nn.Linear(6, 10), nn.Linear(10, 8)
        if layer:
            self.head = nn.Linear(8, 5, bias=False)
        else:
            self.weight = nn.Parameter(torch.randn(5, 8))

    def forward(self, x):
        weight = self.head.weight if hasattr(self, "head") else self.weight
        x = functional.normalize(self.b(torch.relu(self.a(x))))
        return 16 * functional.linear(x, functional.normalize(weight))


@pytest.mark.parametrize("layer", [False, True])
def test_a_weight_of_which_directions_are_made_stays_for_the_true_reason(layer):
    torch.manual_seed(0)
    session = wb.Session(Cosines(layer), [torch.randn(4, 6)])
    assert unmentioned(session) == set()
    why = {group.name: group.why_not for group in session.groups}
    assert re.search("mixed by .*norm", why["b"])
    assert why["a"] == ""
    if layer:
        assert "used outside of its layer" in why["head"]
        assert session.stays == ()
    else:
        (one,) = session.stays
        assert one.why_not == "the network multiplies by numbers that are made of it, not by it as it is"
