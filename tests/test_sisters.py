"""Layers of repeated blocks are tried at once: passes are counted, and removal is compared to silence."""

import pytest
import torch
from silencing import each_alone, lively, worst_together
from torch import nn

import workbench as wb
from workbench.network.finding.sisters import pattern

WIDTH = 12


class Split(nn.Module):
    """Parts whose sizes the code fixes, each through a layer of its own (MixNet)."""

    def __init__(self, block):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(WIDTH, 10), nn.Linear(5, 7), nn.Linear(5, 7)
        self.d = nn.Linear(14, WIDTH)

    def forward(self, x):
        first, second = torch.split(self.a(x), [5, 5], -1)
        return self.d(torch.cat([self.b(first.relu()), self.c(second.tanh())], -1).relu())


class Scales(nn.Module):
    """Parts of one width, a number of the module, that go through layers that feed each other (Res2Net)."""

    def __init__(self, block):
        super().__init__()
        self.width, self.a = 5, nn.Linear(WIDTH, 15)
        self.b, self.c, self.d = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(15, WIDTH)

    def forward(self, x):
        first, second, third = torch.split(self.a(x).relu(), self.width, -1)
        first = self.b(first).relu()
        second = self.c(first + second).relu()
        return self.d(torch.cat([first, second, third], -1))


class Free(nn.Module):
    """Directions that code puts side by side, which can go each for itself (Sequencer)."""

    def __init__(self, block):
        super().__init__()
        self.a, self.b = nn.LSTM(WIDTH, 5, bidirectional=True, batch_first=True), nn.Linear(10, WIDTH)

    def forward(self, x):
        return self.b(self.a(x)[0])


class Heads(nn.Module):
    """Heads whose number nothing breaks at: removal differs from silence where it stays."""

    def __init__(self, block):
        super().__init__()
        self.heads, self.qkv, self.out = 4, nn.Linear(WIDTH, 36), nn.Linear(12, WIDTH)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = (t.reshape(b, n, self.heads, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        return self.out(((q @ k.transpose(2, 3)).softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1))


class Once(nn.Module):
    """A width that the code of the first block alone fixes, in a way that nothing can mend (TResNet)."""

    def __init__(self, block):
        super().__init__()
        self.block, self.a, self.b = block, nn.Linear(WIDTH, 9), nn.Linear(9, WIDTH)

    def forward(self, x):
        x = self.a(x).relu()
        return self.b(x + torch.eye(9)[0] if self.block == 0 else x)


class Deep(nn.Module):
    def __init__(self, kind, depth):
        super().__init__()
        self.stem, self.head = nn.Linear(7, WIDTH), nn.Linear(WIDTH, 3)
        self.layers = nn.ModuleList([kind(block) for block in range(depth)])

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x.mean(1))


def found(model, x):
    """(a session, the forward passes that opening it took)."""
    calls = []
    handle = model.register_forward_pre_hook(lambda *_args: calls.append(1))
    session = wb.Session(model, [x])
    handle.remove()
    return session, len(calls)


def examples():
    return torch.randn(3, 3, 7, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("kind", [Split, Scales, Free, Heads, Once])
def test_passes_do_not_grow_with_the_number_of_blocks(kind):
    counts = {}
    for depth in (3, 6):
        model = lively(Deep(kind, depth))
        session, counts[depth] = found(model, examples())
        own = [group for group in session.groups if group.name.startswith("layers.")]
        assert {pattern(g.name) for g in own if g.prunable} == {
            pattern(g.name) for g in own[-3:] if g.prunable
        }
        assert sum(g.prunable for g in own) % depth == (depth - 1 if kind is Once else 0)
    assert counts[6] <= counts[3] + 2


@pytest.mark.parametrize("kind", [Split, Scales, Free, Heads, Once])
def test_what_was_tried_together_equals_silence(kind):
    x = examples()
    session, _ = found(lively(Deep(kind, 3)), x)
    model, groups = session.model, session.groups
    apart = each_alone(model, groups, x, times=2)
    assert len(apart) >= 2
    assert max(off for off, _ in apart.values()) < 1e-9
    assert min(effect for _, effect in apart.values()) > 1e-9
    assert worst_together(model, groups, x, times=2) < 1e-9
