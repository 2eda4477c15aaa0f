"""What one group does wrong is seen beside what others change, however much that is."""

import pytest
import torch
from silencing import each_alone, worst_together
from torch import nn

import workbench as wb
from workbench.network.finding.trials import Trials

WIDTH = 12


class Faint(nn.Module):
    """Heads on logits so small that attention is nearly even: their count changes next to nothing."""

    def __init__(self, scale, name="heads"):
        super().__init__()
        self.qk, self.v, self.out = nn.Linear(WIDTH, 24), nn.Linear(WIDTH, 12), nn.Linear(12, WIDTH)
        self.scale, self.name = scale, name
        if name:
            setattr(self, name, 4)

    def forward(self, x):
        b, n, _ = x.shape
        heads = getattr(self, self.name) if self.name else 4
        q, k = (t.reshape(b, n, heads, -1).transpose(1, 2) for t in self.qk(x).chunk(2, -1))
        v = self.v(x).reshape(b, n, heads, -1).transpose(1, 2)
        mixed = (self.scale * q @ k.transpose(2, 3)).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(b, n, -1))


class Counting(nn.Module):
    """A little of what the units' own number is goes into what reads them."""

    def __init__(self, share):
        super().__init__()
        self.a, self.b, self.share = nn.Linear(WIDTH, 9), nn.Linear(9, WIDTH), share

    def forward(self, x):
        x = self.a(x).relu()
        return self.b(x * (1 + self.share / x.shape[-1]))


class Mean(nn.Module):
    """A little of the mean over the units goes to each of them, and the units are weak themselves."""

    def __init__(self, share):
        super().__init__()
        self.a, self.b, self.share = nn.Linear(WIDTH, 9), nn.Linear(9, WIDTH), share

    def forward(self, x):
        x = self.a(x).relu()
        return self.b(x + self.share * x.mean(-1, keepdim=True))


class Beside(nn.Module):
    """Weak units that count themselves, and strong ones that do not, read by one layer."""

    def __init__(self):
        super().__init__()
        self.weak, self.strong, self.b = nn.Linear(WIDTH, 9), nn.Linear(WIDTH, 9), nn.Linear(18, WIDTH)

    def forward(self, x):
        weak, strong = self.weak(x).relu(), self.strong(x).relu()
        return self.b(torch.cat([1e-4 * weak * (1 + 1 / weak.shape[-1]), strong], -1))


class Loud(nn.Module):
    """What the others are: large, and right."""

    def __init__(self, scale=30.0):
        super().__init__()
        self.a, self.b, self.scale = nn.Linear(WIDTH, 20), nn.Linear(20, WIDTH), scale

    def forward(self, x):
        return self.scale * self.b(self.a(x).relu())


class Around(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.stem, self.head = nn.Linear(7, WIDTH), nn.Linear(WIDTH, 3)
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x.mean(1))


NETWORKS = {
    "weak units beside strong ones": lambda: Around(Loud(1.0), Beside(), Loud(1.0)),
    "faint heads": lambda: Around(Loud(), Faint(1e-4, ""), Loud(), Loud()),
    "fainter heads": lambda: Around(Loud(1.0), Faint(1e-3, ""), Loud(1.0)),
    "one of the sisters counts": lambda: Around(Loud(), Counting(0.0), Counting(3e-5), Counting(0.0)),
    "one of the sisters mixes": lambda: Around(Loud(), Mean(0.0), Mean(1e-5), Mean(0.0), Loud()),
}
KINDS = [torch.float32, torch.float64]


def opened(name, kind):
    torch.manual_seed(0)
    model, x = NETWORKS[name]().to(kind).eval(), torch.randn(5, 4, 7).to(kind)
    return wb.Session(model, [x]), x.double()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_let_go_equals_silence_to_the_last_digits(name, kind):
    session, x = opened(name, kind)
    model, groups = session.model.double(), session.groups
    apart = each_alone(model, groups, x, times=3)
    assert max(off for off, _ in apart.values()) < 1e-10
    assert worst_together(model, groups, x, times=3) < 1e-10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_those_beside_what_is_wrong_stay_prunable(name, kind):
    session, _ = opened(name, kind)
    good = [
        g for g in session.groups if isinstance(session.model.get_submodule(g.name.rpartition(".")[0]), Loud)
    ]
    assert good
    assert all(group.prunable for group in good)


@pytest.mark.parametrize("kind", KINDS)
def test_what_fails_alone_fails_beside_others(kind):
    session, _ = opened("weak units beside strong ones", kind)
    verdicts = {group.name: group.prunable for group in session.groups}
    assert not verdicts["layers.1.weak"]
    assert verdicts["layers.1.strong"]
    x = torch.randn(5, 4, 7).to(kind)
    groups = [group for group in session.groups if group.readers]
    trials = Trials(session.model, x, groups)
    (weak,) = [group for group in groups if group.name == "layers.1.weak"]
    assert trials.failure([weak], 0)
    assert trials.failure(groups, 0)
