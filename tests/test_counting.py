"""MACs against counts made by hand and against torch's own counter."""

import pytest
import small_transformers
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from workbench.network.cost import count_cost
from workbench.network.rebuilt.explicit import explicit


class Function(nn.Module):
    """A network of one function and one parameter."""

    def __init__(self, function, *shape):
        super().__init__()
        self.function, self.p = function, nn.Parameter(torch.randn(*shape))

    def forward(self, x):
        return self.function(x, self.p)


# One example x and a parameter, a function of them, and its products counted by hand.
BY_HAND = {
    "mv": ((5, 7), (7,), lambda x, p: x[0] @ p, 5 * 7),
    "dot": ((7,), (7,), lambda x, p: x[0] @ p, 7),
    "vector times matrix": ((7,), (7, 3), lambda x, p: x[0] @ p, 7 * 3),
    "mm": ((5, 7), (7, 3), lambda x, p: x[0] @ p, 5 * 7 * 3),
    "bmm": ((5, 7), (1, 7, 3), torch.bmm, 5 * 7 * 3),
    "matmul of activations": ((2, 5, 7), (1,), lambda x, p: x @ x.mT, 2 * 5 * 5 * 7),
    "broadcast matmul": ((5, 7), (4, 7, 3), lambda x, p: x[0] @ p, 4 * 5 * 7 * 3),
    "addmm": ((5, 7), (7, 3), lambda x, p: torch.addmm(p[0], x[0], p), 5 * 7 * 3),
    "baddbmm": ((5, 7), (1, 7, 3), lambda x, p: torch.baddbmm(p[:, :1], x, p), 5 * 7 * 3),
    "addbmm": ((5, 7), (1, 7, 3), lambda x, p: torch.addbmm(p[0, :1], x, p), 5 * 7 * 3),
    "addmv": ((5, 7), (7,), lambda x, p: torch.addmv(p[:1], x[0], p), 5 * 7),
    "einsum": ((5, 7), (3, 7), lambda x, p: torch.einsum("btc,oc->bto", x, p), 5 * 7 * 3),
    "einsum of three": ((5,), (7, 5, 5), lambda x, p: torch.einsum("bi,oij,bj->bo", x, p, x), 7 * 5 * 6),
    "outer product": ((5,), (7,), lambda x, p: torch.einsum("bi,o->bio", x, p), 0),
    "F.linear": ((5, 7), (3, 7), lambda x, p: functional.linear(x, p), 5 * 7 * 3),
    "F.conv1d": ((2, 9), (3, 2, 4), lambda x, p: functional.conv1d(x, p), 6 * 3 * 2 * 4),
    "grouped F.conv2d": (
        (4, 5, 5), (6, 2, 3, 3), lambda x, p: functional.conv2d(x, p, groups=2), 3 * 3 * 6 * 2 * 9
    ),
    "F.conv_transpose1d": ((2, 5), (2, 3, 4), lambda x, p: functional.conv_transpose1d(x, p), 5 * 2 * 3 * 4),
    "bilinear": ((5,), (7, 5, 5), lambda x, p: functional.bilinear(x, x, p), 7 * 5 * 5),
    "attention": (
        (2, 5, 8), (1,), lambda x, p: functional.scaled_dot_product_attention(x, x, x), 2 * 2 * 5 * 5 * 8
    ),
    "causal attention": (
        (2, 5, 8), (1,),
        lambda x, p: functional.scaled_dot_product_attention(x, x, x, is_causal=True), 2 * 2 * 5 * 5 * 8,
    ),
    "sparse": ((7, 3), (1,), lambda x, p: torch.sparse.mm(torch.eye(7).to_sparse(), x[0]), 7 * 3),
    "sparse rows": ((7, 3), (1,), lambda x, p: torch.eye(7).to_sparse_csr() @ x[0], 7 * 3),
    "nested": (
        (6, 7), (3, 7),
        lambda x, p: functional.linear(torch.nested.nested_tensor([x[0, :2], x[0, 2:]]), p), 6 * 7 * 3,
    ),
    "nested products": (
        (6, 7), (1,), lambda x, p: _square(torch.nested.nested_tensor([x[0, :2], x[0, 2:]])),
        (2 * 2 + 4 * 4) * 7,
    ),
    "element-wise": ((5, 7), (7,), lambda x, p: (x * p).relu().sum(), 0),
}  # fmt: skip


def _square(nested):
    return nested @ nested.transpose(1, 2)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", BY_HAND)
def test_products_are_counted_as_by_hand(name, inference):
    example, parameter, function, macs = BY_HAND[name]
    model = Function(function, *parameter)
    model.forward = torch.inference_mode(inference)(model.forward)
    cost = count_cost(model, torch.randn(1, *example))
    assert (cost.macs, cost.by_module[""][1]) == (macs, macs)


