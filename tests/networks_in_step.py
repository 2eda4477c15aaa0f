"""Small networks some of whose groups can only lose units in step: shuffles, chunks, splits, folds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def shuffled(x: Tensor, groups: int) -> Tensor:
    b, c, *rest = x.shape
    return x.view(b, groups, c // groups, *rest).transpose(1, 2).reshape(b, c, *rest)


class TwoBranches(nn.Module):
    """The first unit of a ShuffleNetV2 stage."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Conv2d(3, 12, 3), nn.Conv2d(3, 12, 3), nn.Conv2d(24, 4, 1)

    def forward(self, x):
        return self.out(shuffled(torch.cat([self.first(x).relu(), self.second(x).relu()], 1), 2))


class Shuffled(nn.Module):
    """One layer, its channels shuffled: by a view, by the function, or by a module."""

    def __init__(self, how, width=12, groups=3):
        super().__init__()
        self.how, self.groups = how, groups
        self.first, self.out = nn.Conv2d(3, width, 3), nn.Conv2d(width, 4, 1)
        self.shuffle = nn.ChannelShuffle(groups)

    def forward(self, x):
        x = self.first(x).relu()
        return self.out(self.how(self, x))


class ShuffleStage(nn.Module):
    """Units of ShuffleNetV2: half of the channels pass, half go through a branch, then a shuffle."""

    def __init__(self, width=16, units=2):
        super().__init__()
        half = width // 2
        self.left, self.right = nn.Conv2d(3, half, 3), nn.Conv2d(3, half, 3)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(half, half, 1, bias=False),
                nn.BatchNorm2d(half),
                nn.ReLU(),
                nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False),
                nn.BatchNorm2d(half),
                nn.Conv2d(half, half, 1),
                nn.ReLU(),
            )
            for _ in range(units)
        )
        self.out = nn.Conv2d(width, 5, 1)

    def forward(self, x):
        x = shuffled(torch.cat([self.left(x).relu(), self.right(x).relu()], 1), 2)
        for branch in self.branches:
            passed, taken = x.chunk(2, 1)
            x = shuffled(torch.cat([passed, branch(taken)], 1), 2)
        return self.out(x).mean((2, 3))


