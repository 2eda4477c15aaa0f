"""Layers of one place that look alike and differ: each has the verdict that it has where it stands alone."""

import pytest
import torch
from silencing import each_alone, lively, worst_together
from torch import nn

import workbench as wb
from workbench.network.finding.proof import find_groups
from workbench.network.finding.trials import DIFFERS, Trials

WIDTH = 12


class Heads(nn.Module):
    """Attention; `mode` says how its code counts heads, `scale` of what the logits are divided."""

    def __init__(self, mode, scale="nothing", heads=4):
        super().__init__()
        self.heads, self.mode, self.scale = heads, mode, scale
        self.qkv, self.out = nn.Linear(WIDTH, 36), nn.Linear(12, WIDTH)

    def forward(self, x):
        b, n, _ = x.shape
        if self.mode == "number":
            parts = (t.reshape(b, n, self.heads, -1) for t in self.qkv(x).chunk(3, -1))
        elif self.mode == "share":
            parts = (t.reshape(b, n, self.heads, t.shape[-1] // self.heads) for t in self.qkv(x).chunk(3, -1))
        elif self.mode == "code":
            parts = (t.reshape(b, n, 4, -1) for t in self.qkv(x).chunk(3, -1))
        elif self.mode == 4:  # as many as there are heads, by chance
            parts = self.qkv(x).reshape(b, n, 3, self.heads, -1).unbind(2)
        else:
            parts = self.qkv(x).view(b, n, 3, self.heads, 3).unbind(2)
        q, k, v = (t.transpose(1, 2) for t in parts)
        divided = {"nothing": 1, "heads": self.heads, "rows": self.qkv.out_features / 36}[self.scale]
        mixed = (q @ k.transpose(2, 3) / divided).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(b, n, -1))


class Mlp(nn.Module):
    """What stands between two linear layers."""

    def __init__(self, between):
        super().__init__()
        self.width, self.a, self.b, self.between = 8, nn.Linear(WIDTH, 8), nn.Linear(8, WIDTH), between

    def forward(self, x):
        return self.b(self.between(self, self.a(x)))


BLOCKS = {
    "number": lambda: Heads("number"),
    "three": lambda: Heads("number", heads=3),
    "share": lambda: Heads("share"),
    "code": lambda: Heads("code"),
    "divided": lambda: Heads("number", "heads"),
    "rows": lambda: Heads("number", "rows"),
    "by chance": lambda: Heads(4, "heads"),
    "relu": lambda: Mlp(lambda _, h: h.relu()),
    "mean": lambda: Mlp(lambda _, h: h.relu() - 0.1 * h.mean(-1, keepdim=True)),
    "softmax": lambda: Mlp(lambda _, h: h.softmax(-1)),
    "roll": lambda: Mlp(lambda _, h: h * h.roll(1, -1)),
    "width": lambda: Mlp(lambda own, h: h.reshape(*h.shape[:-1], own.width).relu()),
    "eight": lambda: Mlp(lambda _, h: h + torch.eye(8)[0]),
    "counted": lambda: Mlp(lambda _, h: h.relu() * (1 + 1 / h.shape[-1])),
}


class Around(nn.Module):
    def __init__(self, *names):
        super().__init__()
        self.stem, self.head = nn.Linear(7, WIDTH), nn.Linear(WIDTH, 3)
        self.layers = nn.ModuleList([BLOCKS[name]() for name in names])

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x.mean(1))


def opened(*names):
    """(a session, its examples, the widths of what may go in each block)."""
    x = torch.randn(3, 3, 7, generator=torch.Generator().manual_seed(0)).double()
    session = wb.Session(lively(Around(*names)), [x])
    good = [group for group in session.groups if group.prunable]
    widths = [
        sorted(group.width for group in good if group.name.startswith(f"layers.{block}."))
        for block in range(len(names))
    ]
    return session, x, widths


ALONE = {
    "three": [3],
    "relu": [8],
    "width": [8],
    "mean": [],
    "softmax": [],
    "roll": [],
    "eight": [],
    "rows": [],
}


@pytest.mark.parametrize(
    "names",
    [
        ("rows", "rows", "share"),
        ("rows", "rows", "rows", "rows", "divided"),
        ("by chance",),
        ("by chance", "by chance", "three", "rows"),
        ("number", "code", "number", "three", "share"),
        ("relu", "mean", "relu", "eight", "relu"),
        ("mean", "softmax", "roll", "eight", "width"),
        ("eight", "eight", "eight", "relu", "mean", "width"),
    ],
)
def test_every_sister_has_its_own_verdict(names):
    session, x, widths = opened(*names)
    assert widths == [ALONE.get(name, [4]) for name in names]
    apart = each_alone(session.model, session.groups, x, times=2)
    assert max(off for off, _ in apart.values()) < 1e-9
    assert min(effect for _, effect in apart.values()) > 1e-9
    assert worst_together(session.model, session.groups, x, times=2) < 1e-9


def test_one_failing_trial_names_all_that_are_wrong():
    x = torch.randn(3, 3, 7, generator=torch.Generator().manual_seed(0)).double()
    names = ("relu", "counted", "relu", "counted", "relu", "counted", "relu")
    model = lively(Around(*names))
    groups = [group for group in find_groups(model, x) if group.name.startswith("layers.")]
    trials = Trials(model, x, groups)
    assert trials.failure(groups, 0) == DIFFERS
    wrong = {f"layers.{block}.a" for block, name in enumerate(names) if name == "counted"}
    assert trials.blamed == wrong
    assert wrong == {group.name for group in groups if not group.prunable}
