"""Notebook 08: beyond the paper."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from torch import nn

from workbench.course.exercise import Exercise, Mistake
from workbench.course.training_small import gap
from workbench.data.randomness import OwnRandomness
from workbench.examples.architectures import DigitsCNN, DigitsViT, RowRNN
from workbench.network.rebuilt.explicit import explicit

KEPT = 16  # of conv2's channels, in the exercise
Count = tuple[int, int]


@cache
def _shapes(make: type[nn.Module], **sizes: int) -> Any:
    """A network of which only the shapes are looked at; nobody's random numbers are moved."""
    with OwnRandomness(0).drawing():
        return explicit(make(**sizes))


def _fitted(kept: int | None, *, per_output: bool = False) -> Count:
    """Numbers that the paper's Â and the kernel-aware fit hold for conv3, with `kept` of its channels."""
    conv = _shapes(DigitsCNN).conv3
    left, window = kept or conv.in_channels, conv.kernel_size[0] * conv.kernel_size[1]
    channel, kernel = conv.in_channels * left, conv.out_channels * left * window
    return (left, left * window) if per_output else (channel, kernel)


def _window_forgotten() -> Count:
    return _fitted(KEPT)[0], _shapes(DigitsCNN).conv3.out_channels * KEPT


def _states() -> list[tuple[np.ndarray]]:
    """Two batches of hidden states, (n, steps, m), not centred."""
    random = np.random.default_rng(8)
    return [
        (random.normal(0.5, 1.0, shape).cumsum(1) / np.sqrt(shape[1]),) for shape in ((5, 7, 3), (11, 4, 2))
    ]


def _moment(samples: np.ndarray) -> np.ndarray:
    return samples.T @ samples / len(samples)


def _time_mean(states: np.ndarray) -> np.ndarray:
    return _moment(states.reshape(-1, states.shape[-1]))


def _centred(states: np.ndarray) -> np.ndarray:
    samples = states.reshape(-1, states.shape[-1])
    return _moment(samples - samples.mean(0))


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _unit_of_rnn() -> int:
    """Parameters that go with one of the hidden units: of two networks, the difference."""
    return _size(_shapes(RowRNN)) - _size(_shapes(RowRNN, hidden=_shapes(RowRNN).classifier.in_features - 1))


def _unit_of_rnn_wrongly(part: str) -> int:
    classifier = _shapes(RowRNN).classifier
    hidden, classes = classifier.in_features, classifier.out_features
    change = {"column": 1 - hidden, "corner": 1, "bias": -1, "reader": -classes}[part]
    return _unit_of_rnn() + change


def _head(*, biases: bool = True, reader: bool = True, reader_bias: bool = False, blocks: int = 1) -> int:
    """Parameters of one head of the transformer on digits, from the shapes of its layers."""
    attention = _shapes(DigitsViT).block1.attention
    width, size = attention.embed_dim, attention.head_dim
    rows = 3 * size * (width + biases)
    return blocks * (rows + reader * width * size + reader_bias * size)


def _scores() -> list[tuple[list[float], list[float]]]:
    return [
        ([0.991, 0.989, 0.994], [0.981, 0.980, 0.985, 0.979]),
        ([0.90, 0.96, 0.93, 0.88, 0.91], [0.97, 0.98, 0.96]),
    ]


