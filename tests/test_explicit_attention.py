"""Attention made of linear layers, and what a rebuilt network keeps: against torch's own."""

import copy

import pytest
import torch
from networks import mlp
from rebuilding import (
    BATCH,
    INPUTS,
    MODES,
    STEPS,
    UNITS,
    assert_same,
    lively,
    rebuilt,
    removed_units,
)
from torch import nn

from workbench.network.rebuilt.attention import Attention
from workbench.network.rebuilt.explicit import explicit


@pytest.fixture(autouse=True)
def _seeded(seed):
    """Every test starts from the same random numbers."""


def masks(heads: int, queries: int, keys: int) -> dict:
    hidden = torch.rand(queries, keys) < 0.3
    hidden[:, 0] = False
    padding = torch.zeros(BATCH, keys, dtype=torch.bool)
    padding[1, 3:] = True
    return {
        "none": {},
        "hidden": {"attn_mask": hidden},
        "added": {"attn_mask": torch.randn(queries, keys).double()},
        "each": {"attn_mask": torch.randn(BATCH * heads, queries, keys).double()},
        "padding": {"key_padding_mask": padding},
        "both": {"attn_mask": hidden, "key_padding_mask": padding},
        "sums": {
            "attn_mask": torch.randn(queries, keys).double(),
            "key_padding_mask": torch.randn(BATCH, keys).double(),
        },
    }


@pytest.mark.parametrize("mask", masks(1, 1, 5))
@pytest.mark.parametrize("sizes", [{}, {"kdim": 11}, {"kdim": 11, "vdim": 17}])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_gives_torchs_outputs_weights_and_gradients(batch_first, bias, sizes, mask):
    old = lively(nn.MultiheadAttention(35, 5, batch_first=batch_first, bias=bias, **sizes))
    new = rebuilt(old)
    assert type(new) is Attention
    tensors = [torch.randn(BATCH, n, s).double() for n, s in ((4, 35), (6, old.kdim), (6, old.vdim))]
    if not batch_first:
        tensors = [t.transpose(0, 1) for t in tensors]
    given = masks(5, 4, 6)[mask]
    for average in (True, False):
        assert_same(
            new(*tensors, average_attn_weights=average, **given),
            old(*tensors, average_attn_weights=average, **given),
        )
    out, weights = new(*tensors, need_weights=False, **given)
    assert weights is None
    assert_same(out, old(*tensors, need_weights=False, **given)[0])
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in new.parameters())


def test_attention_of_one_sequence_without_a_batch():
    old = lively(nn.MultiheadAttention(14, 2, batch_first=True))
    x, y = torch.randn(3, 14).double(), torch.randn(5, 14).double()
    padding = torch.tensor([False, True, False, False, True])
    assert_same(rebuilt(old)(x, y, y, padding), old(x, y, y, padding))


def test_fewer_heads_than_the_width_holds():
    full = rebuilt(lively(nn.MultiheadAttention(35, 5, batch_first=True)))
    small = copy.deepcopy(full)
    rows = torch.cat([torch.arange(7) + 7 * head for head in (0, 3)])
    for name in ("q_proj", "k_proj", "v_proj"):
        linear = getattr(small, name)
        linear.weight, linear.bias = nn.Parameter(linear.weight[rows]), nn.Parameter(linear.bias[rows])
    small.out_proj.weight = nn.Parameter(small.out_proj.weight[:, rows])
    small.num_heads = 2
    lost = [j for j in range(35) if j not in rows]
    full.out_proj.weight.data[:, lost] = 0
    x = torch.randn(BATCH, 4, 35).double()
    assert_same(small(x, x, x)[0], full(x, x, x)[0])
    assert_same(small(x, x, x, need_weights=False)[0], full(x, x, x)[0])
    with pytest.raises(ValueError, match="15 matrices for 3 examples of 2 heads"):
        small(x, x, x, attn_mask=torch.zeros(15, 4, 4))


def test_a_causal_hint_needs_its_mask():
    new = rebuilt(lively(nn.MultiheadAttention(14, 2)))
    x = torch.randn(4, BATCH, 14).double()
    with pytest.raises(ValueError, match="give the causal mask"):
        new(x, x, x, is_causal=True)


# Models that hold them


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("heads", [2, 7])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:The PyTorch API of nested tensors")
def test_torchs_encoder_gives_the_same_and_calls_its_attention(norm_first, heads, grad):
    layer = nn.TransformerEncoderLayer(14, heads, 23, batch_first=True, norm_first=norm_first)
    old = lively(nn.TransformerEncoder(layer, 2))
    new = rebuilt(old)
    calls = []
    new.layers[1].self_attn.out_proj.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(BATCH, 5, 14).double()
    padding = torch.zeros(BATCH, 5, dtype=torch.bool)
    padding[1, 3:] = True
    with torch.set_grad_enabled(grad):
        assert_same(new(x), old(x))
        assert_same(new(x, mask=padding[1].expand(5, 5)), old(x, mask=padding[1].expand(5, 5)))
        seen = ~padding  # torch fills padded positions with zeros, or does not: they say nothing
        found, expected = new(x, src_key_padding_mask=padding), old(x, src_key_padding_mask=padding)
        assert_same(found[seen], expected[seen])
    assert len(calls) == 3


