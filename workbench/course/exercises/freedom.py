"""Notebook 02: degrees of freedom."""

from __future__ import annotations

import numpy as np
import torch

from workbench.course.exercise import Exercise, Mistake
from workbench.course.networks import example
from workbench.spectral.moment import Moment
from workbench.spectral.spectrum import Spectrum

EQUAL, LEVEL, UNITS, WANTED = 8, 0.5, 20, 5  # of 02.2: k eigenvalues μ of m, and the N asked for
WIDTH, FITTED = 30, 10  # degrees of freedom of 02.3 and of 02.4
SECOND_MOMENT, LAM = 4.0, 2.0  # of the unit of 02.5


def _probes() -> list[tuple[np.ndarray, float]]:
    return [(np.array([3.0, 1.0, 0.1]), 0.5), (np.array([7.0, 2.0, 0.4, 0.0]), 0.05)]


def _moment() -> Moment:
    return example("nn3-mnist", say=False).moment("fc3")


def _spectrum() -> Spectrum:
    return example("nn3-mnist", say=False).spectrum("fc3")


def _hat(moments: list[list[float]]) -> np.ndarray:
    """diag Σ(Σ + λI)⁻¹, the leverage that is not normalised."""
    sigma = np.array(moments)
    return np.diag(sigma @ np.linalg.inv(sigma + LAM * np.eye(len(sigma))))


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        "02.1",
        "N(λ), a function of the eigenvalues μ and of λ",
        truth=lambda: lambda mu, lam: (mu / (mu + lam)).sum(),
        mistakes=(
            Mistake(
                lambda: lambda mu, lam: (lam / (mu + lam)).sum(),
                "λ stands in the numerator: that counts what is lost, m − N(λ).",
            ),
            Mistake(
                lambda: lambda mu, lam: (mu / (mu + lam * mu.sum())).sum(),
                "λ was taken as a share of the trace; here it is absolute, in the units of μ.",
            ),
            Mistake(
                lambda: lambda mu, lam: (mu > lam).sum(),
                "the eigenvalues over λ were counted: each counts by its share μ/(μ+λ) instead.",
            ),
            Mistake(
                lambda: lambda mu, lam: mu.sum() / (mu.sum() + lam),
                "the sum of the shares is meant, not the share of the sum.",
            ),
        ),
        hint="sum over all eigenvalues the share μ/(μ+λ), a number between 0 and 1 each.",
        probes=_probes,
    ),
    Exercise(
        "02.2",
        "λ, absolute, in squared activations",
        truth=lambda: LEVEL * (EQUAL - WANTED) / WANTED,
        mistakes=(
            Mistake(
                lambda: LEVEL * (UNITS - WANTED) / WANTED,
                "zero eigenvalues were counted as if they were like the others; their share is 0 at every λ.",
            ),
            Mistake(
                lambda: LEVEL * WANTED / (EQUAL - WANTED),
                "the fraction is upside down: a larger N needs a smaller λ.",
            ),
            Mistake(
                lambda: LEVEL,
                "at λ = μ every share is one half, so N is half of the eigenvalues that are not zero.",
            ),
            Mistake(
                lambda: LEVEL * (EQUAL - WANTED) / WANTED / (EQUAL * LEVEL),
                "that is λ relative to the trace; the absolute one is asked for.",
            ),
        ),
        hint="all shares are equal: k·μ/(μ+λ) = N, solved for λ.",
    ),
    Exercise(
        "02.3",
        "λ as a share of the trace",
        truth=lambda: _spectrum().lam_for(WIDTH) / _spectrum().trace,
        mistakes=(
            Mistake(
                lambda: _spectrum().lam_for(WIDTH),
                "that is the absolute λ; divide it by the trace.",
            ),
            Mistake(
                lambda: _spectrum().lam_for(WIDTH) / float(_spectrum().eigenvalues[0]),
                "λ was divided by the largest eigenvalue; the trace is the sum of all.",
            ),
            Mistake(
                lambda: float(_spectrum().eigenvalues[WIDTH - 1]) / _spectrum().trace,
                "that is the eigenvalue at this index: at such a λ it counts only half, and N is another.",
            ),
            Mistake(
                lambda: _spectrum().lam_for(WIDTH) / _spectrum().width,
                "λ was divided by the number of units; the trace is the sum of the eigenvalues.",
            ),
        ),
        hint="`lam_for` of the spectrum inverts N(λ); check yours with `degrees_of_freedom`.",
    ),
    Exercise(
        "02.4",
        "scikit-learn's alpha",
        truth=lambda: _moment().count * _spectrum().lam_for(FITTED),
        mistakes=(
            Mistake(
                lambda: _spectrum().lam_for(FITTED),
                "that is λ: the moment is a mean over the samples, and Ridge sums over them.",
            ),
            Mistake(
                lambda: _spectrum().lam_for(FITTED) / _moment().count,
                "n was divided by, not multiplied with: a sum is n times the mean.",
            ),
            Mistake(
                lambda: _spectrum().width * _spectrum().lam_for(FITTED),
                "the number of units was taken for the number of samples.",
            ),
            Mistake(
                lambda: _moment().count * Spectrum.of(_moment().centred()).lam_for(FITTED),
                "the moment was centred: that goes with fit_intercept=True, and spends one more on the mean.",
            ),
        ),
        hint="nμ/(nμ + α) = μ/(μ + λ): which α?",
    ),
    Exercise(
        "02.5",
        "the un-normalised leverage of each of the two, a number in [0, 1]",
        truth=lambda: _hat([[SECOND_MOMENT] * 2] * 2)[0],
        mistakes=(
            Mistake(
                lambda: _hat([[SECOND_MOMENT]])[0],
                "that is the unit's alone: the copy takes part of it over.",
            ),
            Mistake(
                lambda: _hat([[SECOND_MOMENT]])[0] / 2,
                "not quite half: together two copies are heard twice as loud as one, so they get more.",
            ),
            Mistake(
                lambda: _hat([[SECOND_MOMENT] * 2] * 2).sum(),
                "that is both together; it is shared between them.",
            ),
            Mistake(
                lambda: float(Spectrum.of(torch.full((2, 2), SECOND_MOMENT)).leverage(LAM)[0]),
                "that is normalised, so that the scores sum to 1; here they are to sum to N(λ).",
            ),
        ),
        hint="the block ((4, 4), (4, 4)) has one eigenvalue that is not zero; its eigenvector is (1, 1)/√2.",
    ),
)