class C2f(nn.Module):
    """YOLOv8's block, its bottlenecks with or without a shortcut."""

    def __init__(self, shortcut=False, depth=2, how="chunk"):
        super().__init__()
        self.shortcut, self.how = shortcut, how
        self.cv1 = nn.Conv2d(3, 16, 1)
        self.m = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(depth))
        self.cv2 = nn.Conv2d(8 * (2 + depth), 10, 1)

    def forward(self, x):
        x = functional.silu(self.cv1(x))
        if self.how == "chunk":
            parts = list(x.chunk(2, 1))
        elif self.how == "slices":
            half = x.shape[1] // 2
            parts = [x[:, :half], x[:, half:]]
        else:
            parts = list(x.split((x.shape[1] // 2, x.shape[1] // 2), 1))
        for layer in self.m:
            made = functional.silu(layer(parts[-1]))
            parts.append(parts[-1] + made if self.shortcut else made)
        return self.cv2(torch.cat(parts, 1)).mean((2, 3))


class Parts(nn.Module):
    """One layer whose channels are taken apart by `how`, then put together."""

    def __init__(self, how, width=16, reads=None):
        super().__init__()
        self.how = how
        self.first, self.out = nn.Conv2d(3, width, 1), nn.Conv2d(reads or width, 4, 1)

    def forward(self, x):
        return self.out(self.how(self.first(x)))


class ReadersOfTheirOwn(nn.Module):
    """Three parts of one layer, each read by another layer."""

    def __init__(self, parts=3, size=5):
        super().__init__()
        self.first = nn.Linear(4, parts * size)
        self.readers = nn.ModuleList(nn.Linear(size, 3) for _ in range(parts))

    def forward(self, x):
        parts = self.first(x).tanh().chunk(len(self.readers), -1)
        return sum(read(part.relu()) for read, part in zip(self.readers, parts, strict=True))


class FixedWidth(nn.Module):
    """Res2Net's block: parts of a width that the module keeps, each added to what the one before gave."""

    def __init__(self, width=6, scale=4):
        super().__init__()
        self.width = width
        self.first, self.norm = nn.Conv2d(3, width * scale, 1), nn.BatchNorm2d(width * scale)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(scale - 1))
        self.out = nn.Conv2d(width * scale, 4, 1)

    def forward(self, x):
        parts = torch.split(self.norm(self.first(x)).relu(), self.width, 1)
        made = []
        for index, conv in enumerate(self.convs):
            given = parts[index] if index == 0 else made[-1] + parts[index]
            made.append(conv(given).relu())
        return self.out(torch.cat([*made, parts[-1]], 1))


class Quarter(nn.Module):
    """A quarter of the channels goes its own way, as in a partial convolution."""

    def __init__(self):
        super().__init__()
        self.first, self.part, self.out = (
            nn.Conv2d(3, 16, 1),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Conv2d(16, 4, 1),
        )

    def forward(self, x):
        x = self.first(x).relu()
        quarter = x.shape[1] // 4
        return self.out(torch.cat([self.part(x[:, :quarter]), x[:, quarter:]], 1))


class AlsoReturned(nn.Module):
    """One of two branches in step is an output as well."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Conv2d(3, 12, 3), nn.Conv2d(3, 12, 3), nn.Conv2d(24, 4, 1)

    def forward(self, x):
        second = self.second(x).relu()
        return self.out(shuffled(torch.cat([self.first(x).relu(), second], 1), 2)), second


class OneNumber(nn.Module):
    """Two layers laid out by one number that the module keeps."""

    def __init__(self):
        super().__init__()
        self.parts = 6
        self.first, self.second, self.out = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(12, 3)

    def forward(self, x):
        first = self.first(x).relu().reshape(-1, self.parts)
        second = self.second(x).tanh().reshape(-1, self.parts)
        return self.out(torch.cat([second, first], 1))


class Partial(nn.Module):
    """FasterNet's stage: in every block a part of the stream of a kept width goes through a convolution."""

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.taken, self.left = width // 4, width - width // 4
            self.conv = nn.Conv2d(self.taken, self.taken, 3, padding=1)
            self.mlp = nn.Sequential(nn.Conv2d(width, 7, 1), nn.ReLU(), nn.Conv2d(7, width, 1))

        def forward(self, x):
            taken, left = torch.split(x, [self.taken, self.left], 1)
            return x + self.mlp(torch.cat([self.conv(taken), left], 1))

    def __init__(self, width=16, blocks=3):
        super().__init__()
        self.first, self.out = nn.Conv2d(3, width, 1), nn.Conv2d(width, 4, 1)
        self.blocks = nn.Sequential(*[self.Block(width) for _ in range(blocks)])

    def forward(self, x):
        return self.out(self.blocks(self.first(x)).relu())


class Squeezed(nn.Module):
    """A careless squeeze() takes the channel axis too where a single channel is left."""

    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x):
        return self.out(functional.adaptive_avg_pool2d(self.first(x).relu(), 1).squeeze())


def activated(x):
    a, b = x.chunk(2, 1)
    return torch.cat([a.relu(), b.tanh()], 1)


def thirds(x):
    a, b, c = x.chunk(3, 1)
    return torch.cat([c.relu(), a.tanh(), b.sigmoid()], 1)


def strided(x):
    return torch.cat([x[:, ::2].relu(), x[:, 1::2].tanh()], 1)


def folded(x):
    b, c, h, w = x.shape
    x = x.view(b, 2, c // 2, h, w)
    return torch.cat([x[:, 0].relu(), x[:, 1].tanh()], 1)


def paired(x):
    b, c, h, w = x.shape
    x = x.view(b, c // 2, 2, h, w)
    return torch.cat([x[:, :, 1].relu(), x[:, :, 0].tanh()], 1)


def literal(x):
    return torch.cat([x[:, :8].relu(), x[:, 8:].tanh()], 1)


def backwards(x):
    return x[:, torch.arange(15, -1, -1)].relu()


def one_place_on(x):
    return x.roll(1, 1).relu()


def half_by_mask(x):
    """Nothing is cut: only the place of a channel, compared with their number, says what becomes of it."""
    first = torch.arange(x.shape[1]) < x.shape[1] // 2
    return torch.where(first[:, None, None], x.relu(), x)


def first_apart(x):
    return torch.cat([x[:, :1].relu(), x[:, 1:]], 1)


def last_three(x):
    return torch.cat([x[:, :-3].relu(), x[:, -3:].tanh()], 1)


def unbound(x):
    a, b = x.unflatten(1, (2, -1)).unbind(1)
    return torch.cat([b.relu(), a.tanh()], 1)


def nested(x):
    a, b = x.chunk(2, 1)
    c, d = b.chunk(2, 1)
    return torch.cat([a.relu(), c.tanh(), d.sigmoid()], 1)


def negative(x):
    half = x.shape[1] // 2
    return torch.cat([x[:, -half:].relu(), x[:, :-half].tanh()], 1)


def largest_of_pairs(x):
    b, c, *rest = x.shape
    return x.view(b, c // 2, 2, *rest).amax(2)


def gated_halves(x):
    a, b = x.tensor_split(2, 1)
    c, d = a.chunk(2, 1)
    return torch.cat([c * d.sigmoid(), b.relu()], 1)


class Stacked(nn.Module):
    """Two branches stacked, which asks for equal widths, then laid side by side or alternating."""

    def __init__(self, dim=1):
        super().__init__()
        self.dim = dim
        self.first, self.second, self.out = nn.Linear(4, 9), nn.Linear(4, 9), nn.Linear(18, 3)

    def forward(self, x):
        return self.out(torch.stack([self.first(x).relu(), self.second(x).tanh()], self.dim).flatten(1))


class Widths(nn.Module):
    """Branches of different widths in a shuffle: one unit of the one goes with two of the other."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 12, 3), nn.Conv2d(18, 4, 1)

    def forward(self, x):
        return self.out(shuffled(torch.cat([self.first(x).relu(), self.second(x).tanh()], 1), 3))


class CspStage(nn.Module):
    """A cross-stage block: one layer in two, one half through a residual block with a depthwise stage."""

    def __init__(self):
        super().__init__()
        self.expand, self.norm = nn.Conv2d(3, 20, 1, bias=False), nn.BatchNorm2d(20)
        self.inner = nn.Sequential(
            nn.Conv2d(10, 7, 1), nn.ReLU(), nn.Conv2d(7, 7, 3, padding=1, groups=7), nn.Conv2d(7, 10, 1)
        )
        self.mix, self.out = nn.Conv2d(10, 11, 1), nn.Conv2d(21, 4, 1)

    def forward(self, x):
        x = self.norm(self.expand(x)).relu()
        passed, taken = x.split(self.expand.out_channels // 2, 1)
        taken = self.mix(taken + self.inner(taken))
        return self.out(torch.cat([taken.relu(), passed], 1)).mean((2, 3))


IMAGE, ROW = (3, 9, 9), (4,)
NETWORKS = {
    "two branches and a shuffle": (TwoBranches, IMAGE),
    "a shuffle by view": (lambda: Shuffled(lambda m, x: shuffled(x, m.groups)), IMAGE),
    "a shuffle by function": (lambda: Shuffled(lambda m, x: functional.channel_shuffle(x, m.groups)), IMAGE),
    "a shuffle by module": (lambda: Shuffled(lambda m, x: m.shuffle(x)), IMAGE),
    "a stage of one unit": (lambda: ShuffleStage(16, 1), IMAGE),
    "a stage of two units": (lambda: ShuffleStage(16, 2), IMAGE),
    "C2f": (C2f, IMAGE),
    "C2f with shortcuts": (lambda: C2f(shortcut=True), IMAGE),
    "C2f by slices": (lambda: C2f(how="slices"), IMAGE),
    "C2f by split": (lambda: C2f(how="split", depth=1), IMAGE),
    "halves under two activations": (lambda: Parts(activated), IMAGE),
    "thirds that change places": (lambda: Parts(thirds, 18), IMAGE),
    "every second channel": (lambda: Parts(strided), IMAGE),
    "a view in two halves": (lambda: Parts(folded), IMAGE),
    "a view in pairs": (lambda: Parts(paired), IMAGE),
    "a gate": (lambda: Parts(lambda x: functional.glu(x, 1), 16, 8), IMAGE),
    "pixel shuffle": (lambda: Parts(lambda x: functional.pixel_shuffle(x, 2).relu(), 16, 4), IMAGE),
    "three readers of three parts": (ReadersOfTheirOwn, ROW),
    "parts of a kept width": (FixedWidth, IMAGE),
    "a quarter apart": (Quarter, IMAGE),
    "a view taken apart": (lambda: Parts(unbound), IMAGE),
    "a half of a half": (lambda: Parts(nested), IMAGE),
    "a half from the end": (lambda: Parts(negative), IMAGE),
    "the larger of two neighbours": (lambda: Parts(largest_of_pairs, 16, 8), IMAGE),
    "a gate in one half": (lambda: Parts(gated_halves, 16, 12), IMAGE),
    "two branches stacked": (Stacked, ROW),
    "two branches alternating": (lambda: Stacked(2), ROW),
    "branches of 6 and 12 in a shuffle": (Widths, IMAGE),
    "a cross-stage block": (CspStage, IMAGE),
    "two layers by one number": (OneNumber, ROW),
    "a part of a kept width in every block": (Partial, IMAGE),
}
REFUSED = {
    "halves of an odd number": (lambda: Parts(activated, 15), IMAGE),
    "a stage with an odd half": (lambda: ShuffleStage(20, 3), IMAGE),
    "one branch returned too": (AlsoReturned, IMAGE),
    "a place written in the code": (lambda: Parts(literal), IMAGE),
    "an order written in the code": (lambda: Parts(backwards), IMAGE),
    "a careless squeeze": (Squeezed, IMAGE),
    "every channel one place on": (lambda: Parts(one_place_on), IMAGE),
    "a half by a mask": (lambda: Parts(half_by_mask, 12), IMAGE),
    "a half of eleven by a mask": (lambda: Parts(half_by_mask, 11), IMAGE),
    "the first apart": (lambda: Parts(first_apart), IMAGE),
    "the last three apart": (lambda: Parts(last_three), IMAGE),
}
