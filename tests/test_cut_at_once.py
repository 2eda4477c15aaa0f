"""A layer that loses rows and columns at once, whatever it is and however many rows are copied at a time."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from workbench.network import surgery
from workbench.network.groups import Reader, UnitGroup, Writer
from workbench.network.layers import layer_weight


@pytest.mark.parametrize(
    "layer", [nn.Linear(7, 9), nn.Conv2d(7, 9, 3, bias=False), nn.ConvTranspose1d(7, 9, 2)]
)
@pytest.mark.parametrize("at_once", [1, 50, 1 << 20])
def test_a_layer_that_loses_rows_and_columns_keeps_what_stands_at_the_others(layer, at_once, monkeypatch):
    monkeypatch.setattr(surgery, "COPIED_AT_ONCE", at_once)
    model = nn.Sequential(copy.deepcopy(layer))
    before = layer_weight(layer).detach().numpy()
    kind = type(layer).__name__
    at = torch.arange
    written = UnitGroup("out", kind, 9, (Writer("0", at(9)[:, None]),), (), ())
    read = UnitGroup("in", kind, 7, (), (), (Reader("0", kind, at(7)[:, None]),))
    surgery.shrink_all(model, [written, read], {"out": torch.tensor([0, 5]), "in": torch.tensor([2, 6])})
    left = np.delete(np.delete(before, [0, 5], 0), [2, 6], 1)
    assert np.array_equal(layer_weight(model[0]).detach().numpy(), left)
    assert layer_weight(model[0]).shape[:2] == (7, 5)
    if layer.bias is not None:
        assert np.array_equal(model[0].bias.detach().numpy(), np.delete(layer.bias.detach().numpy(), [0, 5]))
