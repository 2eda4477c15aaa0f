"""Least loss per cost [beyond the paper]: which widths a budget leaves."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from workbench.network.cost_model import Total

_WHOLE = 1e-6  # a layer that loses all but this has lost everything


def decay(losses: np.ndarray, weight: float) -> np.ndarray:
    """−weight · log(1 − r) at every width, (m+1,): what is kept multiplies from layer to layer, so its
    logarithms add, and no layer can lose everything for a small price **[beyond the paper]**."""
    return -weight * np.log1p(-np.minimum(losses, 1 - _WHOLE))


def least_loss_widths(
    decays: Sequence[np.ndarray], allowed: list[list[int]], cost: Total, target: float
) -> list[int]:
    """Take units away where the loss rises least for the cost saved; then give back what still fits."""
    curves = [_hull(losses, choices) for losses, choices in zip(decays, allowed, strict=True)]
    at = [len(choices) - 1 for choices in allowed]
    widths = [choices[-1] for choices in allowed]
    neighbours = _neighbours(cost)
    total = cost.total(widths)

    def price(group: int) -> float:
        saving = cost.saving(group, allowed[group][at[group] - 1], widths)
        rise = curves[group][at[group] - 1] - curves[group][at[group]]
        return rise / saving if saving > 0 else float("inf")

    version = [0] * len(curves)
    queue = [(price(g), g, 0) for g in range(len(curves)) if at[g]]
    heapq.heapify(queue)
    while total > target and queue:
        _, group, asked = heapq.heappop(queue)
        if asked != version[group]:
            continue
        total -= cost.saving(group, allowed[group][at[group] - 1], widths)
        at[group] -= 1
        widths[group] = allowed[group][at[group]]
        for other in neighbours[group]:
            version[other] += 1
            if at[other]:
                heapq.heappush(queue, (price(other), other, version[other]))
    _give_back(curves, allowed, at, widths, cost, target)
    return widths


def _give_back(
    curves: list[np.ndarray],
    allowed: list[list[int]],
    at: list[int],
    widths: list[int],
    cost: Total,
    target: float,
) -> None:
    """Steps up that still fit, the one with the largest gain for its cost first."""
    room = target - cost.total(widths)
    while True:
        steps = []
        for group, choices in enumerate(allowed):
            if at[group] + 1 < len(choices):
                extra = -cost.saving(group, choices[at[group] + 1], widths)
                gain = curves[group][at[group]] - curves[group][at[group] + 1]
                if extra <= room:
                    steps.append((gain / max(extra, 1e-300), group, extra))
        if not steps:
            return
        _, group, extra = max(steps)
        at[group] += 1
        widths[group] = allowed[group][at[group]]
        room -= extra


def _neighbours(cost: Total) -> list[list[int]]:
    """Groups that share a layer with each group, itself included: their prices change with it."""
    near: list[set[int]] = [{g} for g in range(len(cost.model.groups))]
    for term, _, _ in cost.terms:
        together = {g for g, _ in (*term.lost_rows, *term.lost_columns)}
        for group in together:
            near[group] |= together
    return [sorted(found) for found in near]


def _hull(losses: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    """The largest convex function of the width below the losses, at the allowed widths: so that a step that
    is dear, before one that is cheap, does not hide it."""
    x, y = np.asarray(widths, dtype=np.float64), losses[list(widths)]
    corners: list[int] = []
    for i in range(len(x)):
        while len(corners) > 1:
            a, b = corners[-2], corners[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            corners.pop()
        corners.append(i)
    return np.interp(x, x[corners], y[corners])
