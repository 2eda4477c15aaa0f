"""Megabytes at any widths are those of the pruned network, and of what a decoder keeps for its next call."""

import pytest
import torch
from labelled import session_of
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import workbench as wb
from workbench.network.cost_model import CostModel
from workbench.network.memory import weight_bytes
from workbench.pruning.planning import memory_of, skeleton


def of_files(model):
    """Bytes of the tensors that a file of the network holds: a tied one once."""
    return sum({id(t): t.nbytes for t in [*model.parameters(), *model.buffers()]}.values())


def decoder(kind):
    torch.manual_seed(0)
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=17, n_positions=16, n_embd=12, n_layer=2, n_head=3)
        ).eval()
    config = LlamaConfig(
        vocab_size=17, hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=3, max_position_embeddings=16,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def kept_by(model, ids):
    """Bytes of keys and values an example, counted by hand on the network's answer."""
    with torch.no_grad():
        cache = model(input_ids=ids, use_cache=True).past_key_values
    return sum(t.nbytes for layer in cache.layers for t in (layer.keys, layer.values)) / len(ids)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_decoder_counts_its_keys_and_values(kind):
    ids = torch.randint(0, 17, (4, 11), generator=torch.Generator().manual_seed(1))
    session = wb.Session(decoder(kind), [{"input_ids": ids}])
    session.measure()
    state = session._state
    costs = CostModel.of(state.model, state.groups, state.cost)
    found = memory_of(state, costs, {"input_ids": ids})
    widths = {name: max(1, m // 3) for name, m in zip(costs.groups, costs.widths, strict=True)}
    pruned = skeleton(state, widths)
    assert kept_by(pruned, ids) < kept_by(state.model, ids)
    for model, at in ((state.model, costs.widths), (pruned, list(widths.values()))):
        assert found.total(at) * 1e6 == pytest.approx(of_files(model) + kept_by(model, ids), abs=1)
    plan = session.plan(found.total(costs.widths) * 0.6, "megabytes", "equal")
    session.commit_plan(plan)
    assert plan.cost * 1e6 == pytest.approx(of_files(session.model) + kept_by(session.model, ids), abs=1)


class Half(nn.Module):
    """Layers of two types, whose bytes differ."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 7).double(), nn.Linear(7, 5, bias=False)
        self.norm = nn.BatchNorm1d(7, affine=False)
        self.last = nn.Linear(5, 2)

    def forward(self, x):
        x = self.norm(torch.relu(self.first(x.double())).float())
        return self.last(torch.relu(self.second(x)))


@pytest.mark.parametrize("reconstruction", ["channel", "original"])
def test_each_layer_counts_in_its_own_type(reconstruction):
    session = wb.Session(Half(), torch.randn(64, 3, generator=torch.Generator().manual_seed(0)))
    session.measure()
    assert weight_bytes(session.model) == of_files(session.model)
    plan = session.plan(
        of_files(session.model) / 1e6 * 0.7, "megabytes", "equal", reconstruction=reconstruction
    )
    session.commit_plan(plan, reconstruction=reconstruction)
    assert plan.cost * 1e6 == pytest.approx(of_files(session.model), abs=1)


def test_a_target_too_small_is_said_in_megabytes():
    plan = session_of().plan(1e-6, "megabytes")
    assert not plan.met
    assert "MB cannot be met: the nearest is" in plan.message


class Buffers(nn.Module):
    """Buffers with entries a unit: beside layers, and in a module of their own."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 2)
        self.register_buffer("scale", torch.rand(8) + 0.5)
        self.own = nn.Module()
        self.own.register_buffer("gain", torch.rand(1, 6))

    def forward(self, x):
        x = torch.relu(self.first(x)) * self.scale
        return self.last(torch.relu(self.second(x)) * self.own.gain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_buffers_lose_their_entries(dtype):
    torch.manual_seed(0)
    model = Buffers()
    model.scale = model.scale.to(dtype)
    session = wb.Session(model, torch.randn(64, 3))
    session.measure()
    assert [g.why_not for g in session.groups[:2]] == ["", ""]
    plan = session.plan(of_files(model) / 1e6 * 0.7, "megabytes", "equal")
    session.commit_plan(plan)
    assert plan.cost * 1e6 == pytest.approx(of_files(session.model), abs=1)
