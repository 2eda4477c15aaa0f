"""Small attention networks that count their heads in code, and what is left of them when heads go."""

import torch
from attention_kinds import HEAD, HEADS, WIDTH, Network
from silencing import lively
from torch import nn

from workbench.network.finding.proof import find_groups
from workbench.network.surgery import remove_units


def attended(q, k, v):
    return (q @ k.mT / HEAD**0.5).softmax(-1) @ v


def heads_of(x, heads, size):
    return x.view(*x.shape[:2], heads, size).transpose(1, 2)


def parted(x, parts):
    return x.reshape(*x.shape[:2], parts, -1)


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = HEADS
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))


class OneLine(Layers):
    """Two calls in a line; in one of them the number of examples stands where heads stand in the other."""

    def forward(self, x):
        B, N, C = x.shape
        d = C // self.h
        q, k, v = (
            y(x).view(B, N, self.h, d).transpose(1, 2).reshape(B * self.h, N, d)
            for y in (self.q, self.k, self.v)
        )
        y = attended(q, k, v)
        return self.o(y.view(B, self.h, N, d).transpose(1, 2).reshape(B, N, C))


class Crossed(Layers):
    def forward(self, x):
        B, N, C = x.shape
        q, k, v = (t(x).view(B, N, self.h, C // self.h).transpose(1, 2) for t in (self.q, self.k, self.v))
        a, b = (q @ k.mT).softmax(-1).view(B * self.h, N, N), v.reshape(B * self.h, N, C // self.h)
        return self.o((a @ b).view(B, self.h, N, C // self.h).transpose(1, 2).reshape(B, N, C))


class Windows(Layers):
    """Windows of positions beside heads: many sizes may be equal."""

    def forward(self, x):
        B, N, C = x.shape
        w = 1 if N % 2 else 2
        x = x.view(B, N // w, w, C).reshape(-1, w, C)
        b = len(x)
        q, k, v = (y(x).reshape(b, w, self.h, C // self.h).transpose(1, 2) for y in (self.q, self.k, self.v))
        y = self.o(attended(q, k, v).transpose(1, 2).reshape(b, w, C))
        return y.view(B, N // w, w, C).reshape(B, N, C)


class Sliced(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.o = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        B, N, C = x.shape
        t = self.qkv(x)
        q, k, v = (heads_of(a, HEADS, C // HEADS) for a in (t[..., :C], t[..., C : 2 * C], t[..., -C:]))
        return self.o(attended(q, k, v).transpose(1, 2).reshape(B, N, C))


class Helped(Layers):
    """Passes its work over where there is one position, or by chance."""

    def forward(self, x):
        B, N, C = x.shape
        if N == 1:
            return x
        q, k, v = (heads_of(y(x), self.h, C // self.h) for y in (self.q, self.k, self.v))
        return self.o(attended(q, k, v).transpose(1, 2).reshape(B, N, C))


class Around(nn.Module):
    """One that runs the forward of another itself, and a third that has heads of its own."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = Helped(), OneLine(), Helped()

    def forward(self, x):
        return self.c(self.b(x + self.a.forward(x)))


class Loop(nn.Module):
    """Layers that one line runs in turn."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layers() for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            B, N, C = x.shape
            q, k, v = (heads_of(y(x), HEADS, C // HEADS) for y in (layer.q, layer.k, layer.v))
            x = x + layer.o(attended(q, k, v).transpose(1, 2).reshape(B, N, C))
        return x


class Length(Layers):
    """One line takes heads apart and, of other numbers, positions: these may be as many as heads."""

    def forward(self, x):
        B, N, C = x.shape
        given = ((self.q(x), self.h), (self.k(x), self.h), (self.v(x), self.h), (x.mT, N))
        q, k, v, same = [parted(t, n) for t, n in given]
        y = attended(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2).reshape(B, N, C)
        return self.o(y) + same.reshape(B, C, N).mT


class Branching(nn.Module):
    """Heads counted on the width; from eight tokens on, code runs that shorter inputs do not reach."""

    def __init__(self):
        super().__init__()
        self.stem, self.qkv, self.out = nn.Linear(7, 24), nn.Linear(24, 72), nn.Linear(24, 24)
        self.last = nn.Linear(24, 3)

    def forward(self, x):
        x = self.stem(x)
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1)
        if n > 7:
            scores = scores.view(b, 4, n * n).softmax(-1).view(-1, 4, n, n)
        x = x + self.out((scores @ v).transpose(1, 2).reshape(b, n, c))
        return self.last(x)


def network(kind, count=4, tokens=5):
    """(network in float64, its groups, proved with so many examples and positions)."""
    torch.manual_seed(0)
    model = lively(Network(kind()))
    return model, find_groups(model, torch.randn(count, tokens, 7).double())


def lessened(kind=Helped, kept=(0, 3)):
    """(network, its groups, that of heads, the network with `kept` of these, its groups)."""
    model, groups = network(kind)
    heads = next(g for g in groups if g.prunable and g.width == HEADS)
    return model, groups, heads, *remove_units(model, groups, heads.name, list(kept))
