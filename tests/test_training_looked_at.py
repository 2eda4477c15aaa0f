"""A look at training mode leaves no trace: no random number drawn, no weight written, no mode changed."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from training_heads import built, example

import workbench as wb
from workbench.network.finding.assembly import discover
from workbench.network.finding.proof import find_groups
from workbench.network.training import training_at_rest


class Moody(nn.Module):
    """Draws from every generator and counts its calls in training mode."""

    def __init__(self):
        super().__init__()
        self.a, self.n, self.o = nn.Linear(7, 11), nn.BatchNorm1d(11), nn.Linear(11, 5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        h = functional.dropout(self.n(self.a(x)), 0.2, self.training)
        if self.training:
            self.calls += 1
            h = h + 0 * (torch.rand(()) + random.random() + np.random.rand())
        return self.o(h)


def test_looking_at_training_mode_leaves_no_trace():
    model = built(Moody).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    expected = [torch.rand(3), random.random(), np.random.rand()]
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    groups = find_groups(model, example(model))
    drawn = [torch.rand(3), random.random(), np.random.rand()]
    assert torch.equal(drawn[0], expected[0])
    assert drawn[1:] == expected[1:]
    assert groups[0].prunable
    assert all(module.training for module in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


class Dropping(nn.Module):
    """Drops by function what it computes, as transformers do; `heads` in training mode says so."""

    def __init__(self, heads=False):
        super().__init__()
        self.a, self.b, self.c, self.heads = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3), heads

    def forward(self, x):
        kept = 0.3 if self.training else 0.0
        hidden = functional.dropout(self.a(x).relu(), 0.5, self.training)
        hidden = functional.scaled_dot_product_attention(hidden, hidden, hidden, None, kept)
        hidden = functional.scaled_dot_product_attention(hidden, hidden, hidden, dropout_p=kept)
        return self.c(self.b(hidden).relu() if self.training or not self.heads else hidden)


@pytest.mark.parametrize("heads", [False, True])
def test_dropout_called_as_a_function_is_nothing_that_training_mode_does_to_units(heads):
    model, x = Dropping(heads).eval(), torch.randn(2, 5, 8)
    assert discover(model, x).alike is not heads
    assert not model.training


class Averaging(nn.Module):
    """Writes averages into its own weights while it trains, past torch's count of versions."""

    def __init__(self):
        super().__init__()
        self.codes, self.first, self.last = nn.Embedding(7, 5), nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, x):
        if self.training:
            self.codes.weight.data.mul_(0.5)
            self.first.weight.data.copy_(torch.zeros_like(self.first.weight))
            self.last.bias.data = self.last.bias.data + 1
        return self.last(self.first(self.codes(x)).relu())


def test_what_training_writes_into_weights_stays_in_its_copy():
    torch.manual_seed(0)
    model, x = Averaging().eval(), torch.randint(0, 7, (4, 3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = training_at_rest(model)
    assert not torch.equal(trained(x), model(x))
    groups = find_groups(model, x)
    assert any(group.prunable for group in groups)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    session = wb.Session(model, [x])
    assert all(torch.equal(tensor, before[name]) for name, tensor in session.model.state_dict().items())
