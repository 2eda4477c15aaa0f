"""Widths of the least damage: against all plans, on problems where all can be tried."""

import itertools
from time import process_time

import numpy as np
import pytest

from workbench.network.cost_model import CostModel, Term, Total, spread
from workbench.pruning.least_damage import least_damage_widths, quadratic
from workbench.pruning.least_loss import least_loss_widths


def term(rng, name, rows, columns, row_group=None, column_group=None):
    macs = int(rows * columns * rng.integers(1, 20))
    lost_rows = () if row_group is None else ((int(row_group), 1),)
    lost_columns = () if column_group is None else ((int(column_group), 1),)
    return Term(name, rows, columns, rows * columns, macs, 1, lost_rows, lost_columns, int(rng.integers(2)))


def problem(rng, groups, most, unit="macs", biased=False):
    """A chain of layers, sometimes with one across or one from a group to itself; damages of every shape."""
    sizes = [int(rng.integers(2, most + 1)) for _ in range(groups)]
    terms = [term(rng, "first", sizes[0], 3, 0), term(rng, "last", 5, sizes[-1], None, groups - 1)]
    terms += [term(rng, f"{a}", sizes[a + 1], sizes[a], a + 1, a) for a in range(groups - 1)]
    if groups > 2 and rng.random() < 0.5:
        a, b = rng.choice(groups, 2, replace=False)
        terms.append(term(rng, "across", sizes[a], sizes[b], a, b))
    if rng.random() < 0.3:
        a = rng.integers(groups)
        terms.append(term(rng, "itself", sizes[a], sizes[a], a, a))
    parameters = sum(one.parameters + one.biases * one.rows for one in terms) + 100
    macs = sum(one.macs for one in terms) + 100
    model = CostModel(tuple(map(str, range(groups))), tuple(sizes), parameters, macs, tuple(terms))
    if unit == "macs":
        cost = Total(model, macs, lambda one: (spread(one, one.macs), 0.0))
    else:
        cost = Total(model, parameters, lambda one: (spread(one, one.parameters), one.biases), biased)
    curves = []
    for m in sizes:
        rises = rng.exponential(size=m) * rng.choice([0.01, 0.1, 1])
        rises = np.sort(rises) if rng.random() < 0.5 else rises
        curves.append(np.concatenate([np.cumsum(rises)[::-1], [0.0]]))
    return curves, [list(range(1, m + 1)) for m in sizes], cost


def sum_at(curves, widths):
    return sum(curve[w] for curve, w in zip(curves, widths, strict=True))


def between(rng, allowed, cost):
    low, high = cost.total([one[0] for one in allowed]), cost.total([one[-1] for one in allowed])
    return low + (high - low) * rng.uniform(0.05, 0.95)


def test_it_is_the_best_of_all_plans():
    rng, better = np.random.default_rng(0), 0
    for number in range(200):
        curves, allowed, cost = problem(rng, int(rng.integers(2, 6)), 6)
        if number % 3 == 0:  # a lock, a least width, a multiple
            allowed[0] = allowed[0][-1:]
            allowed[1] = allowed[1][1::2] or allowed[1]
        target = between(rng, allowed, cost)
        found = least_damage_widths(curves, allowed, cost, target)
        fitting = (w for w in itertools.product(*allowed) if cost.total(w) <= target)
        best = min(sum_at(curves, w) for w in fitting)
        assert cost.total(found) <= target
        assert sum_at(curves, found) == pytest.approx(best, abs=1e-9)
        better += sum_at(curves, least_loss_widths(curves, allowed, cost, target)) > best + 1e-9
    assert better > 10  # one unit at a time, the cheapest first, is not


@pytest.mark.parametrize("biased", [False, True])
def test_the_cost_is_a_quadratic_form(biased):
    rng = np.random.default_rng(1)
    for _ in range(20):
        _, allowed, cost = problem(rng, 4, 6, "parameters", biased)
        constant, linear, square = quadratic(cost, [True] * 4)
        for widths in itertools.product(*(one[:-1] for one in allowed)):  # every reader has lost a column
            w = np.array(widths, dtype=float)
            assert constant + linear @ w + w @ square @ w == pytest.approx(cost.total(widths))


def test_a_target_below_all_gives_the_smallest_and_one_above_all_the_whole():
    rng = np.random.default_rng(2)
    curves, allowed, cost = problem(rng, 4, 6)
    assert least_damage_widths(curves, allowed, cost, 0.0) == [one[0] for one in allowed]
    assert least_damage_widths(curves, allowed, cost, 1e12) == [one[-1] for one in allowed]


def test_of_sixty_groups_it_is_not_worse_than_one_unit_at_a_time_and_as_quick_as_a_frame_allows():
    rng, seconds = np.random.default_rng(3), []
    for _ in range(6):
        curves, allowed, cost = problem(rng, 60, 64)
        target = between(rng, allowed, cost)
        start = process_time()
        found = least_damage_widths(curves, allowed, cost, target)
        seconds.append(process_time() - start)
        start = process_time()
        other = least_loss_widths(curves, allowed, cost, target)
        seconds[-1] /= max(process_time() - start, 1e-9)
        assert sum_at(curves, found) <= sum_at(curves, other) + 1e-9
    assert np.median(seconds) < 30  # times that of the other, which takes 4 ms on one core
