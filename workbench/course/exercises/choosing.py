"""Notebook 03: choosing units, and rebuilding what they lose."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from workbench.course.exercise import Exercise, Mistake
from workbench.course.networks import example
from workbench.spectral.greedy import greedy_path
from workbench.spectral.reconstruction import reconstruction_matrix

SOURCES = np.array([4.0, 1.0, 0.25])  # mean squares of three uncorrelated sources
UNITS = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]], dtype=float)  # (6, 3)
READER = np.array([[0.0, 1.0, 0.0, 4.0, 0.0, 0.0]])  # of 03.2
LAYER, WANTED, WIDTHS = "conv2", 0.98, (4, 8, 12, 16, 24, 32, 48)  # of 03.4


def six_units() -> torch.Tensor:
    """Σ (6, 6) of the six units that the notebook chooses among by hand: three sources, mixed."""
    return torch.from_numpy(UNITS @ np.diag(SOURCES) @ UNITS.T)


def _left_by(unit: int) -> float:
    sigma = six_units().numpy()
    return float(np.trace(sigma) - (sigma[unit] ** 2).sum() / sigma[unit, unit])


def _two(theta: float) -> set[int]:
    path = greedy_path(six_units(), torch.from_numpy(READER), torch.zeros(6).double(), theta=theta, width=2)
    return {int(unit) for unit in path.order}


def _probes() -> list[tuple]:
    rng = np.random.default_rng(5)
    cases = []
    for m, kept in ((5, [0, 3]), (7, [6, 1, 2])):
        samples = rng.normal(size=(30, m)) @ rng.normal(size=(m, m))
        cases.append((samples.T @ samples / 30, kept, rng.uniform(0.1, 1.0, m)))
    return cases


def _rebuilt(sigma: np.ndarray, kept: list[int], tau: np.ndarray) -> np.ndarray:
    return reconstruction_matrix(torch.from_numpy(sigma), kept, torch.from_numpy(tau)).numpy()


def _without_ridge(sigma: np.ndarray, kept: list[int], tau: np.ndarray) -> np.ndarray:
    return sigma[:, kept] @ np.linalg.inv(sigma[np.ix_(kept, kept)])


def _ridge_of_the_first(sigma: np.ndarray, kept: list[int], tau: np.ndarray) -> np.ndarray:
    return sigma[:, kept] @ np.linalg.inv(sigma[np.ix_(kept, kept)] + np.diag(tau[: len(kept)]))


def _transposed(sigma: np.ndarray, kept: list[int], tau: np.ndarray) -> np.ndarray:
    return _rebuilt(sigma, kept, tau).T


@cache
def _narrowest(selection: str, reconstruction: str) -> int:
    """The smallest of the widths at which the score is as wanted."""
    session = example("digits-cnn", say=False)
    for width in WIDTHS:
        choice = session.preview(LAYER, width=width, selection=selection, reconstruction=reconstruction)
        if (session.try_choice(choice) or 0.0) >= WANTED:
            return width
    return session.group(LAYER).width


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        "03.1",
        "the input loss when unit 2 alone is kept, without a ridge, absolute",
        truth=lambda: _left_by(2),
        mistakes=(
            Mistake(
                lambda: float(np.trace(six_units().numpy())) - _left_by(2),
                "this is what unit 2 explains, the gain; the loss is what is left of the trace.",
            ),
            Mistake(
                lambda: float(np.trace(six_units().numpy()) - six_units()[2, 2]),
                "only the unit's own mean square was taken off: it says something of 0, 1 and 4 as well.",
            ),
            Mistake(
                lambda: float(np.trace(six_units().numpy()) - (six_units()[2] ** 2).sum()),
                "the gain of a unit is the sum of its squared row, divided by its own mean square.",
            ),
            Mistake(
                lambda: _left_by(2) / float(np.trace(six_units().numpy())),
                "this is the relative loss; asked for is the absolute one, in the units of Σ.",
            ),
        ),
        hint="Tr Σ minus the gain ‖Σ_j‖²/Σ_jj of j = 2, with Σ_j its row.",
    ),
    Exercise(
        "03.2",
        "the two units that greedy choice keeps for this reader at θ = 0, as a set of indices",
        truth=lambda: _two(0.0),
        mistakes=(
            Mistake(lambda: _two(1.0), "these are the units for the input loss (θ = 1)."),
            Mistake(
                lambda: {int(unit) for unit in six_units().diagonal().topk(2).indices},
                "these are the two most active units; the reader does not ask for them.",
            ),
            Mistake(
                lambda: {3, 2},
                "unit 2 says something of unit 1, but most of unit 2 is unit 0, which nobody reads: "
                "its gain is divided by its mean square.",
            ),
        ),
        hint="compute the gain (zΣ)_j²/Σ_jj for each unit, take the largest, and go on with what is left.",
    ),
    Exercise(
        "03.3",
        "Â_J, (m, k), a function of Σ (m, m), the kept indices (k) and τ (m)",
        truth=lambda: _rebuilt,
        mistakes=(
            Mistake(lambda: _without_ridge, "the ridge is missing: Σ_JJ + diag(τ_J) is inverted."),
            Mistake(
                lambda: _ridge_of_the_first,
                "τ is of all m units: those of the kept ones are τ[kept], not its first entries.",
            ),
            Mistake(
                lambda: _transposed, "the shape is (k, m): Â maps the k kept units to all m, so it is (m, k)."
            ),
        ),
        hint="Â_J = Σ_FJ (Σ_JJ + diag(τ_J))⁻¹: rows are all units, columns the kept ones.",
        probes=_probes,
    ),
    Exercise(
        "03.4",
        f"the smallest width of {LAYER} with a score of at least {WANTED}, greedy with Â, a number of units",
        truth=lambda: _narrowest("greedy", "channel"),
        mistakes=(
            Mistake(
                lambda: _narrowest("greedy", "none"),
                "this is the width without reconstruction; `reconstruction='channel'` folds them in.",
            ),
            Mistake(
                lambda: _narrowest("random", "channel"),
                "this is the width for units kept at random: `selection='greedy'`.",
            ),
            Mistake(
                lambda: WIDTHS[WIDTHS.index(_narrowest("greedy", "channel")) - 1],
                "here the score is not enough yet: the next width of the list is.",
            ),
        ),
        hint="try each width with digits.try_choice(digits.preview(...)): the first that is enough.",
    ),
)
