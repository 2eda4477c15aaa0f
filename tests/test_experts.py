"""Experts in one tensor: taken apart into linear layers, each pruned for itself."""

import re

import pytest
import torch
from exports import apart, halved, other_weights, outputs
from mentions import unmentioned
from silencing import each_alone, lively
from small_transformers import GROUPED
from torch import nn
from torch.nn import functional

import workbench as wb
from workbench.network.copying import copied
from workbench.network.rebuilt.experts import Experts
from workbench.network.rebuilt.explicit import explicit
from workbench.network.surgery import remove_units
from workbench.session.opening import EXAMPLE_SIZE


class InOneTensor(nn.Module):
    """As transformers keep the experts of Mixtral."""

    def __init__(self, count=4, features=6, hidden=10, scale=1.0):
        super().__init__()
        self.gate_up = nn.Parameter(torch.randn(count, 2 * hidden, features) / features**0.5)
        self.down = nn.Parameter(torch.randn(count, features, hidden) / hidden**0.5)
        self.act_fn, self.scale = nn.SiLU(), scale

    def forward(self, x, chosen, shares):
        out = torch.zeros_like(x)
        for number in range(len(self.down)):
            tokens, places = torch.where(chosen == number)
            gate, up = functional.linear(x[tokens], self.gate_up[number]).chunk(2, -1)
            found = functional.linear(self.act_fn(gate) * up, self.down[number])
            out.index_add_(0, tokens, self.scale * found * shares[tokens, places, None])
        return out


