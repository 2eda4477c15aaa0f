"""The Taylor score: the first-order change of the loss where a unit goes from all its readers, once."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from workbench.measure.gradients import measure_taylor
from workbench.network.finding.proof import find_groups
from workbench.network.running import received

EXAMPLES, CLASSES = 13, 5


class Shared(nn.Module):
    """One activation, read twice, once through a second nonlinearity."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = nn.Linear(3, 7), nn.Linear(7, 11), nn.Linear(7, CLASSES)
        self.head = nn.Linear(11, CLASSES)

    def forward(self, x):
        h = self.stem(x).tanh()
        return self.head(self.a(h).tanh()) + self.b(h)


class InPlace(Shared):
    """What was read is written to afterwards."""

    def forward(self, x):
        h = nn.functional.gelu(self.stem(x))
        read = self.b(h)
        return read + self.head(self.a(h.mul_(0.5)).tanh())


class Reused(nn.Module):
    """One reader, called twice on different activations of the same units."""

    def __init__(self):
        super().__init__()
        self.stem, self.mid, self.head = nn.Linear(3, 7), nn.Linear(7, 11), nn.Linear(11, CLASSES)

    def forward(self, x):
        first, second = self.stem(x).tanh(), self.stem(x * 2 + 1).tanh()
        return self.head((self.mid(first) * self.mid(second)).tanh())


class SameTwice(Reused):
    """One reader, called twice on the same tensor."""

    def forward(self, x):
        h = self.stem(x).tanh()
        return self.head((self.mid(h) + self.mid(h) ** 2).tanh())


class ByName(Shared):
    """Readers called with their input by name."""

    def forward(self, x):
        h = self.stem(x).tanh()
        return self.head(self.a(input=h).tanh()) + self.b(input=h)


class Again(Shared):
    """The middle is computed again in the backward pass."""

    reentrant = False

    def forward(self, x):
        h = self.stem(x).tanh()
        return self.head(checkpoint(lambda t: self.a(t).tanh(), h, use_reentrant=self.reentrant)) + self.b(h)


class AgainReentrant(Again):
    reentrant = True


class Residual(nn.Module):
    """A stream read by three layers, two of which write to it."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, 6, 3, padding=1), nn.Linear(6, CLASSES)
        self.one, self.two = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)

    def forward(self, x):
        x = self.stem(x.reshape(len(x), 2, 3, -1)).tanh()
        x = x + self.one(x).tanh()
        x = x + self.two(x).tanh()
        return self.head(x.mean((2, 3)))


NETWORKS = {
    kind.__name__: (kind, 12 if kind is Residual else 3)
    for kind in (Shared, InPlace, Reused, SameTwice, ByName, Again, AgainReentrant, Residual)
}


def loss_with_gates(model, group, x, y, gate):
    """The loss where every reader of the group receives unit j times gate[j]."""
    handles = []
    for reader in group.readers:
        factor = torch.ones(int(reader.columns.max()) + 1, dtype=x.dtype)
        for unit, columns in enumerate(reader.columns):
            factor[columns] = gate[unit]
        spatial = (1, 1) if reader.kind == "Conv2d" else ()

        factor = factor.reshape(-1, *spatial)

        def scaled(_m, args, kwargs, factor=factor):
            value = received(args, kwargs) * factor
            return ((value, *args[1:]), kwargs) if args else (args, {next(iter(kwargs)): value})

        layer = model.get_submodule(reader.module)
        handles.append(layer.register_forward_pre_hook(scaled, with_kwargs=True))
    try:
        with torch.no_grad():
            return float(cross_entropy(model(x), y))
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("name", NETWORKS)
def test_taylor_is_the_slope_of_the_loss_under_a_gate_at_every_reader(name):
    kind, features = NETWORKS[name]
    torch.manual_seed(5)
    model = kind().double().eval()
    x, y = torch.randn(EXAMPLES, features).double(), torch.arange(EXAMPLES) % CLASSES
    groups = [group for group in find_groups(model, x[:4]) if group.prunable]
    found = measure_taylor(model, groups, [(x[:8], y[:8]), (x[8:], y[8:])])
    readers = {"Reused": 1, "SameTwice": 1, "Residual": 3}.get(name, 2)
    assert max(len(group.readers) for group in groups) == readers
    for group in groups:
        slopes = []
        for unit in range(group.width):
            more, less = torch.ones(group.width).double(), torch.ones(group.width).double()
            more[unit], less[unit] = 1 + 1e-5, 1 - 1e-5
            rise = loss_with_gates(model, group, x, y, more) - loss_with_gates(model, group, x, y, less)
            slopes.append(abs(rise) / 2e-5)
        slopes = torch.tensor(slopes, dtype=torch.float64)
        assert float(slopes.max()) > 1e-4
        torch.testing.assert_close(found[group.name], slopes, rtol=1e-6, atol=1e-9)


def test_two_equal_readers_count_once_each():
    """By hand: y = (w + v)·h, squared error to 0: the score is E[2·(w + v)²·h²], not twice that."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(1, 2, bias=False)
            self.w, self.v = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)

        def forward(self, x):
            h = self.stem(x)
            return self.w(h) + self.v(h)

    model = Two()
    with torch.no_grad():
        model.stem.weight.copy_(torch.tensor([[1.0], [0.0]]))
        model.w.weight.fill_(2.0)
        model.v.weight.fill_(3.0)
    x = torch.tensor([[1.0], [2.0]])
    groups = find_groups(model, torch.randn(4, 1))
    found = measure_taylor(
        model, groups, (x, torch.zeros(2, 1) + 0.5), loss=lambda out, _t: out.square().mean()
    )
    assert found["stem"].tolist() == [2 * 25 * 2.5, 0.0]


def test_a_network_with_whole_number_parameters_has_gradients_too():
    class Counting(Shared):
        def __init__(self):
            super().__init__()
            self.calls = nn.Parameter(torch.tensor([3]), requires_grad=False)

    model = Counting()
    x, y = torch.randn(EXAMPLES, 3), torch.arange(EXAMPLES) % CLASSES
    found = measure_taylor(model, find_groups(model, x), (x, y))
    assert float(found["stem"].max()) > 0
