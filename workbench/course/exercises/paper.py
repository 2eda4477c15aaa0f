"""Notebook 05: the paper's figures and tables."""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import nn

from workbench.course.architectures import vgg16
from workbench.course.exercise import Exercise, Mistake
from workbench.course.networks import example

THIRD = "fc3"  # NN3's third hidden layer
WIDE, NARROW = 80, 20  # units
LAYER = 3  # conv2_1 of VGG-16, among its convolutions


def _output_probes() -> list[tuple[np.ndarray, np.ndarray]]:
    whole = np.array([[3.0, -4.0], [0.5, 0.0], [1.0, 2.0]])
    after = np.array([[2.5, -4.5], [0.0, 0.25], [2.0, 2.0]])
    return [(whole, after), (whole[:2] * 3, after[:2] * 2)]


def _relative_error(whole: np.ndarray, after: np.ndarray) -> float:
    return np.sqrt(((whole - after) ** 2).sum() / (whole**2).sum())


def _mean_of_ratios(whole: np.ndarray, after: np.ndarray) -> float:
    return (np.linalg.norm(whole - after, axis=1) / np.linalg.norm(whole, axis=1)).mean()


def _lam_for(width: int) -> float:
    return example("nn3-mnist", say=False).spectrum(THIRD).lam_for(width)


def _eigenvalue(index: int) -> float:
    return float(example("nn3-mnist", say=False).spectrum(THIRD).eigenvalues[index - 1])


def _layer() -> nn.Conv2d:
    return [module for module in vgg16().modules() if isinstance(module, nn.Conv2d)][LAYER - 1]


def _layer_parameters(positions: int | None = None, bias: bool = True) -> int:
    layer = _layer()
    kernel = layer.kernel_size[0] * layer.kernel_size[1] if positions is None else positions
    return layer.in_channels * layer.out_channels * kernel + (layer.out_channels if bias else 0)


def _chain_probes() -> list[tuple[list[int], list[int]]]:
    return [([3, 32, 64, 64, 10], [3, 16, 32, 48, 10]), ([3, 100, 100], [3, 50, 80])]


def _weights(inputs: list[int], outputs: list[int]) -> int:
    return sum(9 * one * other for one, other in zip(inputs[:-1], outputs[1:], strict=True))


def _gone(before: list[int], after: list[int]) -> float:
    return 1 - _weights(after, after) / _weights(before, before)


def _layers_gone(before: list[int], after: list[int]) -> float:
    """The mean of the layers' own shares."""
    shares = [1 - after[i] * after[i + 1] / (before[i] * before[i + 1]) for i in range(len(before) - 1)]
    return sum(shares) / len(shares)


ERROR = Exercise(
    "05.1",
    "‖f − f♯‖ₙ / ‖f‖ₙ, a function of f and f♯, arrays (n, outputs)",
    truth=lambda: _relative_error,
    mistakes=(
        Mistake(
            lambda: lambda whole, after: _relative_error(after, whole),
            "it was divided by the size of f♯: the paper measures against the unpruned f.",
        ),
        Mistake(
            lambda: lambda whole, after: _relative_error(whole, after) ** 2,
            "the square root is missing: that is a ratio of mean squares, not of norms.",
        ),
        Mistake(
            lambda: _mean_of_ratios,
            "the ratio was taken on every example and then averaged: ‖·‖ₙ averages over the examples first.",
        ),
        Mistake(
            lambda: lambda whole, after: np.sqrt(((whole - after) ** 2).sum(1).mean()),
            "that is ‖f − f♯‖ₙ alone: it is still to be divided by the size of f.",
        ),
    ),
    hint="‖f‖ₙ² is the mean over the examples of the squared length of f(x); the ratio of two such norms.",
    probes=_output_probes,
)

RATIO = Exercise(
    "05.2",
    f"how many times larger λ is where N(λ) = {NARROW} than where N(λ) = {WIDE}",
    truth=lambda: _lam_for(NARROW) / _lam_for(WIDE),
    mistakes=(
        Mistake(
            lambda: _lam_for(WIDE) / _lam_for(NARROW),
            f"the ratio is upside down: the λ of {NARROW} units belongs in the numerator.",
        ),
        Mistake(
            lambda: _eigenvalue(NARROW) / _eigenvalue(WIDE),
            "that is the ratio of two eigenvalues: N(λ) sums over all of them, so λ is not μ of that index.",
        ),
        Mistake(
            lambda: WIDE / NARROW,
            "that is the ratio of the widths, as if N(λ) were proportional to 1/λ: the spectrum decides.",
        ),
    ),
    hint="session.spectrum('fc3').lam_for(width) solves N(λ) = width; divide two of them.",
)

PENCIL = Exercise(
    "05.3",
    "the number of parameters of conv2_1 of VGG-16, with its bias",
    truth=lambda: sum(p.numel() for p in _layer().parameters()),
    mistakes=(
        Mistake(
            partial(_layer_parameters, bias=False),
            "the bias is missing: every output channel has one number more.",
        ),
        Mistake(
            partial(_layer_parameters, 3),
            "the kernel counts as 3: it has 3 · 3 positions, and a weight at each.",
        ),
        Mistake(
            partial(_layer_parameters, 1),
            "the kernel is missing: every pair of an input and an output channel has 3 · 3 weights.",
        ),
        Mistake(
            lambda: _layer_parameters() + _layer().in_channels - _layer().out_channels,
            "a bias was counted for every input channel: it belongs to the output channels.",
        ),
    ),
    hint="weights: outputs · inputs · 3 · 3, and then a bias for every output channel.",
    tolerance=1e-5,
)

RATE = Exercise(
    "05.4",
    "the share of a chain's weights that goes, a function of two lists of channels",
    truth=lambda: _gone,
    mistakes=(
        Mistake(
            lambda: lambda before, after: 1 - _gone(before, after),
            "that is the share that is left: what goes is asked for.",
        ),
        Mistake(
            lambda: lambda before, after: 1 - sum(after[1:]) / sum(before[1:]),
            "channels were counted: a layer has a weight for every pair of an input and an output channel.",
        ),
        Mistake(
            lambda: lambda before, after: 1 - _weights(before, after) / _weights(before, before),
            "only the outputs became fewer: a layer's inputs are the outputs of the layer before it.",
        ),
        Mistake(
            lambda: _layers_gone,
            "the shares of the layers were averaged: a wide layer has more weights, so add up first.",
        ),
    ),
    hint="the weights of a chain are Σ 9 · channels[i] · channels[i + 1]; compare the two sums.",
    probes=_chain_probes,
)

EXERCISES: tuple[Exercise, ...] = (ERROR, RATIO, PENCIL, RATE)