def test_torchs_whole_transformer_gives_the_same():
    old = lively(nn.Transformer(14, 2, 2, 2, 23, batch_first=True))
    x, y = torch.randn(BATCH, 5, 14).double(), torch.randn(BATCH, 4, 14).double()
    causal = nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    expected = old(x, y, tgt_mask=causal, tgt_is_causal=True)
    assert_same(rebuilt(old)(x, y, tgt_mask=causal, tgt_is_causal=True), expected)


class Shared(nn.Module):
    """One attention under two names, one recurrent layer in two places, and a tied weight."""

    def __init__(self):
        super().__init__()
        self.first = self.second = nn.MultiheadAttention(14, 2, batch_first=True)
        self.tied = nn.MultiheadAttention(14, 2, batch_first=True)
        self.tied.in_proj_weight = self.first.in_proj_weight
        self.down = nn.GRU(14, 14, batch_first=True)
        self.body = nn.ModuleList([self.down, nn.Linear(14, 5)])

    def forward(self, x):
        for attention in (self.first, self.second, self.tied):
            x = x + attention(x, x, x, need_weights=False)[0]
        for layer in (self.down, self.body[0]):
            x, _ = layer(x)
        return self.body[1](x)


def test_what_is_shared_stays_shared():
    old = lively(Shared())
    new = rebuilt(old)
    assert new.first is new.second
    assert new.down is new.body[0]
    assert new.tied.k_proj.weight is new.first.k_proj.weight
    assert new.tied.k_proj.bias is not new.first.k_proj.bias
    assert sum(p.numel() for p in new.parameters()) == sum(p.numel() for p in old.parameters())
    x = torch.randn(BATCH, 5, 14).double()
    assert_same(new(x), old(x))


def test_a_second_call_changes_nothing_and_other_models_stay_untouched():
    new = rebuilt(lively(Shared()))
    modules = list(new.modules())
    assert explicit(new) is new
    assert all(one is other for one, other in zip(new.modules(), modules, strict=True))
    plain = mlp(3, 5, 2)
    weights = plain.state_dict()
    assert explicit(plain) is plain
    assert all(weights[key] is value or torch.equal(weights[key], value) for key, value in weights.items())


def test_frozen_parameters_mode_and_type_are_kept():
    old = nn.Sequential(nn.LSTM(3, 5), nn.MultiheadAttention(4, 2)).to(torch.float64)
    old[0].requires_grad_(False)
    old[1].in_proj_weight.requires_grad_(False)
    old[1].eval()
    new = rebuilt(old)
    assert not any(p.requires_grad for p in new[0].parameters())
    assert (new[1].q_proj.weight.requires_grad, new[1].q_proj.bias.requires_grad) == (False, True)
    assert (new[0].layers["0"].training, new[1].q_proj.training) == (True, False)
    assert {p.dtype for p in new.parameters()} == {torch.float64}


class OwnLstm(nn.LSTM):
    """Somebody's own layer, whose forward may be anything."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.MultiheadAttention(14, 2, add_bias_kv=True),
        lambda: nn.MultiheadAttention(14, 2, add_zero_attn=True),
        lambda: nn.LSTM(3, 5, proj_size=2),
        lambda: OwnLstm(3, 5),
    ],
)
def test_what_cannot_be_rebuilt_stays(make):
    model = nn.Sequential(make())
    inside = model[0]
    assert explicit(model)[0] is inside


def test_a_copy_and_a_state_dict_carry_everything():
    x = torch.randn(BATCH, 5, 14).double()
    new = rebuilt(lively(Shared()))
    expected = new(x)
    assert_same(copy.deepcopy(new)(x), expected)
    other = rebuilt(lively(Shared()))
    assert not torch.allclose(other(x), expected)
    other.load_state_dict(new.state_dict())
    assert_same(other(x), expected)
    assert "body.0.layers.0.recurrent.weight" in new.state_dict()


class OwnZeros(nn.Module):
    """A model that starts its layer from zeros of the width that it was made with."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(INPUTS, UNITS, batch_first=True)

    def forward(self, x):
        return self.gru(x, torch.zeros(1, x.size(0), UNITS, dtype=x.dtype))[0][:, -1]


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(INPUTS * 2, 2, 23, batch_first=True)
        self.embed, self.encoder = nn.Linear(INPUTS, INPUTS * 2), nn.TransformerEncoder(layer, 2)

    def forward(self, x):
        return self.encoder(self.embed(x))


class Sentence(nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        self.inner = MODES[kind](INPUTS, UNITS, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x):
        return self.inner(x)[0].mean(1)


@pytest.mark.parametrize("make", [OwnZeros, Encoder, *(lambda k=k: Sentence(k) for k in MODES)])
def test_an_exported_model_gives_the_same_at_other_batch_sizes(make):
    new = rebuilt(lively(make()))
    if isinstance(new, OwnZeros):
        removed_units(new.gru.layers["0"], torch.arange(5))
    x = torch.randn(4, STEPS, INPUTS).double()
    batch = torch.export.Dim("batch")
    program = torch.export.export(new, (x,), dynamic_shapes=({0: batch},))
    for count in (2, 4, 7):
        other = torch.randn(count, STEPS, INPUTS).double()
        assert_same(program.module()(other), new(other))
