"""Notebook 02: degrees of freedom."""

from __future__ import annotations

import numpy as np

from workbench.course.exercise import Exercise, Mistake


def _probes() -> list[tuple[np.ndarray, float]]:
    return [(np.array([3.0, 1.0, 0.1]), 0.5), (np.array([7.0, 2.0, 0.4, 0.0]), 0.05)]


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
        ),
        hint="sum over all eigenvalues the share μ/(μ+λ), a number between 0 and 1 each.",
        probes=_probes,
    ),
)
