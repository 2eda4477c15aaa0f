"""Widths of the least damage within a cost **[beyond the paper]**: a Lagrangian, and a search from it.

    minimise  Σ_g D_g(w_g)   subject to   cost(w) = k + b·w + wᵀQw ≤ target,   w_g among the allowed widths.

A layer costs (rows left)·(columns left), so the cost is a quadratic form of the widths (`quadratic`): what a
group's unit costs depends on its neighbours' widths, and taking units away one at a time, the cheapest first,
decides before it knows them.

1. *Descent*: for a price η, each group in turn takes the width that is least of D_g(w) + η·cost with all
   others as they are, until none moves. η is bisected between the smallest that meets the target and the
   largest that does not, each from where the last one ended.
2. *Search* from the nearest within the target, from equal shares, and from what `least_loss_widths` gives:
   the single step, or the pair of steps, one group up and another down, that lowers ΣD most, while there is
   one. Steps go to the next 1, 2 and 4 allowed widths; in small problems to all of them, up to three at once.
3. *Filling*: what still fits, the largest gain for its cost first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.network.cost_model import Total
from workbench.pruning.least_loss import give_back, least_loss_widths

PRICES = 14  # bisections of η
SWEEPS = 12  # over all groups at one price
SMALL = 60  # allowed widths in all, up to which all steps are tried, three at a time too
ROUNDS = 60  # pairs of steps that are taken
REACH = (1, 2, 4)  # allowed widths up and down, in a large problem


def quadratic(cost: Total, open_: Sequence[bool]) -> tuple[float, np.ndarray, np.ndarray]:
    """k, b (G,) and Q (G, G), symmetric, with cost(w) = k + b·w + wᵀQw.

    Where readers get a bias with their first lost column, that counts from the start for those of groups that
    are `open_`, (G,): the form is then at most a layer's biases above the cost.
    """
    count = len(cost.model.groups)
    whole = np.array(cost.model.widths, dtype=np.float64)
    constant, linear, square = 0.0, np.zeros(count), np.zeros((count, count))
    for (term, product, each), bias in zip(cost.terms, cost.new_bias, strict=True):
        rows, columns = np.zeros(count), np.zeros(count)
        for group, units in term.lost_rows:
            rows[group] += units
        for group, units in term.lost_columns:
            columns[group] += units
        if cost.biased and any(open_[group] for group, _ in term.lost_columns):
            each += bias
        first, second = term.rows - float(rows @ whole), term.columns - float(columns @ whole)
        constant += float(product * first * second + each * first)
        linear += product * (first * columns + second * rows) + each * rows
        square += 0.5 * product * (np.outer(rows, columns) + np.outer(columns, rows))
    fixed = cost.total(list(cost.model.widths)) - sum(
        cost.of_term(i, cost.model.widths) for i in range(len(cost.terms))
    )
    return constant + fixed, linear, square


class _Problem:
    """Damage at the allowed widths, and the cost as a quadratic form; widths are places among the allowed."""

    def __init__(self, curves: Sequence[np.ndarray], allowed: list[list[int]], cost: Total, target: float):
        self.lengths = np.array([len(one) for one in allowed])
        # (G, the longest): what is beyond a group's own widths is never asked for
        self.widths, self.damage = np.zeros((2, len(allowed), max(map(len, allowed), default=0)))
        for group, (curve, one) in enumerate(zip(curves, allowed, strict=True)):
            self.widths[group, : len(one)], self.damage[group, : len(one)] = one, np.asarray(curve)[one]
        wholes = cost.model.widths
        self.constant, self.linear, self.square = quadratic(
            cost, [one[0] < m for one, m in zip(allowed, wholes, strict=True)]
        )
        self.target = target
        self.moves = self._moves()

    @property
    def is_small(self) -> bool:
        """Whether all allowed widths can be tried in pairs."""
        return int((self.lengths - 1).sum()) <= SMALL

    def _moves(self) -> tuple[np.ndarray, np.ndarray]:
        """Groups and steps among the allowed widths, (M,) each."""
        groups, steps = [], []
        for group, length in enumerate(self.lengths):
            reach = range(1, length) if self.is_small else [r for r in REACH if r < length]
            for step in reach:
                groups += [group, group]
                steps += [step, -step]
        return np.array(groups, dtype=np.int64), np.array(steps, dtype=np.int64)

    def at(self, places: np.ndarray) -> np.ndarray:
        return self.widths[np.arange(len(places)), places]

    def cost(self, places: np.ndarray) -> float:
        w = self.at(places)
        return float(self.constant + self.linear @ w + w @ self.square @ w)

    def total(self, places: np.ndarray) -> float:
        return float(self.damage[np.arange(len(places)), places].sum())

    def descended(self, price: float, places: np.ndarray) -> np.ndarray:
        """From `places`: each group in turn to its best width at this price, until none moves."""
        places, w = places.copy(), self.at(places)
        slope = self.linear + 2 * self.square @ w
        own = np.diag(self.square)
        for _ in range(SWEEPS):
            moved = False
            for group, length in enumerate(self.lengths):
                widths = self.widths[group, :length]
                # d cost = (a − w)(b + 2(Qw)) + (a − w)²Q_gg
                change = widths - w[group]
                value = self.damage[group, :length] + price * change * (slope[group] + own[group] * change)
                best = int(value.argmin())
                if best != places[group] and value[best] < value[places[group]] - 1e-15:
                    slope += 2 * self.square[:, group] * change[best]
                    places[group], w[group], moved = best, widths[best], True
            if not moved:
                break
        return places

    def searched(self, places: np.ndarray) -> np.ndarray:
        """From `places` within the target: the steps that lower the damage most, again and again."""
        for _ in range(ROUNDS):
            found, _ = self._stepped(places)
            if found is None and self.is_small:
                found = self._stepped_thrice(places)
            if found is None:
                break
            places = found
        return places

    def _stepped(self, places: np.ndarray, most: float = -1e-12) -> tuple[np.ndarray | None, float]:
        """After the one or two moves that change the damage by least and less than `most`; and by how much.

        `places` may lie above the target: then the moves lead below it.
        """
        groups, steps = self.moves
        goal = places[groups] + steps
        valid = (goal >= 0) & (goal < self.lengths[groups])
        g, to = groups[valid], goal[valid]
        w, own = self.widths[np.arange(len(places)), places], np.diag(self.square)
        room = (self.target - self.cost(places)) + 1e-12 * abs(self.target)
        change = self.widths[g, to] - w[g]
        gain = self.damage[g, to] - self.damage[g, places[g]]
        # d cost = (a − w)(b + 2(Qw)) + (a − w)²Q_gg
        extra = change * ((self.linear + 2 * self.square @ w)[g] + own[g] * change)
        taken, least = self._best(g, change, gain, extra, room, most)
        if taken is None:
            return None, least
        places = places.copy()
        for i in taken:
            places[g[i]] = to[i]
        return places, least

    def _best(
        self, g: np.ndarray, change: np.ndarray, gain: np.ndarray, extra: np.ndarray, room: float, most: float
    ) -> tuple[tuple[int, ...] | None, float]:
        """Which of these moves to take, one or two, and what that changes; None: nothing is below `most`."""
        least = most
        if not len(g):
            return None, least
        single = np.where(extra <= room, gain, np.inf)
        taken: tuple[int, ...] | None = None
        if single.min() < least:
            least, taken = float(single.min()), (int(single.argmin()),)
        down = np.flatnonzero(change < 0)
        others = np.arange(len(g)) if self.is_small else np.flatnonzero(change > 0)
        if len(others) and len(down):
            both = gain[others][:, None] + gain[down][None, :]
            # 2 δ_g Q_gh δ_h, where both move
            cross = 2 * self.square[g[others]][:, g[down]] * change[others][:, None] * change[down][None, :]
            fits = extra[others][:, None] + extra[down][None, :] + cross <= room
            both = np.where(fits & (g[others][:, None] != g[down][None, :]), both, np.inf)
            place = int(both.argmin())
            if both.flat[place] < least:
                i, j = divmod(place, len(down))
                least, taken = float(both.flat[place]), (int(others[i]), int(down[j]))
        return taken, least

    def _stepped_thrice(self, places: np.ndarray) -> np.ndarray | None:
        """After the three moves that lower the damage most; None where nothing does."""
        least, found = -1e-12, None
        for group, step in zip(*self.moves, strict=True):
            if not 0 <= places[group] + step < self.lengths[group]:
                continue
            first = places.copy()
            first[group] += step
            rise = float(self.damage[group, first[group]] - self.damage[group, places[group]])
            after, lower = self._stepped(first, least - rise)
            if after is not None:
                least, found = rise + lower, after
        return found


def least_damage_widths(
    curves: Sequence[np.ndarray], allowed: list[list[int]], cost: Total, target: float
) -> list[int]:
    """The widths (see above).

    Args:
        curves: D of every group, (m_g + 1,) each.
        allowed: widths that each group may have, ascending.
        cost: of the network at any widths.
        target: what it may cost; one below the cost of the smallest widths gives those.

    Returns:
        A width a group.
    """
    if not allowed:
        return []
    problem = _Problem(curves, allowed, cost, target)
    smallest = np.zeros(len(allowed), dtype=np.int64)
    starts = [*_priced(problem), _equal(problem), _greedy(curves, allowed, cost, target)]
    starts = [place for place in _distinct(starts) if problem.cost(place) <= target]
    best = min((problem.searched(place) for place in starts or [smallest]), key=problem.total)
    at = [int(place) for place in best]
    widths = [choices[place] for choices, place in zip(allowed, at, strict=True)]
    give_back(list(problem.damage), allowed, at, widths, cost, target)
    return widths


def _priced(problem: _Problem) -> list[np.ndarray]:
    """What the descent ends in at prices on both sides of the target, the nearest last."""
    full = problem.lengths - 1
    scale = max(problem.cost(full), 1e-300)
    low, high, places, found = 1e-9 / scale, 1e6 / scale, full, []
    for _ in range(PRICES):
        price = (low * high) ** 0.5
        places = problem.descended(price, places)
        if problem.cost(places) <= problem.target:
            high = price
            found.append(places)
        else:
            low = price
    found.append(problem.descended(high, np.zeros_like(full)))
    return found if problem.is_small else found[-3:]


def _greedy(curves: Sequence[np.ndarray], allowed: list[list[int]], cost: Total, target: float) -> np.ndarray:
    found = least_loss_widths(curves, allowed, cost, target)
    return np.array([choices.index(width) for choices, width in zip(allowed, found, strict=True)])


def _equal(problem: _Problem) -> np.ndarray:
    """The largest equal share within the target."""
    low, high, found = 0.0, 1.0, np.zeros(len(problem.widths), dtype=np.int64)
    for _ in range(12):
        share = (low + high) / 2
        own = [one[:length] for one, length in zip(problem.widths, problem.lengths, strict=True)]
        places = np.array([max(int((one <= share * one[-1] + 1e-9).sum()) - 1, 0) for one in own])
        if problem.cost(places) <= problem.target:
            low, found = share, places
        else:
            high = share
    return found


def _distinct(places: list[np.ndarray]) -> list[np.ndarray]:
    return list({tuple(one): one for one in places}.values())
