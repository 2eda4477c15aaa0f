"""What opening costs: forward passes, counted, and in which precision; and what float32 must not decide."""

from collections import Counter

import pytest
import torch
from family_images import CifarResNet
from networks import Mixed, mlp
from torch import nn

import workbench as wb
from workbench.network.finding.benches import Bench, careful_bench, quick_bench
from workbench.network.finding.proof import find_groups
from workbench.network.finding.seen import seen_at
from workbench.network.finding.trials import ROUNDS

PRECEDING = 5  # a probe of the shape, the order of calls, the trace, training mode, the cost
PROOF = 2 * ROUNDS + 1  # removed and silenced a round, the whole network once
ELSEWHERE = 3  # two examples at another size: the whole network, removed and silenced, or three refusals


def looked_at(bench):
    """What trials keep of the whole network: here its output alone."""
    return [("", bench.model(bench.example))]


def passes(model, x):
    """(the session, its forward passes by the type of the weights)."""
    found = Counter()
    handle = model.register_forward_pre_hook(
        lambda module, _args: found.update([next(module.parameters()).dtype])
    )
    session = wb.Session(model, [x])
    handle.remove()
    return session, found


def test_digits_cnn_opens_in_nineteen_passes_all_of_them_in_its_own_precision():
    model = wb.Session.example("digits-cnn").original
    session, found = passes(model, torch.randn(64, 1, 8, 8))
    assert sum(group.prunable for group in session.groups) == 4
    assert found.keys() == {torch.float32}
    assert found.total() <= PRECEDING + PROOF + ELSEWHERE


@pytest.mark.parametrize("depth", [20, 56])
def test_a_shortcut_that_holds_two_streams_costs_few_passes_more_at_any_depth(depth):
    torch.manual_seed(0)
    session, found = passes(CifarResNet(depth).eval(), torch.randn(16, 3, 32, 32))
    assert sum(not group.prunable for group in session.groups) == 3
    assert found.keys() == {torch.float32}
    assert found.total() <= PRECEDING + PROOF + ELSEWHERE + 16


class Heads(nn.Module):
    """Attention whose code counts on a number of heads."""

    def __init__(self):
        super().__init__()
        self.heads, self.qkv, self.out = 4, nn.Linear(24, 72), nn.Linear(24, 24)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, 6).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(b, n, 6 * self.heads))


class Block(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.attention, self.up, self.down = attention, nn.Linear(24, 31), nn.Linear(31, 24)

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.down(self.up(x).relu())


@pytest.mark.parametrize("depth", [2, 9])
def test_repeated_blocks_are_mended_together(depth):
    torch.manual_seed(0)
    session, found = passes(nn.Sequential(*[Block(Heads()) for _ in range(depth)]), torch.randn(8, 5, 24))
    mended = [group for group in session.groups if group.attributes]
    assert [group.attributes[0].module for group in mended] == [
        f"{block}.attention" for block in range(depth)
    ]
    assert sum(group.prunable for group in session.groups) == 2 * depth
    assert found.total() <= PRECEDING + PROOF + ELSEWHERE + 8


def test_blocks_of_which_one_needs_another_number_are_mended_all_the_same():
    class Odd(Heads):
        def __init__(self):
            super().__init__()
            self.nheads = self.heads
            self.heads = None

        def forward(self, x):
            self.heads = self.nheads
            return super().forward(x)

    torch.manual_seed(0)
    session, _ = passes(
        nn.Sequential(*[Block(kind()) for kind in (Heads, Odd, Heads)]), torch.randn(8, 5, 24)
    )
    named = [(a.module, a.name) for group in session.groups for a in group.attributes]
    assert [named[0], named[-1]] == [("0.attention", "heads"), ("2.attention", "heads")]
    assert ("1.attention", "nheads") in named


@pytest.mark.parametrize("bias", [0.0, 1e3, 1e6, 1e9, 1e12])
@pytest.mark.parametrize("last", [nn.Identity, nn.ReLU, nn.Sigmoid])
def test_a_mixture_behind_a_bias_of_any_size_is_refused(bias, last):
    torch.manual_seed(0)
    mixed = Mixed()
    with torch.no_grad():
        mixed.second.bias.fill_(bias)
    assert not find_groups(nn.Sequential(mixed, last()), torch.randn(4, 3))[0].prunable


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-18, 1e-30])
def test_a_mixture_of_any_scale_is_refused(scale):
    torch.manual_seed(0)
    mixed = Mixed()
    with torch.no_grad():
        mixed.first.weight.mul_(scale)
        mixed.first.bias.mul_(scale)
    assert not find_groups(mixed, torch.randn(4, 3))[0].prunable


