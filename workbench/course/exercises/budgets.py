"""Notebook 07: budgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from workbench.course.duelling import SHARE, OverBudgetError, complete_widths, duel
from workbench.course.exercise import Exercise, Mistake, UnfitError
from workbench.course.networks import example
from workbench.session.session import Session

CHAIN = (3, 64, 64, 64, 64)  # channels of 07.1: the image's, then those of four convolutions
OFFERS = {  # of 07.3: relative output loss before and after one more unit goes, MACs that it saves
    "a": (0.020, 0.030, 1000),
    "b": (0.500, 0.515, 2000),
    "c": (0.010, 0.050, 3000),
    "d": (0.030, 0.034, 200),
}
OVER = "these widths are over the budget. Cut first where many MACs hang on a unit."
EQUAL = "every layer keeps the same share of its units: that is the equal rule itself. Take sides."
SINGLE = "a layer of one unit lets a single number a position through, and nothing behind it helps."
UNSPENT = "less than nine tenths of the budget is spent: somewhere there is room for more units."
SPENT = 0.9  # of the budget

Shares = Callable[[Sequence[Any], float], list[int]]


def _left(channels: Sequence[int]) -> int:
    """Weights of a chain, to which its MACs are proportional where all maps have one size."""
    return sum(a * b for a, b in pairwise(channels))


def _halved() -> float:
    return _left([CHAIN[0], *(width // 2 for width in CHAIN[1:])]) / _left(CHAIN)


def _probes() -> list[tuple[list[np.ndarray], float]]:
    spectra = [5.0 * 0.6 ** np.arange(12), np.r_[np.full(4, 3.0), np.full(9, 0.02)], np.full(7, 0.5)]
    return [(spectra, 0.02), (spectra[:2], 1e-3)]


def _widths(rounded: Callable[[float], float], scale: Callable[[np.ndarray], float]) -> Callable[[], Shares]:
    """How to make a solution of 07.2 that rounds so, with λ as a share of such a scale."""

    def freedom(mu: np.ndarray, lam: float) -> float:
        return float((mu / (mu + lam)).sum())

    return lambda: (
        lambda spectra, share: [
            int(rounded(freedom(np.asarray(mu), share * scale(np.asarray(mu))))) for mu in spectra
        ]
    )


def _trace(mu: np.ndarray) -> float:
    return float(mu.sum())


def _decay(name: str) -> float:
    before, after, _ = OFFERS[name]
    return math.log1p(-before) - math.log1p(-after)


def _session() -> Session:
    return example("digits-cnn", say=False)


def _plan(rule: str) -> dict[str, int]:
    return _session().plan(int(SHARE * _session().macs), rule=rule).widths


def _best_rule() -> dict[str, int]:
    """The widths of the rule that scores best: one of the right answers to 07.4."""
    found = duel(_session(), _plan("equal"))
    return max(found.contenders, key=lambda one: one.score).widths


def _one_unit_in(name: str) -> dict[str, int]:
    """Widths that keep the budget, with a single unit in one group and the rest of it spent elsewhere."""
    return _session().plan(int(SHARE * _session().macs), rule="equal", locks={name: 1}).widths


def _all_of_one_share(widths: Mapping[str, int], wholes: Mapping[str, int]) -> bool:
    """Whether one share of every width gives these, up to one unit each."""
    least = max((width - 1) / wholes[name] for name, width in widths.items())
    most = min((width + 1) / wholes[name] for name, width in widths.items())
    return least <= most


def judge(answer: Any) -> str | None:
    """What is wrong with widths for the duel of 07.4; None where they beat the equal ones.

    Args:
        answer: units by group's name, or a plan.

    Returns:
        A hint, or None.

    Raises:
        UnfitError: no widths of this network's groups.
    """
    session = _session()
    try:
        widths = complete_widths(session, getattr(answer, "widths", answer))
    except ValueError as error:
        raise UnfitError(str(error)) from None
    return _hint(tuple(widths.items()))


@cache
def _hint(items: tuple[tuple[str, int], ...]) -> str | None:
    session, widths = _session(), dict(items)
    try:
        found = duel(session, widths)
    except OverBudgetError:
        return OVER
    if found.beats("equal"):
        return None
    if 1 in widths.values():
        return SINGLE
    if found["yours"].macs < SPENT * found.budget:
        return UNSPENT
    wholes = {group.name: group.width for group in session.groups}
    if _all_of_one_share(widths, wholes):
        return EQUAL
    return (
        "the budget is kept, but equal widths do as well or better. Which layer hurts most when it is thin?"
    )


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        "07.1",
        "the share of the MACs that is left, a number between 0 and 1",
        truth=_halved,
        mistakes=(
            Mistake(
                lambda: 0.5,
                "half of the units go, but a weight has two sides: outputs and inputs.",
            ),
            Mistake(
                lambda: 0.25,
                "nearly: the image keeps its colours, so the first layer is not quartered.",
            ),
            Mistake(
                lambda: 1 - _halved(),
                "that is the share that is saved; asked for is what is left.",
            ),
            Mistake(
                lambda: 0.25 ** (len(CHAIN) - 1),
                "the layers' MACs add up; their shares do not multiply.",
            ),
            Mistake(
                lambda: _left([*CHAIN[:1], *(width // 2 for width in CHAIN[1:-1]), CHAIN[-1]]) / _left(CHAIN),
                "the last convolution is halved, too.",
            ),
        ),
        hint="at the same map size MACs are as the weights: inputs times outputs, summed over the layers.",
    ),
    Exercise(
        "07.2",
        "⌈N(λ)⌉ of every spectrum, a function of the spectra and of λ as a share of each trace",
        truth=_widths(math.ceil, _trace),
        mistakes=(
            Mistake(
                _widths(math.ceil, lambda mu: 1.0),
                "λ was taken as absolute: layers have very different scales, so it is a share of each trace.",
            ),
            Mistake(
                _widths(math.floor, _trace),
                "rounded down: N(λ) is what a layer needs at this λ, so it gets the next whole number above.",
            ),
            Mistake(
                _widths(round, _trace),
                "rounded to the nearest: N(λ) is what a layer needs, so it gets the next whole number above.",
            ),
            Mistake(
                _widths(math.ceil, lambda mu: float(mu.max())),
                "λ was taken as a share of the largest eigenvalue; the trace is the sum of all.",
            ),
        ),
        hint="for every spectrum: λ = share · its trace, N(λ) = the sum of μ/(μ+λ), rounded up.",
        probes=_probes,
    ),
    Exercise(
        "07.3",
        "the layer's letter, in quotes",
        truth=lambda: min(OFFERS, key=lambda name: _decay(name) / OFFERS[name][2]),
        mistakes=(
            Mistake(
                lambda: min(OFFERS, key=lambda name: (OFFERS[name][1] - OFFERS[name][0]) / OFFERS[name][2]),
                "the differences of r were divided: where half is lost already, a little more of r takes a "
                "larger share of what is left.",
            ),
            Mistake(
                lambda: max(OFFERS, key=lambda name: OFFERS[name][2]),
                "it saves most, but look what it loses for it.",
            ),
            Mistake(
                lambda: min(OFFERS, key=_decay),
                "it loses least, but look how little it saves for it.",
            ),
        ),
        hint="divide the rise of −ln(1 − r) by the MACs saved; the smallest quotient goes first.",
    ),
    Exercise(
        "07.4",
        "widths by group that keep the budget and score over equal widths",
        truth=_best_rule,
        mistakes=(
            Mistake(
                lambda: {group.name: group.width // 2 for group in _session().groups if group.prunable},
                OVER,
            ),
            Mistake(lambda: _plan("equal"), EQUAL),
            Mistake(lambda: _one_unit_in("conv1"), SINGLE),
            Mistake(
                lambda: {group.name: group.width // 8 for group in _session().groups if group.prunable},
                UNSPENT,
            ),
        ),
        hint="look at the sensitivity map, and at how many MACs a unit of each layer costs.",
        judge=judge,
    ),
)
