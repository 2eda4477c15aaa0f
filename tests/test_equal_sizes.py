"""Sizes in code that are equal to others by chance: none is taken for another one."""

import pytest
import torch
from attention_kinds import HEAD, HEADS, WIDTH
from heads_in_code import (
    Around,
    Branching,
    Crossed,
    Helped,
    Length,
    Loop,
    OneLine,
    Sliced,
    Windows,
    lessened,
    network,
)
from silencing import difference, each_alone, silenced_outputs, tensors, worst_together
from torch import nn

from workbench.network.finding.proof import find_groups
from workbench.network.rebuilt.fallen_sizes import Fallen, Resized, fallen_of
from workbench.network.rebuilt.given_sizes import given_sizes
from workbench.network.surgery import remove_units

SHAPES = ((1, 5), (HEADS, HEADS), (3, 9), (HEADS, HEAD), (2, WIDTH), (WIDTH, HEAD), (2, 1))


@pytest.mark.parametrize("proved", [(4, 5), (HEADS, HEADS), (1, HEAD), (2, WIDTH)])
@pytest.mark.parametrize("kind", [OneLine, Crossed, Windows, Sliced, Helped, Around, Loop])
def test_sizes_that_are_equal_by_chance_are_not_taken_for_others(kind, proved):
    model, groups = network(kind, *proved)
    assert any(g.sizes for g in groups if g.prunable)
    for shape in SHAPES:
        x = torch.randn(*shape, 7).double()
        assert all(off < 1e-12 for off, _ in each_alone(model, groups, x, times=2).values())
        assert worst_together(model, groups, x, times=2) < 1e-12


def test_heads_that_may_be_taken_for_positions_are_refused():
    for proved in ((4, 5), (2, WIDTH), (1, HEAD)):
        assert not any(g.sizes for g in network(Length, *proved)[1] if g.prunable)


@pytest.mark.parametrize("kind", [OneLine, Crossed, Sliced, Windows])
def test_a_pruned_network_is_taken_apart_anew_and_pruned_further(kind):
    model, groups, heads, small, _ = lessened(kind, (0, 2, 3))
    x = torch.randn(4, 5, 7).double()
    kept = [0, 2, 3]
    for units in ([0, 2], [1]):
        anew = find_groups(small, x)
        assert next(g for g in anew if g.name == heads.name).prunable
        small, _ = remove_units(small, anew, heads.name, units)
        kept = [kept[unit] for unit in units]
        gone = {heads.name: sorted(set(range(HEADS)) - set(kept))}
        for shape in SHAPES:
            x = torch.randn(*shape, 7).double()
            with torch.no_grad():
                assert difference(tensors(small(x)), silenced_outputs(model, gone, groups, x)) < 1e-12
    assert all(one.now < one.was for one in fallen_of(small.attn) if one.units)


def test_an_axis_in_the_proportion_of_the_examples_is_not_taken_for_them():
    """Of heads 2 of 4 are left, and of examples 1 of 2: the head's dimension was divided, not the batch."""
    fallen = [
        Fallen("f:1.0", 2, 4, 2, 4), Fallen("f:1.0", 0, 2, 2, 0), Fallen("f:1.0", 1, 11, 11, 0),
        Fallen("f:1.0", 3, 8, 8, 0),
    ]  # fmt: skip
    forward = Resized(nn.Linear(2, 2), None, fallen, known=True)
    given = given_sizes(torch.reshape, (torch.zeros(1, 11, 16), (1, 11, 4, 4)), {})
    assert forward.left(given, "f:1.0") == [1, 11, 2, 8]


class OpenEnd(Branching):
    """Heads and examples share an axis, and another one is left open: nothing tells how many are heads."""

    def forward(self, x):
        x = self.stem(x)
        b, n, _ = x.shape
        q, k, v = (one.reshape(b * 4, 6, -1) for one in self.qkv(x).transpose(1, 2).chunk(3, 1))
        y = ((q.transpose(-2, -1) @ k).softmax(-1) @ v.transpose(-2, -1)).transpose(-2, -1)
        return self.last(x + self.out(y.reshape(b, -1, n).transpose(1, 2)))


def test_heads_that_share_an_open_call_with_examples_hold_for_any_number_or_are_refused():
    torch.manual_seed(0)
    model = OpenEnd().double().eval()
    groups = find_groups(model, torch.randn(2, 5, 7).double())
    for group in groups:
        for kept in ([0], [1, 3]) if group.prunable else ():
            pruned, _ = remove_units(model, groups, group.name, kept)
            for count in (1, 2, 3, 8):
                x = torch.randn(count, 5, 7).double()
                lost = {group.name: [unit for unit in range(group.width) if unit not in kept]}
                with torch.no_grad():
                    [expected] = silenced_outputs(model, lost, groups, x)
                    torch.testing.assert_close(pruned(x), expected, rtol=1e-9, atol=1e-9)
    refused = [group.why_not for group in groups if group.sizes and not group.prunable]
    assert all("with 1 of 2 examples alone, " in reason for reason in refused)
    assert refused
