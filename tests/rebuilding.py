"""Layers of torch beside what they are rebuilt as."""

import copy

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from workbench.network.rebuilt.explicit import explicit

STEPS, BATCH, INPUTS, UNITS = 5, 3, 7, 13
MODES = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
}


def rebuilt(model: nn.Module) -> nn.Module:
    return explicit(copy.deepcopy(model))


def lively(model: nn.Module) -> nn.Module:
    """Biases that are not zero, and weights that saturate some gates."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    return model.double().eval()


def flat(value) -> list[torch.Tensor]:
    if isinstance(value, PackedSequence):
        return [value.data]
    return [value] if isinstance(value, torch.Tensor) else [t for part in value for t in flat(part)]


def assert_same(found, expected) -> None:
    for one, other in zip(flat(found), flat(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def recurrent(kind: str, **options) -> nn.RNNBase:
    return lively(MODES[kind](INPUTS, UNITS, **options))


def start(old: nn.RNNBase, batch: tuple[int, ...] = (BATCH,)):
    cells = old.num_layers * (1 + old.bidirectional)
    states = tuple(torch.randn(cells, *batch, UNITS).double() for _ in range(2))
    return states if old.mode == "LSTM" else states[0]


def removed_units(layer, kept: torch.Tensor) -> None:
    """Surgery by hand: rows of every gate in both linear layers, columns of the recurrent one."""
    gates = layer.recurrent.out_features // layer.width
    rows = (torch.arange(gates)[:, None] * layer.width + kept).flatten()
    for linear in (layer.input, layer.recurrent):
        linear.weight = nn.Parameter(linear.weight[rows])
        linear.bias = nn.Parameter(linear.bias[rows])
        linear.out_features = len(rows)
    layer.recurrent.weight = nn.Parameter(layer.recurrent.weight[:, kept])
    layer.recurrent.in_features = len(kept)
