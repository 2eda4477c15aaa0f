"""Notebook 04: guarantees."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from workbench.course.exercise import Exercise, Mistake
from workbench.course.networks import example
from workbench.pruning.theory_sweeps import BiasVariance

EQUAL, LEVEL, LAM = 25, 2.0, 8.0  # of 04.1: k equal eigenvalues μ, the rest zero, and λ
PLANTED_UNITS, SAMPLED, PLANTED_DRAWS, SEED = 7, 6, 200, 3  # of 04.2
LOCALS, NORMS = (0.5, 0.2, 0.1), (4.0, 3.0, 2.0)  # of 04.3, from the input to the output
SAMPLES = 30_000  # training examples, of 04.4
DECAY, GROWTH = 0.5, 1000.0  # of 04.5: N(λ) = λ^−DECAY, and n times so many

Share = Callable[[np.ndarray, np.ndarray, float, float, np.ndarray], float]


def _guaranteed(freedom: float) -> int:
    return math.ceil(5 * freedom * math.log(80 * freedom))


def _freedom() -> float:
    return EQUAL * LEVEL / (LEVEL + LAM)


def _share(
    size: Callable[[np.ndarray], float] = lambda loss: np.linalg.eigvalsh(loss)[-1],
    ridge: Callable[[float, int, np.ndarray, np.ndarray], np.ndarray] = lambda lam, width, scores, times: (
        lam * width * scores / times
    ),
) -> Share:
    """The experiment of 04.2: how often λ_max(C_J) is within a bound, or what a slip makes of it."""

    def share(sigma: np.ndarray, scores: np.ndarray, lam: float, bound: float, draws: np.ndarray) -> float:
        within = []
        for sampled in draws:
            units, times = np.unique(sampled, return_counts=True)
            tau = ridge(lam, len(sampled), scores[units], times)
            cross = sigma[:, units]  # (m, k)
            loss = sigma - cross @ np.linalg.solve(cross[units] + np.diag(tau), cross.T)  # C_J (m, m)
            within.append(size(loss) <= bound)
        return float(np.mean(within))

    return share


def _probes() -> list[tuple[np.ndarray, np.ndarray, float, float, np.ndarray]]:
    rng, found = np.random.default_rng(SEED), []
    for share, allowed in ((0.02, 4.0), (0.05, 2.0), (0.1, 1.2)):
        phi = np.maximum(rng.normal(0.3, 1, (100, PLANTED_UNITS)) @ rng.normal(0, 1, (PLANTED_UNITS,) * 2), 0)
        sigma = phi.T @ phi / len(phi)
        lam = share * float(np.trace(sigma))
        leverage = np.diag(sigma @ np.linalg.inv(sigma + lam * np.eye(PLANTED_UNITS)))
        scores = leverage / leverage.sum()
        draws = rng.choice(PLANTED_UNITS, (PLANTED_DRAWS, SAMPLED), p=scores)
        found.append((sigma, scores, lam, allowed * lam, draws))
    return found


def _propagated(norms: tuple[float, ...]) -> float:
    """Each local error times the product of the norms after it in `norms`, which starts at its own layer."""
    return sum(local * math.prod(norms[layer + 1 :]) for layer, local in enumerate(LOCALS))


def _curves(samples: int | None = SAMPLES) -> BiasVariance:
    return example("nn3-mnist", say=False).bias_variance(samples=samples)


def _at_crossing() -> float:
    curves = _curves()
    return float(curves.lams[np.abs(np.log(curves.bias / curves.variance)).argmin()])


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        "04.1",
        "a number of units",
        truth=lambda: _guaranteed(_freedom()),
        mistakes=(
            Mistake(
                lambda: math.ceil(5 * _freedom() * math.log10(80 * _freedom())),
                "that is with the logarithm to base 10; log is the natural one.",
            ),
            Mistake(
                lambda: math.ceil(5 * _freedom() * math.log(_freedom())),
                "the 80 inside the logarithm is missing.",
            ),
            Mistake(
                lambda: _guaranteed(EQUAL),
                "the eigenvalues that are not zero were counted; each counts only by its share μ/(μ+λ).",
            ),
            Mistake(
                lambda: _guaranteed(EQUAL * LAM / (LEVEL + LAM)),
                "the share of a direction is μ/(μ+λ), and λ/(μ+λ) is what is lost of it.",
            ),
            Mistake(
                _freedom,
                "that is N(λ), the dimension; the width that carries the guarantee is asked for.",
            ),
        ),
        hint="first N(λ) = k·μ/(μ+λ), then 5 N log(80 N), rounded up to whole units.",
    ),
    Exercise(
        "04.2",
        "a share of draws, a function of Σ, the leverage scores, λ, the bound and the sampled units",
        truth=_share,
        mistakes=(
            Mistake(
                lambda: _share(size=lambda loss: float(np.trace(loss))),
                "the trace adds up all directions; the theorem bounds the largest eigenvalue.",
            ),
            Mistake(
                lambda: _share(ridge=lambda lam, width, scores, times: lam * width * scores),
                "a unit that was sampled several times must have its ridge divided by how often.",
            ),
            Mistake(
                lambda: _share(ridge=lambda lam, width, scores, times: np.full(len(scores), lam)),
                "λ itself was added to the diagonal; the ridge of unit j is λ·m♯·τ'_j, divided by c_j.",
            ),
            Mistake(
                lambda: _share(ridge=lambda lam, width, scores, times: lam * len(scores) * scores / times),
                "m♯ is the number of units sampled, repeats counted, not the number of distinct ones.",
            ),
        ),
        hint="for every row: the distinct units and their c_j, τ, C_J, its largest eigenvalue; then the "
        "share of rows where it is at most the bound.",
        probes=_probes,
    ),
    Exercise(
        "04.3",
        "a root mean square at the output",
        truth=lambda: _propagated(NORMS),
        mistakes=(
            Mistake(
                lambda: _propagated((1.0, *NORMS)),
                "a layer's own norm was counted: its local error is measured behind it already.",
            ),
            Mistake(
                lambda: sum(LOCALS),
                "the local errors were only added up: what lies above each can stretch it.",
            ),
            Mistake(
                lambda: sum(local * math.prod(NORMS[:layer]) for layer, local in enumerate(LOCALS)),
                "the norms below each layer were taken; an error runs upwards, through those above it.",
            ),
            Mistake(
                lambda: math.hypot(
                    *(local * math.prod(NORMS[layer + 1 :]) for layer, local in enumerate(LOCALS))
                ),
                "added as a root of squares: that is right for uncorrelated errors, and these may all agree.",
            ),
            Mistake(
                lambda: LOCALS[0] * math.prod(NORMS[1:]),
                "that is the first layer's part alone; every layer adds its own.",
            ),
        ),
        hint="from the input upwards: the error so far times the next norm, plus the next local error.",
    ),
    Exercise(
        "04.4",
        "λ as a share of the trace, one of those swept",
        truth=lambda: _curves().best,
        mistakes=(
            Mistake(
                lambda: _curves(None).best,
                "that is for n = the calibration data's, which is the default; give `samples`.",
            ),
            Mistake(
                lambda: float(_curves().lams[_curves().bias.argmin()]),
                "there the bias alone is least; the sum with the variance is meant.",
            ),
            Mistake(
                lambda: float(_curves().total.min()),
                "that is the least sum itself; the λ at which it is found is asked for.",
            ),
            Mistake(
                lambda: float(_curves().lams[_curves().variance.argmin()]),
                "there the variance alone is least; the sum with the bias is meant.",
            ),
            Mistake(
                _at_crossing,
                "there the two curves cross; the sum is least where their slopes cancel, which is elsewhere.",
            ),
        ),
        hint="`bias_variance(samples=…)` has `lams`, `bias` and `variance`: where is the sum least?",
    ),
    Exercise(
        "04.5",
        "a factor",
        truth=lambda: GROWTH ** (1 / (1 + DECAY)),
        mistakes=(
            Mistake(
                lambda: GROWTH,
                "δ₂² falls with 1/n, and λ does so only if N did not change; it grows as λ falls.",
            ),
            Mistake(
                lambda: GROWTH**0.5,
                "that is by how much δ₂ falls at a fixed λ; the best λ moves until both parts agree again.",
            ),
            Mistake(
                lambda: GROWTH ** (1 / (2 + DECAY)),
                "the bias is the square root of λ, not λ.",
            ),
            Mistake(
                lambda: GROWTH ** (-1 / (1 + DECAY)),
                "that is what the new λ is of the old one; by which factor does it fall?",
            ),
        ),
        hint="set λ^(1/2) equal to (N(λ)/n)^(1/2), up to constants, and solve for λ as a power of n.",
    ),
)
