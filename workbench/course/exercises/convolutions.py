"""Notebook 06: convolutions and residuals."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from torch import nn

from workbench.course.exercise import Exercise, Mistake
from workbench.course.networks import example
from workbench.course.streams import stream_images, stream_network
from workbench.network.finding.proof import find_groups
from workbench.network.groups import named_group
from workbench.network.surgery import remove_units
from workbench.session.session import Session

POOL = 4  # activations of which a maximum keeps one, before fc1
HALVED, READS, KEPT = "conv2", "conv3", 32  # of 06.3: what loses units, what reads it, units that stay
STREAM = "stem"  # the group of 06.4


def _session() -> Session:
    return example("digits-cnn", say=False)


def _layer(name: str) -> Any:
    return _session().original.get_submodule(name)


def _flattened() -> tuple[int, int, int]:
    """Outputs of fc1, units of conv3, positions at which each unit reaches fc1."""
    units, positions = _session().group("conv3").readers[0].columns.shape
    return _layer("fc1").out_features, units, positions


def _shape_of_flattened() -> list[int]:
    outputs, units, positions = _flattened()
    return [outputs * positions, units, positions]


def _shape_of_writer() -> list[int]:
    weight = _layer("conv3").weight
    return [weight.shape[0] * weight[0, 0].numel(), weight.shape[1], _flattened()[2]]


def _probes() -> list[tuple[np.ndarray, np.ndarray]]:
    numbers = np.random.default_rng(6)
    root = numbers.standard_normal((3, 3))
    return [(numbers.standard_normal((3, 3, *kernel)), root @ root.T) for kernel in ((2, 2), (3, 1))]


def _loss(readout: np.ndarray, residual: np.ndarray) -> float:
    """Tr ZCZᵀ of Z (rows, m) and C (m, m)."""
    return float(np.trace(readout @ residual @ readout.T))


def _stacked(weight: np.ndarray) -> np.ndarray:
    """(outputs, channels, kh, kw) to (outputs·kh·kw, channels)."""
    return weight.transpose(0, 2, 3, 1).reshape(-1, weight.shape[1])


def _positions() -> dict[str, int]:
    """At how many positions each of the two convolutions computes its outputs."""
    terms = {term.name: term for term in _session().cost_model.terms}
    return {name: terms[name].macs // terms[name].parameters for name in (HALVED, READS)}


def _saved() -> dict[str, int]:
    """Parameters that go: rows of the writer, those of the norm, columns of the reader."""
    writer, reader = _layer(HALVED).weight, _layer(READS).weight
    lost = writer.shape[0] - KEPT
    return {
        "rows": lost * writer[0].numel(),
        "norm": 2 * lost,
        "columns": lost * reader[:, 0].numel(),
        "biases": lost,
    }


def _macs(rows_at: int, columns_at: int) -> int:
    return _saved()["rows"] * rows_at + _saved()["columns"] * columns_at


def _both(*parts: str) -> list[int]:
    """The sum of these parts, and the MACs as they are."""
    at = _positions()
    return [sum(_saved()[part] for part in parts), _macs(at[HALVED], at[READS])]


def _by_preview() -> list[int]:
    choice = _session().preview(HALVED, width=KEPT)
    return [choice.parameters_saved, choice.macs_saved]


@cache
def _one_unit() -> int:
    """Parameters before less those after, of the network built with one unit of the stream less."""
    network = stream_network()
    groups = find_groups(network, stream_images())
    kept = range(named_group(groups, STREAM).width - 1)
    smaller, _ = remove_units(network, groups, STREAM, list(kept))
    return _parameters(network) - _parameters(smaller)


def _parameters(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


def _of_unit(part: str) -> int:
    """Parameters of one unit of the stream in its `writers`, `norms` or `readers`."""
    network = stream_network()
    if part == "norms":
        return sum(2 for _ in (network.stem_norm, network.outer_norm, network.project_norm))
    if part == "writers":
        return sum(layer.weight[0].numel() for layer in (network.stem, network.outer, network.project))
    return sum(
        layer.weight[:, 0].numel() for layer in (network.inner, network.expand, network.left, network.right)
    )


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        "06.1",
        "three numbers: rows of Z, columns of Z, samples an example",
        truth=_shape_of_flattened,
        mistakes=(
            Mistake(
                lambda: [_flattened()[0], _flattened()[1] * _flattened()[2], 1],
                "the inputs of fc1 were taken for the units: a unit is a channel; its inputs go together.",
            ),
            Mistake(
                lambda: list(_flattened()),
                "a unit meets every output once at each position; these weights are stacked.",
            ),
            Mistake(
                _shape_of_writer,
                "that Z is conv3's own weight: conv3 writes these units, and Z belongs to what reads them.",
            ),
            Mistake(
                lambda: [_flattened()[0] * _flattened()[2], _flattened()[1], POOL * _flattened()[2]],
                "φ is what the reader receives: before fc1 the maximum takes one of four positions.",
            ),
        ),
        hint="units are columns, and every weight with which an output meets a unit is a row.",
        tolerance=1e-6,
    ),
    Exercise(
        "06.2",
        "Tr ZCZᵀ, a function of the weight (outputs, channels, kh, kw) and of C (channels, channels)",
        truth=lambda: lambda weight, residual: _loss(_stacked(weight), residual),
        mistakes=(
            Mistake(
                lambda: lambda weight, residual: _loss(weight.sum((2, 3)), residual),
                "the kernel was summed over its positions first: right only if every position saw the same.",
            ),
            Mistake(
                lambda: lambda weight, residual: _loss(weight.reshape(-1, weight.shape[1]), residual),
                "a reshape alone does not bring the channels last: move that axis first, or rows get mixed.",
            ),
            Mistake(
                lambda: lambda weight, residual: _loss(_stacked(weight.swapaxes(0, 1)), residual),
                "the outputs were taken for the units: the reader's second axis is what meets the group.",
            ),
            Mistake(
                lambda: lambda weight, residual: _loss(_stacked(weight), residual) / (weight[0, 0].size),
                "the mean over the kernel's positions was taken; their contributions add up.",
            ),
            Mistake(
                lambda: lambda weight, residual: _loss(_stacked(weight), np.diag(np.diag(residual))),
                "only the diagonal of C was used: what is left of two units may well be correlated.",
            ),
        ),
        hint="stack Z with a row for each output and kernel position, then take the trace.",
        probes=_probes,
    ),
    Exercise(
        "06.3",
        "two numbers: parameters and MACs saved",
        truth=_by_preview,
        mistakes=(
            Mistake(
                lambda: [_saved()["rows"] + _saved()["norm"], _saved()["rows"] * _positions()[HALVED]],
                "the layer that reads these units gets narrower as well.",
            ),
            Mistake(
                lambda: _both("rows", "columns"),
                "the batch norm keeps two parameters a channel, and those of the lost channels go.",
            ),
            Mistake(
                lambda: _both("rows", "norm", "columns", "biases"),
                "a bias was counted: the convolutions here have none, since a norm follows.",
            ),
            Mistake(
                lambda: [
                    _both("rows", "norm", "columns")[0],
                    _macs(_positions()[HALVED], _positions()[HALVED]),
                ],
                "both convolutions were counted at the size of the first: a maximum lies between.",
            ),
        ),
        hint="rows of the writer, its norm's entries, columns of the reader; each weight once a position.",
        tolerance=1e-6,
    ),
    Exercise(
        "06.4",
        "parameters that go with one unit of the stream",
        truth=_one_unit,
        mistakes=(
            Mistake(
                lambda: _of_unit("writers") + _of_unit("norms"),
                "all who read the stream lose a column, too.",
            ),
            Mistake(
                lambda: _of_unit("readers"),
                "all who write into the stream lose a row, and the norms behind them an entry, too.",
            ),
            Mistake(
                lambda: _of_unit("writers") + _of_unit("readers"),
                "each of the norms behind the writers loses a scale and a shift.",
            ),
            Mistake(
                lambda: _one_unit() - _of_unit("readers") + stream_network().inner.weight[:, 0].numel(),
                "only the first reader was counted; follow the stream to its end.",
            ),
        ),
        hint="list the writers, their norms and the readers; take one row, one entry or one column of each.",
        tolerance=1e-6,
    ),
)