class Leaking(nn.Module):
    """A share of every unit goes to its neighbour."""

    def __init__(self, share):
        super().__init__()
        self.first, self.second, self.share = nn.Linear(5, 12), nn.Linear(12, 4), share

    def forward(self, x):
        hidden = self.first(x)
        moved = torch.cat([hidden[:, 1:], hidden[:, :1]], 1)
        return self.second(hidden + self.share * moved.tanh())


@pytest.mark.parametrize("share", [1.0, 1e-2, 1e-3, 1e-4])
def test_a_small_share_that_goes_elsewhere_is_seen(share):
    torch.manual_seed(0)
    assert not find_groups(Leaking(share), torch.randn(9, 5))[0].prunable


def test_float32_passes_over_no_more_than_its_own_rounding():
    bench = Bench(nn.Linear(2, 3), torch.zeros(1, 2), quick=True)
    zeroed = torch.tensor([1.0, -0.5])
    assert not bench.differs("", zeroed, zeroed + 2e-7, zeroed)
    assert bench.differs("", zeroed, zeroed + 1e-6, zeroed)
    assert not bench.differs("", zeroed + 1.0, zeroed + 1e-6, zeroed)
    for odd in (torch.nan, torch.inf):
        strange = torch.tensor([1.0, odd])
        assert bench.differs("", strange, strange, strange)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_networks_of_other_precisions_are_tried_in_float64(kind):
    model, x = mlp(3, 7, 5).to(kind), torch.randn(4, 3).to(kind)
    assert quick_bench(model, x) is None
    bench = careful_bench(model, x, looked_at)
    assert [tensor.dtype for _, tensor in bench.whole] == [torch.float64]
    assert {p.dtype for p in bench.model.parameters()} == {torch.float64}
    assert all(p.dtype == kind for p in model.parameters())


def test_a_network_that_fixes_its_own_type_is_tried_in_that():
    class Fixed(nn.Sequential):
        def forward(self, x):
            return super().forward(x.float())

    torch.manual_seed(0)
    model, x = Fixed(*mlp(3, 7, 5)), torch.randn(4, 3)
    assert careful_bench(model, x, looked_at).model is model
    assert find_groups(model, x)[0].prunable


class Counting(nn.Module):
    """Mixes how many units there are into its outputs, and returns other, larger numbers beside these."""

    def __init__(self, beside):
        super().__init__()
        self.first, self.second, self.beside = nn.Linear(5, 12), nn.Linear(12, 3), beside

    def forward(self, x):
        hidden = self.first(x).relu()
        return self.beside(x, self.second(hidden) + 1 / hidden.shape[1])


class InAReader(Counting):
    """The same at a reader that multiplies other inputs by large weights."""

    def __init__(self):
        super().__init__(None)
        self.second = nn.Linear(17, 4)
        with torch.no_grad():
            self.second.weight[0, :12], self.second.weight[0, 12:] = 0, 1e6

    def forward(self, x):
        hidden = self.first(x).relu()
        return self.second(torch.cat([hidden * (1 + 0.1 / hidden.shape[1]), x], 1))