def encoder_layer(**options):
    return nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, **options)


ENCODER_LAYER = 10 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 10 * 10 * 16  # ten steps of 16 features: 23,680


def attending(**options):
    return nn.MultiheadAttention(16, 4, batch_first=True, **options)


class Alone(nn.Module):
    """Attention called by itself, with one and the same tensor thrice."""

    def __init__(self, **options):
        super().__init__()
        self.attention, self.call = attending(), options

    def forward(self, x):
        return self.attention(x, x, x, **self.call)[0]


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(encoder_layer(), 2)

    def forward(self, x):
        padding = torch.arange(10).expand(len(x), 10) > 6
        return self.encoder(x, src_key_padding_mask=padding)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("rebuilt", [False, True])
@pytest.mark.parametrize(
    ("build", "macs"),
    [
        (encoder_layer, ENCODER_LAYER),
        (lambda: encoder_layer(norm_first=True, activation="gelu"), ENCODER_LAYER),
        (Padded, 2 * ENCODER_LAYER),
        (Alone, 10 * 4 * 256 + 2 * 100 * 16),
        (lambda: Alone(need_weights=False), 10 * 4 * 256 + 2 * 100 * 16),
    ],
)
def test_attention_is_counted_rebuilt_or_not(build, macs, rebuilt, training):
    model = build().train(training)
    fastpath = torch.backends.mha.get_fastpath_enabled()
    cost = count_cost(explicit(model) if rebuilt else model, torch.randn(3, 10, 16))
    assert cost.macs == macs == sum(count for _, count in cost.by_module.values())
    assert model.training is training
    assert torch.backends.mha.get_fastpath_enabled() is fastpath


def test_attention_that_stays_in_one_piece_is_counted_too():
    layer = encoder_layer()
    layer.self_attn = attending(add_zero_attn=True)  # one more key of zeros
    assert count_cost(layer, torch.randn(2, 10, 16)).macs == ENCODER_LAYER + 2 * 10 * 16


class Packed(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(7, 13, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, [5] * (len(x) - 1) + [3], batch_first=True)
        return self.rnn(packed)[0].data


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize("rebuilt", [False, True])
def test_recurrent_layers_are_counted_step_by_step(kind, gates, rebuilt):
    a_step = 2 * gates * 13 * (7 + 13) + 2 * gates * 13 * (26 + 13)
    build = explicit if rebuilt else lambda model: model
    model = kind(7, 13, num_layers=2, batch_first=True, bidirectional=True)
    assert count_cost(build(model), torch.randn(4, 5, 7)).macs == 5 * a_step
    assert count_cost(build(Packed(kind)), torch.randn(1, 5, 7)).macs == 3 * a_step


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNNCell, 1), (nn.GRUCell, 3), (nn.LSTMCell, 4)])
def test_recurrent_cells_are_counted(kind, gates):
    assert count_cost(kind(7, 13), torch.randn(4, 7)).macs == gates * 13 * (7 + 13)


def test_bilinear_layers_are_counted_as_a_mac_a_weight():
    layer = nn.Bilinear(7, 5, 3)
    assert count_cost(layer, (torch.randn(4, 7), torch.randn(4, 5))).macs == layer.weight.numel()


def test_projected_states_are_counted():
    layer = nn.LSTM(7, 13, proj_size=4, batch_first=True)
    assert count_cost(layer, torch.randn(2, 6, 7)).macs == 6 * (4 * 13 * (7 + 4) + 4 * 13)


def torchs_count(model, inputs):
    """MACs by torch's own counter: the whole network's, and each module's with its children."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:  # it sees no fused attention on the CPU
        model(**inputs)
    root = type(model).__name__
    by_module = {
        name.removeprefix(root).removeprefix("."): sum(flops.values()) // 2
        for name, flops in counter.get_flop_counts().items()
    }
    return counter.get_total_flops() // 2, by_module


@pytest.mark.parametrize("name", small_transformers.NETWORKS)
def test_networks_of_transformers_cost_what_torchs_counter_says(name):
    model, inputs = small_transformers.build(name), small_transformers.NETWORKS[name][1]
    total, by_module = torchs_count(model, inputs(1))
    cost = count_cost(model, inputs(3))
    assert cost.macs == total > 0
    assert cost.parameters == model.num_parameters()
    assert sum(macs for _, macs in cost.by_module.values()) == total
    for module, macs in by_module.items():  # a layer that is called twice counts twice
        if module != "Global":
            below = [
                m for n, (_, m) in cost.by_module.items() if f"{n}.".startswith(f"{module}.") or not module
            ]
            assert sum(below) == macs, module
