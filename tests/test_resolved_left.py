"""Layers that only seem to be plain ones, on small numbers, in few digits, or to code around: left whole."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize

import workbench as wb
from workbench.network.copying import copied
from workbench.network.rebuilt.explicit import explicit
from workbench.session.recipe import fingerprint


class Own(nn.Module):
    def __init__(self, inputs=6, outputs=6):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x):
        return functional.linear(self.before(x), self.weight, self.bias)

    def before(self, x):
        return x

    def penalty(self):
        return self.weight.square().sum()


class Clamped(Own):
    def before(self, x):
        return x.clamp(-6, 6)


class Bounded(Own):
    def forward(self, x):
        return super().forward(x).clamp(-100, 100)


class WithoutSmall(Own):
    def before(self, x):
        return torch.where(x.abs() < 1e-3, 0, x)


class Gated(Own):
    def forward(self, x):
        return super().forward(x) * x.sigmoid()


class ClampedKernel(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3))

    def forward(self, x):
        return functional.conv2d(x.clamp(-20, 20), self.kernel)


class ClampedComputed(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 4, 3)

    def forward(self, x):
        return functional.conv2d(x.clamp(-20, 20), self.weight * 0.5, self.bias)


class Masked(nn.Linear):
    """Autoregressive: an output knows only of inputs before it."""

    def __init__(self):
        super().__init__(6, 6)
        self.register_buffer("mask", torch.ones(6, 6).tril())

    def forward(self, x):
        return functional.linear(x, self.weight * self.mask, self.bias)


class Patched(Own):
    """As libraries wrap layers: the forward of the object, not of the class."""

    def __init__(self):
        super().__init__()
        self.forward = self.forward


@pytest.mark.parametrize(
    "kind", [Clamped, Bounded, WithoutSmall, ClampedKernel, ClampedComputed, Masked, Patched]
)
def test_what_differs_on_large_or_small_numbers_or_has_more_to_it_is_left(kind):
    layer = kind()
    assert explicit(nn.Sequential(layer))[0] is layer


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_few_digits_hide_nothing(kind):
    model = explicit(nn.Sequential(Gated(), Clamped(), Own()).to(kind))
    assert [type(layer).__name__ for layer in model] == ["Gated", "Clamped", "Linear"]
    assert [isinstance(layer, Own) for layer in model] == [True, True, False]
    assert {p.dtype for p in model.parameters()} == {kind}


class Widening(Own):
    """Returns more digits than it is given."""

    def forward(self, x):
        return functional.linear(x.float(), self.weight.float(), self.bias.float())


def test_a_layer_that_returns_another_type_is_left():
    layer = Widening().to(torch.bfloat16)
    assert explicit(nn.Sequential(layer))[0] is layer


class Shifted(Own):
    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.randn(6))


class Gained(nn.Linear):
    def __init__(self):
        super().__init__(6, 6)
        self.gain = nn.Parameter(torch.rand(6, 1) + 0.5)

    def forward(self, x):
        return functional.linear(x, self.weight * self.gain, self.bias)


USES = {
    "a method": (Own, lambda layer, x: layer(x) + layer.penalty()),
    "a buffer": (Shifted, lambda layer, x: layer(x) + layer.shift),
    "another parameter": (Gained, lambda layer, x: layer(x) * layer.gain[:, 0]),
    "its class": (Own, lambda layer, x: layer(x).relu() if isinstance(layer, Own) else layer(x)),
}


@pytest.mark.parametrize("use", USES)
def test_code_around_that_asks_for_more_than_a_plain_layer_has_finds_it(use):
    kind, around = USES[use]

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.last = kind(), nn.Linear(6, 3)

    Around.use = staticmethod(around)
    Around.forward = lambda self, x: self.last(self.use(self.layer, x))
    torch.manual_seed(0)
    model, x = Around(), torch.randn(5, 6)
    session = wb.Session(model, [x])
    torch.testing.assert_close(session.model(x), model(x))
    assert isinstance(session.model.layer, kind)


class Turned(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6))

    def forward(self, x):
        return x @ self.weight


class Halved(nn.Linear):
    def __init__(self):
        super().__init__(6, 6)

    def forward(self, x):
        return functional.linear(x, self.weight * 0.5, self.bias)


@pytest.mark.parametrize("kind", [Turned, Halved, Own])
def test_tied_weights_stay_tied(kind):
    first, second = kind(), kind()
    second.weight = first.weight
    model = explicit(nn.Sequential(first, nn.Tanh(), second))
    assert model[0].weight is model[2].weight
    assert type(model[0]) is (nn.Linear if kind is Own else kind)


def test_a_normed_weight_that_was_frozen_stays_frozen_and_a_buffer_a_buffer():
    with pytest.warns(FutureWarning):
        frozen = nn.utils.weight_norm(nn.Linear(6, 6)).requires_grad_(False)
    norm = nn.BatchNorm1d(6)
    parametrize.register_parametrization(norm, "running_mean", nn.Identity())
    model = explicit(nn.Sequential(frozen, norm))
    assert [p.requires_grad for p in model[0].parameters()] == [False, False]
    assert {name for name, _ in model[1].named_buffers()} == {
        "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip


def test_the_fingerprint_is_the_same_in_training_mode():
    torch.manual_seed(0)
    model = nn.Sequential(parametrizations.spectral_norm(nn.Linear(5, 12)), nn.Tanh(), nn.Linear(12, 3))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert fingerprint(copied(model).train()) == fingerprint(copied(model).eval())
    x = torch.randn(6, 5)
    recipe = wb.Session(model.train(), [x]).recipe
    assert wb.replay(recipe, model, [x]).model is not model
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
