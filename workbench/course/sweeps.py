"""Accuracy against λ and against θ at several compression rates: the paper's Figures 1c and 1d.

Every prunable layer is compressed at the same rate with the paper's own selection and Â, without
fine-tuning. The width is given by the rate, not by λ: λ enters through the ridge τ = λ·m♯·τ'(λ) alone, in the
choice of the units and in Â (method.md §2 to §5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.course.tables import Table
from workbench.network.running import batch_length
from workbench.pruning.choice import DEFAULT_THETA
from workbench.pruning.problem import BUDGET_LAM, NotMeasuredError
from workbench.session.session import Session

WITHIN = 0.01  # a point of accuracy


@dataclass(frozen=True)
class Point:
    """One compressed network. `rate`: the share of every layer's units that went; `lam`: λ/Tr Σ."""

    rate: float
    lam: float
    theta: float
    score: float
    parameters: int
    macs: int


Known = Iterable[Point]
Found = Callable[[Point], Any]


@dataclass(frozen=True)
class Sweep:
    """Scores along λ or θ at several compression rates.

    Attributes:
        along: what varies, "lam" (λ/Tr Σ) or "theta" (θ).
        points: every rate at every value, rate by rate.
        unpruned: the score before.
        examples: how many the scores were measured on.
        told: how it was measured, by name.
    """

    along: str
    points: tuple[Point, ...]
    unpruned: float
    examples: int
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def rates(self) -> tuple[float, ...]:
        return tuple(dict.fromkeys(point.rate for point in self.points))

    @property
    def values(self) -> tuple[float, ...]:
        """Of λ/Tr Σ or θ, ascending."""
        return tuple(sorted({getattr(point, self.along) for point in self.points}))

    @property
    def scores(self) -> dict[float, list[float]]:
        """By rate, a score a value; NaN where there is none."""
        found = {(point.rate, getattr(point, self.along)): point.score for point in self.points}
        return {rate: [found.get((rate, value), math.nan) for value in self.values] for rate in self.rates}

    def best(self, rate: float) -> float:
        """The value with the best score at a rate, the least of equally good ones."""
        return self.values[int(np.nanargmax(self._at(rate)))]

    def as_good(self, rate: float, within: float = WITHIN) -> tuple[float, float]:
        """Between which values around its best a rate's score is as good, as far as few examples tell.

        Args:
            rate: one of `rates`.
            within: how much of the score may be lost against the best.

        Returns:
            The least and the largest value up to which, from the best one on, none loses more.

        Raises:
            ValueError: a rate that was not measured; the message lists those that were.
        """
        scores = self._at(rate)
        best = low = high = self.values.index(self.best(rate))
        least = scores[best] - within - 1e-12  # scores are counts over a count: the bound itself is in
        while low > 0 and scores[low - 1] >= least:
            low -= 1
        while high + 1 < len(scores) and scores[high + 1] >= least:
            high += 1
        return self.values[low], self.values[high]

    def _at(self, rate: float) -> list[float]:
        if rate not in self.rates:
            raise ValueError(f"the rate {rate} was not measured; these were: {self.rates}")
        return self.scores[rate]

    def table(self) -> str:
        """Rows of the scores in Markdown, the best of each rate in bold, then where it is as good."""
        name, form = {"lam": ("λ/Tr Σ", ".1e"), "theta": ("θ", ".3g")}[self.along]
        heads = [f"{100 * rate:.4g} % taken away" for rate in self.rates]
        rows = []
        for index, value in enumerate(self.values):
            cells = [
                f"**{scores[index]:.4f}**" if scores[index] == np.nanmax(scores) else f"{scores[index]:.4f}"
                for scores in self.scores.values()
            ]
            rows.append((f"{value:{form}}", *cells))
        ranges = [self.as_good(rate) for rate in self.rates]
        rows.append(("as good", *(f"{low:{form}} … {high:{form}}" for low, high in ranges)))
        return Table((name, *heads), tuple(rows)).to_markdown()


def widths_at(session: Session, rate: float) -> dict[str, int]:
    """Units that every prunable layer keeps where a share of them is taken away.

    Args:
        session: of the network.
        rate: the compression rate, in [0, 1).

    Returns:
        Widths by group name: m♯ = (1 − rate)·m rounded, at least 1.

    Raises:
        ValueError: a rate outside [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"a compression rate is the share of units taken away, in [0, 1); got {rate!r}")
    return {g.name: max(1, round((1 - rate) * g.width)) for g in session.groups if g.prunable}


def accuracy_against_lam(
    session: Session,
    rates: Sequence[float],
    lams: Sequence[float],
    theta: float = DEFAULT_THETA,
    known: Known = (),
    found: Found | None = None,
) -> Sweep:
    """The score of the compressed network at every rate and λ; nothing is committed.

    Args:
        session: measured, at its original, with evaluation data.
        rates: shares of every layer's units to take away, in (0, 1).
        lams: λ > 0, relative to each layer's trace.
        theta: weight of the input loss in the choice of units.
        known: points of an earlier run, which are not measured again.
        found: called with every point, those that were known too.

    Returns:
        The sweep.

    Raises:
        ValueError: a rate, λ or θ out of range, or a session without a score.
        NotMeasuredError: the session is not measured.

    Source:
        The paper's Figure 1c.
    """
    return _sweep(session, "lam", rates, [(lam, theta) for lam in lams], known, found)


def accuracy_against_theta(
    session: Session,
    rates: Sequence[float],
    thetas: Sequence[float],
    lam: float = BUDGET_LAM,
    known: Known = (),
    found: Found | None = None,
) -> Sweep:
    """The score of the compressed network at every rate and θ; nothing is committed.

    Args:
        session: as for `accuracy_against_lam`, as are `rates`, `known` and `found`.
        thetas: θ in [0, 1].
        lam: λ, relative to each layer's trace.

    Returns:
        The sweep.

    Raises:
        ValueError, NotMeasuredError: as for `accuracy_against_lam`.

    Source:
        The paper's Figure 1d.
    """
    return _sweep(session, "theta", rates, [(lam, theta) for theta in thetas], known, found)


def _sweep(
    session: Session,
    along: str,
    rates: Sequence[float],
    settings: Sequence[tuple[float, float]],
    known: Known,
    found: Found | None,
) -> Sweep:
    unpruned, examples = session.history[0].score, _scored_on(session)
    if unpruned is None:
        raise NotMeasuredError("nothing is measured yet: call session.measure() first")
    before = {(point.rate, point.lam, point.theta): point for point in known}
    points = []
    for rate in rates:
        for lam, theta in settings:
            point = before.get((rate, lam, theta)) or _point(session, rate, lam, theta)
            points.append(point)
            if found is not None:
                found(point)
    return Sweep(along, tuple(points), unpruned, examples)


def _point(session: Session, rate: float, lam: float, theta: float) -> Point:
    compared = session.compare(widths_at(session, rate), ["greedy"], ["channel"], theta=theta, lam=lam)
    (row,) = compared.rows
    return Point(rate, lam, theta, float(row.score or 0.0), row.parameters, row.macs)


def _scored_on(session: Session) -> int:
    """How many examples the score is taken on."""
    data = session.evaluation
    if not isinstance(data, Iterable):
        raise ValueError("a sweep compares scores on batches of (inputs, targets): give the session some")
    return sum(batch_length(inputs) for inputs, _ in data)
