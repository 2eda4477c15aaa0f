"""Figures of whole networks: the steps of a session, ways to prune beside each other, branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plots.style import (
    KEPT,
    LOSSES,
    MACS_LABEL,
    MARK,
    PARAMETERS_LABEL,
    axes,
    looks,
    styled,
    with_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@styled
def plot_history(
    parameters: Any,
    scores: Any,
    labels: Sequence[str] = (),
    ax: Axes | None = None,
    metric: str = "score",
) -> Axes:
    """Score against parameters, a point a step, joined in order.

    Args:
        parameters: (n,) counts.
        scores: (n,).
        labels: of the points, n of them or none.
        ax: drawn into; None for a figure of its own.
        metric: what the score is.

    Returns:
        The axes.

    Raises:
        ValueError: the lengths differ.
    """
    parameters, scores, ax = np.asarray(parameters), np.asarray(scores, dtype=float), axes(ax)
    if parameters.shape != scores.shape or (labels and len(labels) != len(scores)):
        raise ValueError(
            f"{len(parameters)} parameters, {len(scores)} scores and {len(labels)} labels differ"
        )
    ax.plot(parameters, scores, "o-", color=KEPT)
    for x, y, label in zip(parameters, scores, labels, strict=False):
        side = -1 if x > parameters.max() / 2 else 1  # away from the edge
        align = "right" if side < 0 else "left"
        ax.annotate(label, (x, y), (4 * side, 6), textcoords="offset points", ha=align)
    ax.margins(x=0.05, y=0.15)
    ax.set(xlabel=PARAMETERS_LABEL, ylabel=with_unit(metric), xlim=(0, None))
    _in_thousands(ax)
    return ax


@styled
def plot_comparison(
    costs: Any,
    scores: Any,
    ways: Sequence[str],
    metric: str = "score",
    unpruned: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Score against cost, a line and a marker a way; points of one way at several costs are joined.

    Args:
        costs: (n,) MACs.
        scores: (n,), NaN where there is no score.
        ways: (n,) names, such as "greedy, channel".
        metric: what the score is.
        unpruned: (cost, score) of the network before; None: not drawn.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes.

    Raises:
        ValueError: the lengths differ.
    """
    import seaborn

    costs, scores, ax = np.asarray(costs, dtype=float), np.asarray(scores, dtype=float), axes(ax)
    if not costs.shape == scores.shape == (len(ways),):
        raise ValueError(f"{costs.shape} costs, {scores.shape} scores and {len(ways)} ways differ")
    names = list(dict.fromkeys(ways))
    seaborn.lineplot(
        x=costs, y=scores, hue=list(ways), style=list(ways), hue_order=names, style_order=names, markers=True,
        palette=[look["color"] for look in looks(len(names))], ax=ax, estimator=None,
        markersize=8,
    )  # fmt: skip
    if unpruned is not None:
        ax.axhline(unpruned[1], color=MARK, linewidth=1, linestyle="--")
        ax.annotate(
            "unpruned", (1, unpruned[1]), (-4, 3), ("axes fraction", "data"), "offset points", ha="right"
        )
    ax.set(xlabel=MACS_LABEL, ylabel=with_unit(metric))
    _in_thousands(ax)
    ax.legend(title=None)
    return ax


@styled
def plot_sensitivity(
    groups: Sequence[str],
    shares: Sequence[float],
    values: Any,
    label: str = "score",
    ax: Axes | None = None,
) -> Axes:
    """Heat map of what each group bears alone, dark where it hurts.

    Args:
        groups: their names.
        shares: of the width kept.
        values: (groups, shares), NaN left white.
        label: what the values are: a score, or one of `LOSSES`, which are dark where they are large.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes.

    Raises:
        ValueError: the shapes differ.
    """
    import seaborn

    values = np.asarray(values, dtype=float)
    if values.shape != (len(groups), len(shares)):
        raise ValueError(f"{len(groups)} groups and {len(shares)} shares do not fit values {values.shape}")
    ax = axes(ax, height=max(2.6, 1.2 + 0.35 * len(groups)))
    ax.grid(False)
    seaborn.heatmap(
        values, ax=ax, cmap="cividis_r" if label in LOSSES else "cividis", linewidths=0.5,
        annot=len(groups) <= 30, fmt=".3g",
        xticklabels=[f"{100 * share:.3g}%" for share in shares], yticklabels=list(groups),
        cbar_kws={"label": with_unit(label)},
    )  # fmt: skip
    bar = ax.collections[0].colorbar
    if bar is not None and bar.solids is not None:
        bar.solids.set_rasterized(False)  # matplotlib makes a picture of a long bar, in a vector file too
        bar.solids.set_edgecolor("face")  # else white seams show between its colours
    ax.tick_params(axis="y", rotation=0)
    ax.set(xlabel="width kept, this group alone (share)", ylabel="group")
    return ax


def pareto_front(costs: Any, scores: Any) -> np.ndarray:
    """The points that no other beats in both.

    Args:
        costs: (n,), less is better.
        scores: (n,), more is better; NaN never counts.

    Returns:
        Their indices, (k,), in the order of cost.
    """
    costs, scores = np.asarray(costs, dtype=float), np.asarray(scores, dtype=float)
    order = np.lexsort((-scores, costs))
    best, front = -np.inf, []
    for index in order:
        if np.isfinite(scores[index]) and scores[index] > best:
            best = scores[index]
            front.append(index)
    return np.asarray(front, dtype=int)


@styled
def plot_branches(
    branches: dict[str, tuple[Sequence[float], Sequence[float]]],
    metric: str = "score",
    ax: Axes | None = None,
) -> Axes:
    """Score against cost of several branches, with the Pareto front of all points as a stepped line.

    Args:
        branches: (costs, scores) by name, a point a step; NaN where there is no score.
        metric: what the score is.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes.
    """
    ax = axes(ax)
    points = [(np.asarray(c, dtype=float), np.asarray(s, dtype=float)) for c, s in branches.values()]
    for look, name, (costs, scores) in zip(looks(len(points)), branches, points, strict=True):
        known = np.isfinite(scores)
        ax.plot(costs[known], scores[known], label=name, **look)
    if points:
        costs, scores = (np.concatenate(parts) for parts in zip(*points, strict=True))
        front = pareto_front(costs, scores)
        ax.step(
            costs[front],
            scores[front],
            where="post",
            color="0.6",
            linestyle="-",
            linewidth=1,
            label="Pareto front",
            zorder=0,
        )
    ax.set(xlabel=MACS_LABEL, ylabel=with_unit(metric))
    _in_thousands(ax)
    ax.legend()
    return ax


def _in_thousands(ax: Axes) -> None:
    """Counts as 62 k and 1.2 M."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.xaxis.set_major_formatter(EngFormatter())
