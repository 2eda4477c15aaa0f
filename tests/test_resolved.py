"""Layers that compute their weight, or are someone's own, become plain ones that compute the same."""

import pytest
import torch
from exports import apart, halved, other_weights, outputs
from silencing import each_alone, worst_together
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

import workbench as wb
from workbench.network.copying import copied
from workbench.network.rebuilt.explicit import Recurrent, explicit, is_explicit
from workbench.session.recipe import fingerprint


def standardised(weight, gain=None):
    """Rows less their mean and over their standard deviation, as convolutions of BiT and NFNet have them."""
    flat = weight.flatten(1)
    rows = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    return rows.view_as(weight) * (1 if gain is None else gain)


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = standardised(self.weight)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Scaled(nn.Conv2d):
    """With a gain a channel of its own, as NFNet's."""

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.gain = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1) + 0.5)

    def forward(self, x):
        weight = standardised(self.weight, self.gain)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Same(nn.Conv2d):
    """Padded as TensorFlow does it, by the size of what comes in."""

    def forward(self, x):
        pads = []
        for size, k, step in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            lack = max((-(-size // step) - 1) * step + k - size, 0)
            pads += [lack // 2, lack - lack // 2]
        return functional.conv2d(functional.pad(x, pads), standardised(self.weight), self.bias, self.stride)


class Equalised(nn.Linear):
    """A weight scaled at every call, as in StyleGAN."""

    def forward(self, x):
        return functional.linear(x, self.weight * 0.37, self.bias)


class OwnLinear(nn.Module):
    def __init__(self, inputs, outputs, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.randn(outputs)) if bias else None

    def forward(self, x):
        return functional.linear(x, self.weight, self.bias)


class Turned(nn.Module):
    """(inputs, outputs), as in TensorFlow; the second size is the first's too."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x):
        return x @ self.weight + self.bias


def images(first, second):
    return nn.Sequential(
        first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 3)
    )


def vectors(first, second):
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(9, 3))


def pruned_mask(layer):
    prune.random_unstructured(layer, "weight", 0.3)
    return layer


def old_weight_norm(layer):
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(layer)


class Kernel(nn.Module):
    """Turned, and under names of its own, as code that came from JAX has it."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)
        self.shift = nn.Parameter(torch.randn(outputs))

    def forward(self, x):
        return torch.einsum("...i,io->...o", x, self.kernel) + self.shift


class OwnConvolution(nn.Module):
    def __init__(self, inputs, outputs, size, bias=True, **options):
        super().__init__()
        self.filters = nn.Parameter(torch.randn(outputs, inputs, size, size) / (inputs * size**2) ** 0.5)
        self.offset = nn.Parameter(torch.randn(outputs)) if bias else None
        self.options = options

    def forward(self, x):
        return functional.conv2d(x, self.filters, self.offset, **self.options)


MADE = {
    "own convolutions": lambda: images(
        OwnConvolution(3, 12, 3, stride=2), OwnConvolution(12, 9, 3, bias=False, padding=2, dilation=2)
    ),
    "own convolution a channel": lambda: images(
        nn.Sequential(nn.Conv2d(3, 12, 1), OwnConvolution(1, 12, 3, groups=12, padding="same")),
        nn.Conv2d(12, 9, 1),
    ),
    "own, under other names": lambda: vectors(Kernel(5, 12), Kernel(12, 9)),
    "weight norm": lambda: vectors(
        parametrizations.weight_norm(nn.Linear(5, 12)), parametrizations.weight_norm(nn.Linear(12, 9))
    ),
    "spectral norm": lambda: images(
        parametrizations.spectral_norm(nn.Conv2d(3, 12, 3)),
        parametrizations.spectral_norm(nn.Conv2d(12, 9, 3)),
    ),
    "orthogonal": lambda: vectors(parametrizations.orthogonal(nn.Linear(5, 12)), nn.Linear(12, 9)),
    "weight norm by a hook": lambda: images(
        old_weight_norm(nn.Conv2d(3, 12, 3)), old_weight_norm(nn.Conv2d(12, 9, 3))
    ),
    "spectral norm by a hook": lambda: vectors(
        nn.utils.spectral_norm(nn.Linear(5, 12)), nn.utils.spectral_norm(nn.Linear(12, 9))
    ),
    "a pruning mask": lambda: vectors(pruned_mask(nn.Linear(5, 12)), pruned_mask(nn.Linear(12, 9))),
    "standardised": lambda: images(Standardised(3, 12, 3, padding=1), Standardised(12, 9, 3, stride=2)),
    "standardised without a bias": lambda: images(
        Standardised(3, 12, 3, bias=False), Standardised(12, 9, 1, bias=False)
    ),
    "standardised in groups": lambda: images(
        Standardised(3, 12, 3), nn.Sequential(Standardised(12, 12, 3, groups=12), nn.Conv2d(12, 9, 1))
    ),
    "scaled": lambda: images(Scaled(3, 12, 3), Scaled(12, 9, 3, dilation=2)),
    "padded as needed": lambda: images(Same(3, 12, 3, stride=2), Same(12, 9, (3, 2))),
    "equalised": lambda: vectors(Equalised(5, 12), Equalised(12, 9)),
    "own": lambda: vectors(OwnLinear(5, 12), OwnLinear(12, 9, bias=False)),
    "own, turned": lambda: vectors(Turned(5, 12), Turned(12, 9)),
    "own, square": lambda: nn.Sequential(
        nn.Linear(5, 9), Turned(9, 9), nn.Tanh(), vectors(OwnLinear(9, 9), OwnLinear(9, 9))
    ),
}


def inputs_of(model):
    conv = any(isinstance(m, nn.AdaptiveAvgPool2d) for m in model.modules())
    generator = torch.Generator().manual_seed(2)
    return torch.randn(6, 3, 13, 13, generator=generator) if conv else torch.randn(6, 5, generator=generator)


@pytest.mark.parametrize("name", MADE)
class TestEach:
    def model(self, name):
        torch.manual_seed(0)
        return MADE[name]().eval()

    def test_the_session_computes_the_same_and_prunes_every_layer(self, name):
        model = self.model(name)
        x = inputs_of(model)
        with torch.no_grad():
            before = model(x)
        state = {key: value.clone() for key, value in model.state_dict().items()}
        session = wb.Session(model, [x])
        assert [g.prunable for g in session.groups[:-1]] == [True] * (len(session.groups) - 1)
        assert len(session.groups) >= 3
        assert session.stays == ()
        torch.testing.assert_close(session.model(x), before)
        assert state.keys() == model.state_dict().keys()
        torch.testing.assert_close(model(x), before, rtol=0, atol=0)
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())
        double = session.model.double()
        alone = each_alone(double, session.groups, x.double(), times=3)
        assert all(off <= 1e-9 and effect > 1e-6 for off, effect in alone.values())
        assert worst_together(double, session.groups, x.double(), times=3) <= 1e-9

    def test_what_is_exported_comes_back_into_the_class_as_it_was(self, name, tmp_path):
        model = self.model(name)
        x = inputs_of(model)
        session = halved(model, x)
        session.export(tmp_path)
        with torch.no_grad():
            other = other_weights(self.model(name)) if "hook" not in name else self.model(name)
        assert apart(outputs(wb.load_pruned(other, tmp_path), x), outputs(session.model, x)) <= 1e-6

    def test_a_second_call_changes_nothing_and_the_fingerprint_is_that_of_the_plain_layers(self, name):
        model = self.model(name)
        once = explicit(copied(model))
        assert fingerprint(once) == fingerprint(model)
        modules = list(once.modules())
        assert explicit(once) is once
        assert list(once.modules()) == modules
        assert is_explicit(once)
        assert not is_explicit(model)


class Gated(nn.Module):
    """Not linear, with the parameters of a linear layer."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(6, 6)), nn.Parameter(torch.zeros(6))

    def forward(self, x):
        return functional.linear(x, self.weight, self.bias) * x.sigmoid()


class Noisy(OwnLinear):
    def forward(self, x):
        return functional.dropout(super().forward(x), 0.5, self.training)


class Twice(OwnLinear):
    def forward(self, x):
        return super().forward(x), x


class Dynamic(nn.Conv2d):
    """A weight that depends on what comes in."""

    def forward(self, x):
        return functional.conv2d(x, self.weight * x.mean(), self.bias)


class OwnEmbedding(OwnLinear):
    def forward(self, x):
        return functional.embedding(x, self.weight)


class Hooked(OwnLinear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_forward_hook(lambda _m, _i, out: out + 1)


@pytest.mark.parametrize(
    "layer",
    [Gated(), Noisy(6, 6), Twice(6, 6), Dynamic(3, 6, 3), OwnEmbedding(6, 6), Hooked(6, 6)],
    ids=lambda layer: type(layer).__name__,
)
def test_what_no_plain_layer_computes_is_left(layer):
    model = nn.Sequential(layer)
    state = torch.random.get_rng_state()
    assert explicit(model)[0] is layer
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_weight_tied_to_an_embedding_stays_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(11, 6), OwnLinear(6, 11)
            self.head.weight = self.table.weight

        def forward(self, x):
            return self.head(self.table(x).tanh())

    model = explicit(Tied())
    assert type(model.head) is nn.Linear
    assert model.head.weight is model.table.weight


def test_code_around_finds_what_it_asks_of_the_layer():
    class Asking(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = OwnLinear(5, 12), nn.Linear(12, 3)
            self.first.factor = 0.5

        def forward(self, x):
            return self.second(self.first(x).relu() * self.first.factor)

    session = wb.Session(Asking(), [torch.randn(4, 5)])
    assert session.group("first").prunable


def test_a_layer_used_twice_stays_one_layer():
    layer = OwnLinear(6, 6)
    model = explicit(nn.Sequential(layer, nn.ReLU(), layer))
    assert model[0] is model[2]
    assert type(model[0]) is nn.Linear


def test_a_recurrent_layer_with_a_normed_weight_is_rebuilt_with_the_weight_that_it_has():
    torch.manual_seed(0)
    model = nn.Sequential(parametrizations.weight_norm(nn.LSTM(3, 5), "weight_hh_l0")).eval()
    x = torch.randn(7, 2, 3)
    rebuilt = explicit(copied(model))
    assert type(rebuilt[0]) is Recurrent
    torch.testing.assert_close(rebuilt(x), model(x))


def test_parameters_that_code_around_asks_for_stay_as_they_are():
    class Penalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.Sequential(Kernel(6, 6), Turned(6, 6), OwnLinear(6, 6))

        def forward(self, x):
            return self.inside(x) + self.inside[0].kernel.sum() + self.inside[1].weight[0]

    torch.manual_seed(0)
    model, x = Penalised(), torch.randn(3, 6)
    same = explicit(copied(model))
    assert isinstance(same.inside[0], Kernel)
    assert isinstance(same.inside[1], Turned)
    assert type(same.inside[2]) is nn.Linear
    torch.testing.assert_close(same(x), model(x))


def test_gpts_own_linear_layer_stays_as_it_is_known():
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    assert type(explicit(nn.Sequential(conv1d(6, 6)))[0]) is conv1d
