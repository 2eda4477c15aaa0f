"""A drifted stream is brought back by the fit to the original; only plain sums are streams."""

import copy

import pytest
import torch
from fits import (
    CHANNELS,
    OUTPUTS,
    drifted,
    refitted,
)
from networks import images
from torch import nn

from workbench.fitting.least_squares import fit_original
from workbench.network.layers import set_layer_weight


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(13)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_a_drifted_stream_is_brought_back(norm, in_place):
    original, pruned = drifted(norm, in_place)
    x = images(31).double()
    without = refitted(original, copy.deepcopy(pruned), x, drift=False)
    refitted(original, pruned, x)
    with torch.no_grad():
        assert float((without(x) - original(x)).norm()) > 0.1 * float(original(x).norm())
        torch.testing.assert_close(pruned(x), original(x), rtol=1e-6, atol=1e-6)


def test_a_channel_that_its_norm_silences_does_not_follow_the_drift():
    original, pruned = drifted(norm=True)
    with torch.no_grad():
        original.norm.weight[3] = pruned.norm.weight[3] = 1e-9
    x = images(31).double()
    refitted(original, pruned, x)
    others = [0, 1, 2, 4, 5, 6]
    with torch.no_grad():
        torch.testing.assert_close(pruned(x)[:, others], original(x)[:, others], rtol=1e-6, atol=1e-6)
    assert float(pruned.writer.weight[3].detach().abs().max()) < 100


class Crossing(nn.Module):
    """Additions that `first` must not make up for: one comes behind a ReLU, one adds its own consequence."""

    def __init__(self, way: str):
        super().__init__()
        self.first, self.second, self.way = nn.Linear(CHANNELS, OUTPUTS), nn.Linear(OUTPUTS, OUTPUTS), way

    def forward(self, x):
        y = self.first(x)
        if self.way == "consequence":
            return y + self.second(torch.relu(y))
        if self.way == "written over":
            return torch.relu_(y) + x[:, :OUTPUTS]
        if self.way == "scaled":
            return torch.add(x[:, :OUTPUTS], y, alpha=2)
        return y + x[:, :1]  # broadcast


@pytest.mark.parametrize("way", ["consequence", "written over", "scaled", "broadcast"])
def test_only_a_plain_sum_with_something_else_counts_as_a_stream(way):
    original, pruned = Crossing(way).double(), Crossing(way).double()
    x = torch.randn(61, CHANNELS).double()
    rows, ridge = torch.arange(OUTPUTS), torch.zeros(CHANNELS)
    weight, bias = fit_original(original, pruned, "first", rows, ridge, x)
    torch.testing.assert_close(weight, original.first.weight.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(bias, original.first.bias.detach(), rtol=0, atol=1e-9)


def test_a_narrower_stream_is_compared_channel_by_channel():
    original, pruned = drifted(norm=True)
    rows = torch.tensor([0, 2, 5])
    narrow = copy.deepcopy(pruned)
    narrow.stem = nn.Conv2d(2, 3, 1).double()
    narrow.writer = nn.Conv2d(3, 3, 3, padding=1).double()
    narrow.norm = nn.BatchNorm2d(3).double().eval()
    with torch.no_grad():
        narrow.stem.weight.copy_(pruned.stem.weight[rows])
        narrow.stem.bias.copy_(pruned.stem.bias[rows])
        narrow.norm.load_state_dict(
            {key: value[rows] if value.dim() else value for key, value in pruned.norm.state_dict().items()}
        )
    x = images(31).double()

    def error(drift):
        weight, bias = fit_original(original, narrow, "writer", rows, torch.zeros(3), x, drift=drift)
        set_layer_weight(narrow.writer, weight)
        narrow.writer.bias = nn.Parameter(bias)
        with torch.no_grad():
            return float((narrow(x) - original(x)[:, rows]).norm())

    assert error(drift=True) < 0.9 * error(drift=False)
