"""Sizes in code that the examples did not reach: of training mode alone, and of other inputs."""

import pytest
import torch
from heads_in_code import Branching
from silencing import difference, lively, silenced_outputs, tensors
from torch import nn

from workbench.network.finding.proof import find_groups
from workbench.network.surgery import remove_units


class Trained(nn.Module):
    """Training mode alone runs code that counts units."""

    def __init__(self):
        super().__init__()
        self.a, self.o, self.aux = nn.Linear(7, 11), nn.Linear(11, 3), nn.Linear(11, 2)

    def forward(self, x):
        h = self.a(x).relu()
        return (self.o(h), self.aux(h.reshape(-1, 11))) if self.training else self.o(h)


def test_sizes_that_training_mode_alone_gives_fall_as_well():
    torch.manual_seed(0)
    model, x = lively(Trained()), torch.randn(6, 7).double()
    groups = find_groups(model, x)
    small, _ = remove_units(model, groups, "a", [0, 2, 7])
    gone = {"a": [1, 3, 4, 5, 6, 8, 9, 10]}
    assert difference(tensors(small(x)), silenced_outputs(model, gone, groups, x)) < 1e-12
    with torch.no_grad():
        for layer in (model.o, model.aux):
            layer.weight[:, gone["a"]] = 0
        assert difference(tensors(small.train()(x)), tensors(model.train()(x))) < 1e-12


@pytest.mark.parametrize("kept", [[0], [0, 3], [0, 1, 2]])
def test_code_that_only_other_inputs_reach_is_given_what_is_left(kept):
    torch.manual_seed(0)
    model = Branching().double().eval()
    groups = find_groups(model, torch.randn(2, 5, 7).double())
    (heads,) = [group for group in groups if group.sizes]
    pruned, _ = remove_units(model, groups, heads.name, kept)
    lost = {heads.name: [unit for unit in range(4) if unit not in kept]}
    for shape in [(2, 5, 7), (3, 9, 7), (1, 11, 7)]:
        x = torch.randn(*shape).double()
        with torch.no_grad():
            [expected] = silenced_outputs(model, lost, groups, x)
            torch.testing.assert_close(pruned(x), expected, rtol=1e-9, atol=1e-9)
