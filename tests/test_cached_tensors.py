"""Tensors that a module computes from its parameters and keeps: made anew where units go, weights change."""

import pytest
import torch
from silencing import each_alone, lively, worst_together
from torch import nn

import workbench as wb
from workbench.network.cached import refresh
from workbench.network.finding.proof import find_groups
from workbench.network.rebuilt.explicit import explicit

HEADS, TOKENS = 4, 5


class Attention(nn.Module):
    """LeViT's, whose bias a head is looked up; kinds of it keep what they found in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj, self.heads, self.size = nn.Linear(24, 72), nn.Linear(24, 24), HEADS, 6
        self.bias = nn.Parameter(torch.randn(HEADS, TOKENS))
        index = (torch.arange(TOKENS)[:, None] - torch.arange(TOKENS)).abs()
        self.register_buffer("index", index, persistent=False)

    def biases(self, key):
        """(heads, tokens, tokens), looked up at every call; `key`: under which a kind may keep it."""
        return self.bias[:, self.index]

    def forward(self, x):
        B, N, _ = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        y = (q @ k.mT + self.biases(str(x.device))).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(B, N, self.heads * self.size))


class Looked(Attention):
    """timm's: looked up at the first call, by device."""

    def __init__(self):
        super().__init__()
        self.cache = {}

    def train(self, mode=True):
        super().train(mode)
        if mode and self.cache:
            self.cache = {}
        return self

    def biases(self, key):
        if self.training:
            return super().biases(key)
        if key not in self.cache:
            self.cache[key] = super().biases(key)
        return self.cache[key]


class Made(Attention):
    """The paper's: made when evaluation mode begins."""

    @torch.no_grad()
    def train(self, mode=True):
        super().train(mode)
        if mode and hasattr(self, "made"):
            del self.made
        elif not mode:
            self.made = self.bias[:, self.index]
        return self

    def biases(self, key):
        return super().biases(key) if self.training else self.made


class Network(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.stem, self.attn, self.head = nn.Linear(7, 24), kind(), nn.Linear(24, 3)

    def forward(self, x):
        return self.head(self.attn(self.stem(x)).mean(1))


@pytest.mark.parametrize("kind", [Looked, Made])
def test_heads_go_whose_bias_the_network_keeps(kind):
    torch.manual_seed(0)
    model = explicit(lively(Network(kind)))
    x = torch.randn(4, TOKENS, 7).double()
    model(x)
    groups = find_groups(model, x)
    heads = next(g for g in groups if g.name == "attn.qkv")
    assert heads.prunable
    assert [part.tensor for part in heads.held] == ["bias"]
    assert all(off < 1e-12 for off, _ in each_alone(model, groups, x, times=3).values())
    assert worst_together(model, groups, x, times=3) < 1e-12


@pytest.mark.parametrize("kind", [Looked, Made])
def test_nothing_stale_is_saved_opened_loaded_or_undone(kind, tmp_path):
    torch.manual_seed(0)
    model, x = Network(kind).eval(), torch.randn(4, TOKENS, 7)
    whole = model(x)
    session = wb.Session(model, [x])
    session.measure()
    session.commit(session.preview("attn.qkv", width=3))
    first = session.model(x)
    session.commit(session.preview("attn.qkv", width=2))
    wanted = session.model(x)
    session.export(tmp_path / "export")
    session.save(tmp_path / "session")
    used = Network(kind).eval()
    used(x)
    assert torch.equal(wb.load_pruned(used, tmp_path / "export")(x), wanted)
    assert torch.equal(wb.Session.open(tmp_path / "session", model, [x]).model(x), wanted)
    session.undo()
    assert torch.equal(session.model(x), first)
    session.undo()
    assert torch.allclose(session.model(x), whole, atol=1e-6)
    assert torch.equal(model(x), whole)


class Merging(nn.Linear):
    """Merges weights in evaluation mode: not to be asked for nothing."""

    def train(self, mode=True):
        self.asked = [*getattr(self, "asked", []), mode]
        return super().train(mode)


def test_modes_stay_and_who_keeps_nothing_is_not_asked():
    network = nn.Sequential(Looked(), Merging(2, 2)).eval()
    network[0](torch.randn(1, TOKENS, 24))
    network[0].proj.train()
    asked = list(network[1].asked)
    modes = [module.training for module in network.modules()]
    refresh(network)
    assert [module.training for module in network.modules()] == modes
    assert network[0].cache == {}
    assert network[1].asked == asked
