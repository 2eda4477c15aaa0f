"""Least loss per cost [beyond the paper] (method.md §7, §10): which widths a budget leaves.

For every group g of m_g units:

    r_g(w) = Σ_readers Tr[Z C_J Zᵀ] / Σ_readers Tr[Z Σ Zᵀ]       output loss of w units, in [0, 1]
    D_g(w) = −ω_g · log(1 − r_g(w))                              its decay
    minimise  Σ_g D_g(w_g)   subject to   cost(w_1, w_2, …) ≤ target,   w_g among the allowed widths.

J are the first w units of the greedy path of θ = 0 (§4) at λ = 1e-6·Tr Σ and the ridge of the whole width:
the least output loss that w units reach. r only ranks layers. What a plan *predicts* belongs to the θ, λ,
ridge and selection with which it is committed (`GroupProblem.width_losses`); ranking by that loss instead
was tried, and is no better (ResNet-20, 10,000 test images, 3× fewer MACs: 0.605 against 0.614).

1. *Z on a scale that compares* (`comparable_readout`): each output of a reader counts in standard deviations
   of the batch norm that takes it, times its scale, |γ|/σ; without a norm, in root mean squares of all the
   reader's outputs.
2. *The logarithm* (`decay`): what is left of a signal, 1 − r, multiplies from layer to layer, so its
   logarithms add. Sums of r alone left a layer a single unit at a fifth of the MACs: losing everything then
   costs no more than 1. Here it costs −log of nothing, so no layer is given up for a small price.
3. *The weight* ω (`branch_weight`): a branch of a residual network is added to a stream that goes on
   without it, so its decay counts by its share of the sum, whole/(whole + stream): whole = Tr[Z Σ Zᵀ] of the
   branch on the scale of 1., stream = Tr Σ of the stream there. A group of several readers is such a stream
   itself: ω is their number, since each of them loses r. A plain layer has ω = 1.
4. *The hull* (`_hull`): units go one at a time, the next from the group where the rise of D for the cost
   saved is least. That ends at the best widths only where D is convex, so D is replaced by the largest convex
   function below it at the allowed widths: a dear unit does not hide cheap ones behind it.
5. *The giving back* (`give_back`): the last step may save more than was missing. Units come back while one
   fits under the target, the largest gain for its cost first.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from workbench.network.cost_model import Total

_WHOLE = 1e-6  # a layer that loses all but this has lost everything


def comparable_readout(readout: Tensor, sigma: Tensor, scale: Tensor | None, outputs: int) -> Tensor:
    """Z on a scale that compares across layers (1. above).

    Args:
        readout: Z, (outputs·positions, m): the outputs' rows once for every kernel position.
        sigma: Σ, (m, m).
        scale: |γ|/σ of the norm that takes the outputs, (n,) with n dividing the rows of Z; None without one.
        outputs: how many outputs the reader has.

    Returns:
        (outputs·positions, m), the same dtype.
    """
    if scale is None:
        power = float(((readout @ sigma) * readout).sum()) / outputs  # Tr[Z Σ Zᵀ]/outputs, a mean square
        return readout / power**0.5 if power > 0 else readout
    positions = len(readout) // len(scale)  # every kernel position of an output stands below the last
    return readout * scale.repeat_interleave(positions)[:, None]  # diag(|γ|/σ) Z


def branch_weight(readers: int, whole: float, stream: float) -> float:
    """ω of a group (3. above): its `readers`, or the share of a lone one's signal in the stream it joins.

    Args:
        readers: how many layers read the group.
        whole: Tr[Z Σ Zᵀ] on the comparable scale.
        stream: Tr Σ of the streams that the one reader is added to; 0 where it is added to none.
    """
    if readers == 1 and whole + stream > 0:
        return whole / (whole + stream)
    return float(readers)


def decay(losses: np.ndarray, weight: float) -> np.ndarray:
    """D(w) = −ω · log(1 − r(w)) at every width (2. above).

    Args:
        losses: r, (m+1,), in [0, 1].
        weight: ω.

    Returns:
        (m+1,), 0 where nothing is lost and −ω · log 1e-6 at most.
    """
    return -weight * np.log1p(-np.minimum(losses, 1 - _WHOLE))


def least_loss_widths(
    decays: Sequence[np.ndarray], allowed: list[list[int]], cost: Total, target: float
) -> list[int]:
    """The widths (4. and 5. above).

    Args:
        decays: D of every group, (m_g + 1,) each.
        allowed: widths that each group may have, ascending.
        cost: of the network at any widths.
        target: what it may cost; one below the cost of the smallest widths gives those.

    Returns:
        A width a group.
    """
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
    give_back(curves, allowed, at, widths, cost, target)
    return widths


def give_back(
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
                if extra <= room and gain >= 0:
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
    """The largest convex function of the width below D, at the allowed widths, (len(widths),)."""
    x, y = np.asarray(widths, dtype=np.float64), losses[list(widths)]
    corners: list[int] = []
    for i in range(len(x)):
        while len(corners) > 1:
            a, b = corners[-2], corners[-1]
            # b stays where it lies below the line from a to i: (y_b−y_a)/(x_b−x_a) < (y_i−y_a)/(x_i−x_a)
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            corners.pop()
        corners.append(i)
    return np.interp(x, x[corners], y[corners])