BESIDE = {
    "large": lambda: Counting(lambda x, y: torch.cat([1e6 * x, y], 1)),
    "a mask": lambda: Counting(lambda x, y: torch.cat([y, torch.full((len(x), 1), -1e9)], 1)),
    "the smallest number": lambda: Counting(
        lambda x, y: torch.cat([y, torch.full((len(x), 1), torch.finfo(torch.float32).min)], 1)
    ),
    "masks of both kinds": lambda: Counting(
        lambda x, y: torch.cat([y, torch.tensor([[-1e38, -torch.inf]]).expand(len(x), 2)], 1)
    ),
    "channels": lambda: Counting(
        lambda x, y: torch.cat([y, 1e6 * x], 1)[:, :, None, None].expand(-1, -1, 3, 2)
    ),
    "positions": lambda: Counting(lambda x, y: torch.stack([y, 1e6 * x[:, :3]], 1)),
    "at a reader": InAReader,
}


@pytest.mark.parametrize("where", BESIDE)
def test_large_numbers_beside_a_difference_do_not_hide_it(where):
    torch.manual_seed(0)
    assert not find_groups(BESIDE[where]().eval(), torch.randn(9, 5))[0].prunable


def test_large_numbers_do_not_hide_what_training_mode_alone_does():
    class Training(Counting):
        def forward(self, x):
            hidden = self.first(x).relu()
            y = self.second(hidden) + (hidden.shape[1] if self.training else 0)
            return torch.cat([y, torch.full((len(x), 1), -1e38)], 1)

    torch.manual_seed(0)
    group = find_groups(Training(None).eval(), torch.randn(9, 5))[0]
    assert not group.prunable
    assert "training mode" in group.why_not


class Scores(nn.Module):
    """Faint features, and a head whose bias is large beside all that they give."""

    def __init__(self):
        super().__init__()
        self.stem, self.middle = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 9, 3, padding=1)
        self.head = nn.Conv2d(9, 5, 1)
        with torch.no_grad():
            self.middle.weight.mul_(1e-9)
            self.middle.bias.zero_()
            self.head.bias.fill_(-11.0)

    def forward(self, x):
        return self.head(self.middle(self.stem(x).relu()).relu())


def test_a_bias_takes_no_digit_of_what_is_compared():
    torch.manual_seed(0)
    session, found = passes(Scores().eval(), torch.randn(4, 3, 8, 8))
    assert [group.prunable for group in session.groups] == [True, True, False]
    assert found.keys() == {torch.float32}
    assert found.total() <= PRECEDING + PROOF + ELSEWHERE


def test_biases_come_back_where_a_network_breaks():
    class Broken(nn.Linear):
        def forward(self, x):
            raise RuntimeError("broken")

    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(Broken(4, 2)))
    biases = [model[0].bias, model[1][0].bias]
    with pytest.raises(RuntimeError, match="broken"):
        seen_at(model, torch.randn(2, 3), {"0": "Linear", "1.0": "Linear"})
    inner = nn.Sequential(nn.Linear(5, 4))  # breaks inside torch's own code
    bias = inner[0].bias
    with pytest.raises(RuntimeError):
        seen_at(inner, torch.randn(2, 3), {"0": "Linear"})
    assert model[0].bias is biases[0]
    assert model[1][0].bias is biases[1]
    assert inner[0].bias is bias
    assert not inner[0]._forward_pre_hooks


class DropPath(nn.Module):
    def forward(self, x):
        return x * (torch.rand(len(x), 1) < 0.9) if self.training else x


def test_random_training_costs_one_pass_a_round():
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(9, 9), nn.ReLU(), DropPath()) for _ in range(6)]
    session, found = passes(nn.Sequential(*layers, nn.Linear(9, 3)), torch.randn(8, 9))
    assert sum(group.prunable for group in session.groups) == 6
    assert found.total() <= PRECEDING + PROOF + ROUNDS + 3 + 2 + ELSEWHERE  # twice run, and twice in training
