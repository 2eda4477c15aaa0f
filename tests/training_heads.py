"""Small networks that do more in training mode: auxiliary heads, sums, scales, layers that write."""

import torch
from torch import nn
from torch.nn import functional

KEPT = [0, 2, 3, 7, 8]


class Net(nn.Module):
    """Two hidden layers, what comes out of each passing through `points`; `aux(h)` in training mode alone."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = nn.Linear(7, 11), nn.Linear(11, 13), nn.Linear(13, 5)
        self.points = nn.ModuleList([nn.Identity(), nn.Identity()])

    def forward(self, x):
        h = self.points[0](functional.relu(self.a(x)))
        g = self.points[1](functional.relu(self.b(h)))
        y = self.o(g)
        return (y, *self.train_only(x, h, g)) if self.training else y


class Head(Net):
    def __init__(self):
        super().__init__()
        self.aux = nn.Linear(11, 3)

    def train_only(self, x, h, g):
        return [self.aux(h)]


class TwoHeads(Net):
    """A head of two layers on both stages at once, one used twice: the units of its own are not measured."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(24, 9), nn.Linear(9, 3)
        self.drop = nn.Dropout(0.5)

    def train_only(self, x, h, g):
        return [self.second(self.drop(self.first(torch.cat([h, g], 1)).relu()))]


class Doubled(Net):
    def __init__(self):
        super().__init__()
        self.aux, self.norm = nn.Linear(11, 3), nn.BatchNorm1d(11)

    def train_only(self, x, h, g):
        return [self.aux(h) + self.aux(self.norm(h))]


class Writer(Net):
    """Training mode alone adds to the units."""

    def __init__(self):
        super().__init__()
        self.more, self.aux = nn.Linear(7, 11), nn.Linear(11, 3)

    def train_only(self, x, h, g):
        return [self.aux(h * self.more(x))]


class Met(Net):
    """Training mode alone adds the stages to one another, so that they must go together."""

    def __init__(self):
        super().__init__()
        self.b, self.o, self.aux = nn.Linear(11, 11), nn.Linear(11, 5), nn.Linear(11, 3)

    def train_only(self, x, h, g):
        return [self.aux(h + g)]


class Bare(Net):
    """Training mode alone multiplies the units by a scale of its own."""

    def __init__(self):
        super().__init__()
        self.scale, self.aux = nn.Parameter(torch.rand(11)), nn.Linear(11, 3)

    def train_only(self, x, h, g):
        return [self.aux(h * self.scale)]


class Images(nn.Module):
    """As GoogLeNet: a convolution, a pool, two linear layers, and a depthwise one before them."""

    def __init__(self):
        super().__init__()
        self.a, self.n, self.b = nn.Conv2d(3, 11, 3), nn.BatchNorm2d(11), nn.Conv2d(11, 5, 1)
        self.points = nn.ModuleList([nn.Identity()])
        self.deep, self.flat, self.out = (
            nn.Conv2d(11, 11, 3, groups=11, bias=False),
            nn.Linear(44, 9),
            nn.Linear(9, 3),
        )

    def forward(self, x):
        h = self.points[0](self.n(self.a(x)).relu())
        y = self.b(h).mean((2, 3))
        if not self.training:
            return y
        pooled = functional.adaptive_avg_pool2d(self.deep(h), 2).flatten(1)
        return {"out": y, "aux": self.out(functional.dropout(self.flat(pooled).relu(), 0.5, self.training))}


def example(model):
    generator = torch.Generator().manual_seed(1)
    return torch.randn((6, 3, 9, 9) if isinstance(model, Images) else (6, 7), generator=generator)


def built(kind):
    torch.manual_seed(0)
    return kind().eval()
