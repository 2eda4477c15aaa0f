"""Figures of scores: against the width, or whatever else was varied, with the spread of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plots.style import MARK, WIDTH_LABEL, axes, looks, styled, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@styled
def plot_scores(
    x: Any,
    scores: Mapping[str, Sequence[float]],
    spreads: Mapping[str, Sequence[float]] | None = None,
    unpruned: float | None = None,
    xlabel: str = WIDTH_LABEL,
    metric: str = "accuracy",
    ax: Axes | None = None,
) -> Axes:
    """Scores against what was varied, a line a way, with bars of their spread where it is given.

    Args:
        x: (n,) widths, or other numbers; they are the ticks.
        scores: (n,) by way, NaN where there is none.
        spreads: (n,) by way, standard deviations; None, or a way left out: no bars.
        unpruned: the score before, a dashed line; None: not drawn.
        xlabel: what x is, with its unit.
        metric: what the score is.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes; a line a way, in the order given.

    Raises:
        ValueError: scores or spreads of a way have another length than x, or spreads are of no way.
    """
    given, spreads = np.asarray(x, dtype=float), dict(spreads or {})
    for name, values in [*scores.items(), *spreads.items()]:
        if name not in scores or np.shape(values) != given.shape or given.ndim != 1:
            raise ValueError(
                f"{name!r} has {np.shape(values)} numbers for x of shape {given.shape}; give each way of "
                f"{', '.join(scores)} one number an x"
            )
    ax = axes(ax)
    for look, (name, values) in zip(looks(len(scores)), scores.items(), strict=True):
        bars = spreads.get(name)
        if bars is not None:
            ax.errorbar(given, values, yerr=bars, fmt="none", ecolor=look["color"], capsize=4)
        ax.plot(given, values, label=name, **look)
    if unpruned is not None:
        ax.axhline(unpruned, color=MARK, linewidth=1, linestyle="--", label="unpruned")
    ax.set_xticks(given)
    ax.set(xlabel=xlabel, ylabel=with_unit(metric))
    ax.legend()
    return ax