class Network(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.first, self.router, self.last = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(6, 3)
        self.experts = InOneTensor(scale=scale)

    def forward(self, x):
        x = self.first(x).tanh()
        shares, chosen = self.router(x).softmax(-1).topk(2)
        return self.last(x + self.experts(x, chosen, shares))


def network(**options):
    torch.manual_seed(0)
    model = Network(**options).eval()
    with torch.no_grad():
        model.router.weight.mul_(8)
    return model, torch.randn(64, 5, generator=torch.Generator().manual_seed(2))


def test_each_expert_is_pruned_for_itself():
    model, x = network()
    session = wb.Session(model, [x])
    assert unmentioned(session) == set()
    with torch.no_grad():
        torch.testing.assert_close(session.model(x), model(x))
    own = [g for g in session.groups if "experts" in g.name and g.prunable]
    assert [(len(g.writers), len(g.readers), g.width) for g in own] == [(2, 1, 10)] * 4
    double = session.model.double()
    alone = each_alone(double, session.groups, x.double())
    assert all(off <= 1e-9 for off, _ in alone.values())
    assert all(alone[g.name][1] > 1e-4 for g in own)


@pytest.mark.parametrize("hidden", [False, True])
def test_what_an_expert_would_receive_that_the_example_does_not_reach_stays(hidden):
    """Tokens that go elsewhere than those of the example must not meet a layer of the old width."""
    model, x = network()
    with torch.no_grad():
        model.router.bias[2] = -20.0  # no token of the calibration goes to expert 2
    session = wb.Session(model, [x])
    why = {g.name: g.why_not for g in session.groups}
    assert re.search("experts.experts.2.* does not run on the example input: give", why["first"])
    inner = {g.name for g in session.groups if g.prunable}
    assert inner == {f"experts.experts.{e}.gate" for e in (0, 1, 3)}
    with torch.no_grad():
        for group in session.groups if hidden else ():
            if group.prunable:
                pruned, _ = remove_units(session.model, session.groups, group.name, [0, 3])
                pruned.router.bias[2] = 20.0
                pruned(x)


def test_more_examples_are_taken_where_these_reach_more_experts():
    model, x = network()
    with torch.no_grad():
        chosen = model.router(model.first(x).tanh()).topk(2).indices
    late = (chosen == 2).any(1)
    x = torch.cat([x[~late], x[late]])
    assert int((~late).sum()) > EXAMPLE_SIZE
    session = wb.Session(model, [x])
    assert all("does not run" not in g.why_not for g in session.groups)
    assert session.group("first").prunable


def test_what_is_exported_comes_back_into_the_class_as_it_was(tmp_path):
    model, x = network()
    session = halved(model, x)
    session.export(tmp_path)
    loaded = wb.load_pruned(other_weights(network()[0]), tmp_path)
    assert apart(outputs(loaded, x), outputs(session.model, x)) <= 1e-6
    assert session.parameters < wb.Session(model, [x]).parameters * 0.7


def test_experts_that_compute_something_else_stay_and_are_mentioned():
    model, x = network(scale=0.5)
    assert type(explicit(copied(model)).experts) is InOneTensor
    session = wb.Session(model, [x])
    assert unmentioned(session) == set()
    why = {one.name: one.why_not for one in session.stays}
    assert set(why) == {"experts.gate_up", "experts.down"}
    assert all("multiplies by it" in reason for reason in why.values())


class Turned(nn.Module):
    """As transformers keep those of GPT-OSS: inputs first, each gate beside its up, biases, its own gate."""

    def __init__(self, beside, count=4, features=6, hidden=10):
        super().__init__()
        self.gate_up = nn.Parameter(torch.randn(count, features, 2 * hidden) / features**0.5)
        self.gate_up_bias = nn.Parameter(torch.randn(count, 2 * hidden) / 4)
        self.down = nn.Parameter(torch.randn(count, hidden, features) / hidden**0.5)
        self.down_bias = nn.Parameter(torch.randn(count, features) / 4)
        self.beside, self.limit = beside, 3.0

    def _apply_gate(self, both):
        gate, up = (both[..., ::2], both[..., 1::2]) if self.beside else both.chunk(2, -1)
        gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        return (up + 1) * gate * torch.sigmoid(1.7 * gate)

    def forward(self, x, indices=None, weights=None):
        out = torch.zeros_like(x)
        for number in range(len(self.down)):
            tokens, places = torch.where(indices == number)
            both = x[tokens] @ self.gate_up[number] + self.gate_up_bias[number]
            found = self._apply_gate(both) @ self.down[number] + self.down_bias[number]
            out.index_add_(0, tokens, found * weights[tokens, places, None])
        return out


class Named(Network):
    """Calls its experts by names of their own."""

    def __init__(self, beside):
        super().__init__()
        self.experts = Turned(beside)

    def forward(self, x):
        x = self.first(x).tanh()
        shares, chosen = self.router(x).softmax(-1).topk(2)
        return self.last(x + self.experts(x, weights=shares, indices=chosen))


@pytest.mark.parametrize("beside", [False, True])
def test_experts_with_biases_and_a_gate_of_their_own_are_taken_apart(beside, tmp_path):
    torch.manual_seed(0)
    model, x = Named(beside).eval(), torch.randn(64, 5)
    session = wb.Session(model, [x])
    assert unmentioned(session) == set()
    with torch.no_grad():
        torch.testing.assert_close(session.model(x), model(x))
    own = [g for g in session.groups if ".experts." in g.name and g.prunable]
    assert [(len(g.writers), len(g.readers), g.width) for g in own] == [(2, 1, 10)] * 4
    alone = each_alone(session.model.double(), session.groups, x.double())
    assert all(off <= 1e-9 for off, _ in alone.values())
    session = halved(model, x)
    session.export(tmp_path)
    loaded = wb.load_pruned(other_weights(Named(beside)), tmp_path)
    assert apart(outputs(loaded, x), outputs(session.model, x)) <= 1e-6


@pytest.mark.parametrize("name", ["MixtralForCausalLM", "Qwen2MoeForCausalLM", "OlmoeForCausalLM"])
def test_experts_of_transformers_are_taken_apart(name):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    options = {"num_local_experts": 4, "num_experts": 4, "moe_intermediate_size": 12}
    model = kind(kind.config_class(**GROUPED | options | {"num_experts_per_tok": 2})).eval()
    x = {"input_ids": torch.randint(3, 37, (8, 11), generator=torch.Generator().manual_seed(0))}
    session = wb.Session(lively(model).float(), [x])
    assert unmentioned(session) == set()
    assert sum(isinstance(m, Experts) for m in session.model.modules()) == 2
    with torch.no_grad():
        torch.testing.assert_close(session.model(**x).logits, model(**x).logits, rtol=1e-4, atol=1e-5)
    own = [g for g in session.groups if ".experts." in g.name and g.prunable]
    assert len(own) == 8, [g.details() for g in session.groups]
