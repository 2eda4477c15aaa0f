"""Notebook 01: spectra."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from workbench.course.activations import activations
from workbench.course.exercise import Exercise, Mistake
from workbench.course.networks import example
from workbench.spectral.moment import Moment

POINTS = np.array([[3.0, 1.0], [1.0, 3.0], [2.0, 2.0]])  # of 01.1, a row a sample
NOISY_UNITS, NOISE_VARIANCE, PLANTED_EXCESS = 300, 1.0, 0.1  # of 01.4
SEED = 7


@dataclass(frozen=True)
class _Puzzle:
    """A layer in which unit `twins[1]` is a copy of `twins[0]`, and `scaled[1]` one of half `scaled[0]`."""

    moment: Tensor
    twins: tuple[int, int]
    scaled: tuple[int, int]


def puzzle() -> Tensor:
    """Σ (m, m) of NN3's third hidden layer in which one live unit is the exact copy of another: which two?"""
    return _puzzle().moment.clone()


@cache
def _puzzle() -> _Puzzle:
    samples = activations(example("nn3-mnist", say=False), "fc3").clone()
    busy = samples.square().sum(0).argsort(descending=True, stable=True)[20:120]  # neither dead nor the first
    drawn = np.random.default_rng(SEED).choice(busy.numpy(), 4, replace=False)
    first, copy, base, half = (int(unit) for unit in drawn)
    samples[:, copy], samples[:, half] = samples[:, first], samples[:, base] / 2
    return _Puzzle(Moment.of(samples).matrix, (first, copy), (base, half))


def _dead_and_twins() -> set[int]:
    diagonal = _puzzle().moment.diagonal()
    return {int(unit) for unit in torch.nonzero(diagonal == 0).flatten()} | set(_puzzle().twins)


def _most_active_together() -> set[int]:
    cross = _puzzle().moment.clone()
    cross.fill_diagonal_(0)
    return {int(unit) for unit in divmod(int(cross.argmax()), len(cross))}


def _largest_entries() -> set[int]:
    return {int(unit) for unit in _puzzle().moment.diagonal().topk(2).indices}


def _eigenvalues(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.eigvalsh(matrix)[::-1]


def _samples() -> list[tuple[np.ndarray]]:
    rng = np.random.default_rng(SEED)
    return [(np.maximum(rng.normal(1, 1, shape), 0),) for shape in ((13, 5), (7, 3))]


def _samples_needed(excess: float) -> float:
    return NOISY_UNITS * (NOISE_VARIANCE / excess) ** 2


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        "01.1",
        "the two eigenvalues of the moment, the larger first, in squared activations",
        truth=lambda: _eigenvalues(POINTS.T @ POINTS / 3),
        mistakes=(
            Mistake(
                lambda: _eigenvalues(np.cov(POINTS.T, bias=True)),
                "the mean was taken off first: that is the covariance; the moment is uncentred.",
            ),
            Mistake(
                lambda: _eigenvalues(POINTS.T @ POINTS),
                "the products were summed over the samples, but not divided by how many there are.",
            ),
            Mistake(
                lambda: _eigenvalues(POINTS.T @ POINTS / 2),
                "divided by n − 1: that is for a variance whose mean was estimated; here it is n.",
            ),
            Mistake(
                lambda: np.sqrt(_eigenvalues(POINTS.T @ POINTS / 3)),
                "those are the half axes of the ellipse, √μ; the eigenvalues are their squares.",
            ),
        ),
        hint="add up the three products φφᵀ, divide by 3; a matrix ((a, b), (b, a)) has eigenvalues a ± b.",
    ),
    Exercise(
        "01.2",
        "Σ (m, m), a function of samples (n, m)",
        truth=lambda: lambda samples: samples.T @ samples / len(samples),
        mistakes=(
            Mistake(
                lambda: lambda samples: samples @ samples.T / len(samples),
                "rows and columns are exchanged: that compares samples with samples, (n, n); "
                "Σ compares units with units.",
            ),
            Mistake(
                lambda: lambda samples: np.cov(samples.T, bias=True),
                "the mean was taken off: that is the covariance; the moment is uncentred.",
            ),
            Mistake(
                lambda: lambda samples: samples.T @ samples,
                "the sum over the samples was not divided by their number n: it grows with every batch.",
            ),
            Mistake(
                lambda: lambda samples: samples.T @ samples / samples.shape[1],
                "divided by the number of units m; the mean is over the samples.",
            ),
        ),
        hint="the mean over the rows φ of the products φφᵀ: one matrix product, and one division.",
        probes=_samples,
    ),
    Exercise(
        "01.3",
        "the two live units of which one is the copy of the other, as a set of indices",
        truth=lambda: set(_puzzle().twins),
        mistakes=(
            Mistake(
                _dead_and_twins,
                "units that are always zero are equal to each other too, but they are dead: "
                "leave out those with Σⱼⱼ = 0.",
            ),
            Mistake(
                lambda: set(_puzzle().scaled),
                "these two point the same way, but one is only half the other: their cosine is 1, "
                "and their difference is not zero.",
            ),
            Mistake(
                lambda: {*_puzzle().twins, *_puzzle().scaled},
                "two pairs have cosine 1; only in one of them are the units equal.",
            ),
            Mistake(
                _most_active_together,
                "these two have the largest Σᵢⱼ: they are active together, and strongly, but not equal.",
            ),
            Mistake(
                _largest_entries,
                "these are the two most active units, with the largest Σⱼⱼ; compare units with each other.",
            ),
        ),
        hint="E(φᵢ − φⱼ)² = Σᵢᵢ + Σⱼⱼ − 2Σᵢⱼ is zero for equal units, up to rounding.",
    ),
    Exercise(
        "01.4",
        "a number of samples n",
        truth=lambda: _samples_needed(PLANTED_EXCESS),
        mistakes=(
            Mistake(
                lambda: NOISY_UNITS * NOISE_VARIANCE / PLANTED_EXCESS,
                "the square root was lost on the way: √(m/n) is what is compared with s/σ².",
            ),
            Mistake(
                lambda: NOISY_UNITS / (np.sqrt(1 + PLANTED_EXCESS / NOISE_VARIANCE) - 1) ** 2,
                "the direction's own variance σ² + s was compared with the edge; sampling lifts its "
                "eigenvalue too, so the condition is the milder one, s > σ²√(m/n).",
            ),
            Mistake(
                lambda: NOISY_UNITS * PLANTED_EXCESS**2,
                "m and n are exchanged: more units hide a direction, more samples show it.",
            ),
            Mistake(
                lambda: _samples_needed(NOISE_VARIANCE + PLANTED_EXCESS),
                "s is what the direction has above the noise, not its whole variance σ² + s.",
            ),
        ),
        hint="solve s = σ²√(m/n) for n.",
    ),
)
