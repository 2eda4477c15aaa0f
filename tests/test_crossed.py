"""Axes of units that are multiplied with each other, tables and biases that other code reads."""

import pytest
import small_transformers
import torch
from mentions import unmentioned
from silencing import each_alone, lively, worst_together
from small_transformers import ODD
from torch import nn
from torch.nn import functional

import workbench as wb


class StateSpace(nn.Module):
    """Channels, each with the same few states: what Mamba does, step by step."""

    def __init__(self, channels=10, states=3, rank=2):
        super().__init__()
        self.sizes = (rank, states, states)
        self.enter, self.conv = nn.Linear(6, 2 * channels), nn.Conv1d(channels, channels, 3, groups=channels)
        self.select, self.step = nn.Linear(channels, sum(self.sizes), bias=False), nn.Linear(rank, channels)
        self.decay, self.skip = nn.Parameter(torch.rand(channels, states)), nn.Parameter(torch.rand(channels))
        self.leave = nn.Linear(channels, 4)

    def forward(self, x):
        x, gate = self.enter(x).transpose(1, 2).chunk(2, 1)
        x = functional.silu(functional.conv1d(
            functional.pad(x, (2, 0)), self.conv.weight, self.conv.bias, groups=x.shape[1]
        ))  # fmt: skip
        step, write, read = self.select(x.transpose(1, 2)).split(self.sizes, -1)
        step = functional.softplus(self.step.weight @ step.transpose(1, 2) + self.step.bias[:, None])
        keep = torch.exp(-self.decay[None, :, None] * step[..., None])
        new = step[..., None] * write[:, None] * x[..., None]
        state, out = torch.zeros_like(new[:, :, 0]), []
        for at in range(x.shape[-1]):
            state = keep[:, :, at] * state + new[:, :, at]
            out.append((state @ read[:, at, :, None])[..., 0])
        y = torch.stack(out, -1) + x * self.skip[:, None]
        return self.leave((y * functional.silu(gate)).transpose(1, 2))


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.last = nn.Linear(6, 3), nn.Linear(6, 5), nn.Linear(15, 2)

    def forward(self, x):
        return self.last((self.a(x)[..., :, None] * self.b(x)[..., None, :]).flatten(-2))


class Table(nn.Module):
    """The rows of a table are read all at once, and one by one."""

    def __init__(self):
        super().__init__()
        self.table, self.ask, self.last = nn.Embedding(7, 10), nn.Linear(10, 6), nn.Linear(6, 2)

    def forward(self, x):
        places = self.ask(torch.tanh(self.table.weight))
        return self.last(torch.tanh(x @ places.mean(0, keepdim=True).expand(6, -1) + places[0]))


class Biased(nn.Module):
    """The bias of a layer is added once more."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 10), nn.Linear(10, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)) + self.a.bias)


KINDS = {  # how to build it, shape of an example, groups that can go
    "state space": (StateSpace, (5, 6), {"enter": 10, "select[0:2]": 2}),
    "outer product": (Outer, (6,), {"b": 5}),
    "a table": (Table, (6,), {"table": 10, "ask": 6}),
    "a bias read elsewhere": (Biased, (6,), {"a": 10}),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_can_go_alone_goes(name):
    build, shape, widths = KINDS[name]
    torch.manual_seed(0)
    model, x = lively(build()), torch.randn(4, *shape).double()
    session = wb.Session(model, [x])
    assert {g.name: g.width for g in session.groups if g.prunable} == widths
    assert unmentioned(session) == set()
    assert session.stays == ()
    alone = each_alone(session.model, session.groups, x, times=4)
    assert all(off <= 1e-9 and effect > 1e-6 for off, effect in alone.values())
    assert worst_together(session.model, session.groups, x, times=3) <= 1e-9


def test_units_used_by_all_of_others_say_so():
    torch.manual_seed(0)
    session = wb.Session(Outer(), [torch.randn(4, 6)])
    (other,) = [group for group in session.groups if group.name == "a"]
    assert "multiplied with all units of others" in other.why_not


class Queries(nn.Module):
    """One place is mixed apart from the others, as a class token in its own blocks."""

    def __init__(self):
        super().__init__()
        self.first, self.own, self.mix = nn.Linear(6, 8), nn.Linear(8, 8), nn.LayerNorm(8)
        self.values, self.last = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x):
        x = self.mix(self.first(x))
        mine = self.mix(self.own(x[:, :1]))
        return self.last(torch.tanh(self.values(torch.cat([mine, x], 1)))).mean(1)


def test_places_that_were_mixed_apart_are_read_as_any_others():
    torch.manual_seed(0)
    model, x = lively(Queries()), torch.randn(4, 5, 6).double()
    session = wb.Session(model, [x])
    assert {g.name: g.width for g in session.groups if g.prunable} == {"values": 12}
    alone = each_alone(session.model, session.groups, x, times=3)
    assert all(off <= 1e-9 and effect > 1e-4 for off, effect in alone.values())


# Public networks: the share of parameters in groups that can go, at least; tensors in no group, at most.
SHARES = {
    "MambaForCausalLM": (0.8, 3),
    "XLNetForSequenceClassification": (0.8, 12),
    "IBertForSequenceClassification": (0.7, 18),
    "DebertaForSequenceClassification": (0.8, 12),
    "RecurrentGemmaForCausalLM": (0.8, 5),
}


@pytest.mark.parametrize("name", SHARES)
def test_weights_of_public_networks_are_in_groups(name):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**ODD[name][0] | {"use_cache": False})).eval()
    session = wb.Session(model, [small_transformers.tokens(4)])
    network, own = session.model, set()
    for group in session.groups:
        if group.prunable:
            for part in (*group.writers, *group.norms, *group.readers):
                own |= {id(p) for p in network.get_submodule(part.module).parameters(recurse=False)}
            own |= {id(getattr(network.get_submodule(h.module), h.tensor)) for h in group.held}
    every = list(network.parameters())
    share, most = SHARES[name]
    assert sum(p.numel() for p in every if id(p) in own) >= share * sum(p.numel() for p in every)
    assert len(session.stays) <= most