def _difference(first, second) -> float:
    return float(np.mean(first) - np.mean(second))


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        "08.1",
        f"two numbers: entries of Â, and weights of the kernel-aware fit, where conv3 reads {KEPT} channels",
        truth=lambda: _fitted(KEPT),
        mistakes=(
            Mistake(
                lambda: _fitted(None),
                "that is with all channels: the fit sees only the kept ones.",
            ),
            Mistake(
                lambda: _fitted(KEPT, per_output=True),
                "these are the regressors, what one fitted number multiplies each; count the fitted numbers: "
                "regressors times what is predicted from them.",
            ),
            Mistake(
                _window_forgotten,
                "the kernel-aware fit has a weight of its own at each position of the 3 × 3 window.",
            ),
        ),
        hint="Â predicts every channel from the kept ones; the kernel-aware fit predicts every output of "
        "conv3 from the kept channels at each position of its window.",
        tolerance=1e-6,
    ),
    Exercise(
        "08.2",
        "the time-mean moment (m, m), a function of hidden states (n, steps, m)",
        truth=lambda: _time_mean,
        mistakes=(
            Mistake(
                lambda: lambda states: _moment(states[:, -1]),
                "only the last step was taken: that is what the classifier reads, not the recurrent matrix.",
            ),
            Mistake(
                lambda: lambda states: _moment(states.mean(1)),
                "the states were averaged over time before the product: what goes up and down in time is "
                "lost.",
            ),
            Mistake(
                lambda: lambda states: _time_mean(states) * states.shape[1],
                "the sum over the steps was not divided by their number.",
            ),
            Mistake(
                lambda: _centred,
                "the mean was taken off: that is a covariance, and the moment is not centred.",
            ),
        ),
        hint="every step of every example is a sample h: the mean of h hᵀ over all of them.",
        probes=_states,
    ),
    Exercise(
        "08.3",
        "parameters that go with one of 128 hidden units, a whole number",
        truth=_unit_of_rnn,
        mistakes=(
            Mistake(
                lambda: _unit_of_rnn_wrongly("column"),
                "the recurrent matrix loses a row and a column: the unit is written by it and read by it.",
            ),
            Mistake(
                lambda: _unit_of_rnn_wrongly("corner"),
                "row and column of the recurrent matrix meet in one entry, and it was counted twice.",
            ),
            Mistake(
                lambda: _unit_of_rnn_wrongly("bias"),
                "torch's recurrent layer has two biases a unit: of what comes in, and of what comes back.",
            ),
            Mistake(
                lambda: _unit_of_rnn_wrongly("reader"),
                "the classifier reads the unit as well, and loses a column.",
            ),
        ),
        hint="a row of the input matrix, a row and a column of the recurrent one, the biases, a column of "
        "the classifier.",
        tolerance=1e-6,
    ),
    Exercise(
        "08.4",
        "parameters that go with one head, a whole number",
        truth=_head,
        mistakes=(
            Mistake(
                lambda: _head(reader=False),
                "the projection behind the heads reads them, and loses columns too.",
            ),
            Mistake(
                lambda: _head(biases=False),
                "queries, keys and values have biases, one a row.",
            ),
            Mistake(
                lambda: _head(reader_bias=True),
                "the bias of the projection behind the heads belongs to the stream, and all of it stays.",
            ),
            Mistake(
                lambda: _head(blocks=2),
                "a head of one block was asked for, and both blocks were counted.",
            ),
        ),
        hint="rows of the projections to queries, keys and values with their biases, and columns of the one "
        "behind.",
        tolerance=1e-6,
    ),
    Exercise(
        "08.5",
        "the gap of two means in standard errors, a function of two lists of scores",
        truth=lambda: gap,
        mistakes=(
            Mistake(
                lambda: _difference,
                "that is the difference of the means alone; it says nothing until it is set against the "
                "spread.",
            ),
            Mistake(
                lambda: (
                    lambda first, second: (
                        _difference(first, second) / np.sqrt(np.var(first, ddof=1) + np.var(second, ddof=1))
                    )
                ),
                "it was divided by the spread of single scores: a mean of n scores varies less, its variance "
                "is s²/n.",
            ),
            Mistake(
                lambda: (
                    lambda first, second: (
                        _difference(first, second)
                        / np.sqrt(np.var(first) / len(first) + np.var(second) / len(second))
                    )
                ),
                "the variance was taken with n in the denominator; from a sample it is n − 1 (ddof=1).",
            ),
            Mistake(
                lambda: lambda first, second: -gap(first, second),
                "the sign is turned round: the first mean less the second.",
            ),
        ),
        hint="the difference of the means over √(s₁²/n₁ + s₂²/n₂), with s² from n − 1.",
        probes=_scores,
    ),
)
