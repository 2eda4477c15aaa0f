"""Figures of what pruning costs: losses and errors against the width, scores against λ and θ, bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plots.style import LAM_LABEL, MARK, WIDTH_LABEL, axes, curves_of, looks, styled, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@styled
def plot_losses(
    widths: Any, losses: Mapping[str, Sequence[float]], width: int | None = None, ax: Axes | None = None
) -> Axes:
    """Relative losses against the width on a log axis. Zero losses are left out.

    Args:
        widths: (k+1,) units kept.
        losses: by name (input, output, combined), as many numbers, relative to keeping none.
        width: is marked; None: no mark.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes.

    Raises:
        ValueError: a loss has another length than the widths.
    """
    widths, arrays = np.asarray(widths), curves_of(widths, losses, "loss", "widths")
    ax = axes(ax)
    for look, (name, values) in zip(looks(len(arrays)), arrays.items(), strict=True):
        shown = values > 0
        look["marker"] = "" if len(arrays) <= 4 and len(widths) > 12 else look["marker"]
        ax.plot(widths[shown], values[shown], label=name, **look)
    _mark_width(ax, width)
    ax.set(yscale="log", xlabel=WIDTH_LABEL, ylabel="loss (relative to keeping none)")
    ax.legend()
    return ax


@styled
def plot_errors(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    width: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Relative error of the pruned network's outputs against the width, a line a network or data set.

    Zero errors are left out, since the axis is a log one.

    Args:
        curves: (widths, errors) by name; errors ‖f − f♯‖ₙ / ‖f‖ₙ, a share.
        width: is marked; None: no mark.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes; a line a curve, in the order given.

    Raises:
        ValueError: widths and errors of a curve differ in length.

    Source:
        The paper's Figure 1b.
    """
    arrays = {
        name: (np.asarray(widths), curves_of(widths, {name: errors}, "error", "widths")[name])
        for name, (widths, errors) in curves.items()
    }
    ax = axes(ax)
    for look, (name, (widths, errors)) in zip(looks(len(arrays)), arrays.items(), strict=True):
        ax.plot(widths[errors > 0], errors[errors > 0], label=name, **look)
    _mark_width(ax, width)
    ax.set(yscale="log", xlabel=WIDTH_LABEL, ylabel="‖f − f♯‖ₙ / ‖f‖ₙ (relative error)")
    ax.legend()
    return ax


@styled
def plot_lam_sweep(
    lams: Any,
    scores: Mapping[float | str, Sequence[float]],
    metric: str = "accuracy",
    by: str = "compression rate",
    ax: Axes | None = None,
) -> Axes:
    """Score against λ/Tr Σ on a log axis, a curve a compression rate; a star marks the best of each.

    Args:
        lams: (n,) > 0, relative to the trace.
        scores: (n,) by rate, NaN where there is none; a rate is a share of the network taken away (0.5 is
            shown as 50 %), or a text that is shown as it is.
        metric: what the score is.
        by: the legend's title.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes; first a line a rate, in the order given, then the stars, on the least λ of equal scores.

    Raises:
        ValueError: a curve has another length than lams, or a λ is not positive.

    Source:
        The paper's Figure 1c.
    """
    lams = np.asarray(lams, dtype=float)
    if not (lams > 0).all():
        raise ValueError(f"every λ must be positive on a log axis; the least is {lams.min()}")
    ax = _sweep(lams, curves_of(lams, scores, "score", "λs"), by, axes(ax))
    ax.set(xscale="log", xlabel=LAM_LABEL, ylabel=with_unit(metric))
    return ax


@styled
def plot_theta_sweep(
    thetas: Any,
    scores: Mapping[float | str, Sequence[float]],
    metric: str = "accuracy",
    by: str = "compression rate",
    ax: Axes | None = None,
) -> Axes:
    """Score against θ, a curve a compression rate; a star marks the best of each.

    Args:
        thetas: (n,) in [0, 1].
        scores: (n,) by rate, as for `plot_lam_sweep`.
        metric: what the score is.
        by: the legend's title.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes; first a line a rate, in the order given, then the stars, on the least θ of equal scores.

    Raises:
        ValueError: a curve has another length than thetas.

    Source:
        The paper's Figure 1d.
    """
    thetas = np.asarray(thetas, dtype=float)
    ax = _sweep(thetas, curves_of(thetas, scores, "score", "θs"), by, axes(ax))
    ax.set(xlabel="θ (0: output loss alone, 1: input loss alone)", ylabel=with_unit(metric))
    return ax


@styled
def plot_bias_variance(
    x: Any,
    bias: Sequence[float],
    variance: Sequence[float],
    xlabel: str = LAM_LABEL,
    ax: Axes | None = None,
) -> Axes:
    """Bias and variance on log axes, their sum, and where that is least. The scale is up to constants.

    Args:
        x: (n,) > 0, λ relative to the trace by default.
        bias: δ₁, (n,).
        variance: δ₂, (n,).
        xlabel: what x is, with its unit.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes; the lines are bias, variance, their sum and the star on its least value.

    Raises:
        ValueError: the lengths differ, or no sum is finite.

    Source:
        method.md §6.
    """
    x = np.asarray(x, dtype=float)
    parts = curves_of(x, {"bias δ₁": bias, "variance δ₂": variance}, "curve", "x")
    total = np.sum(list(parts.values()), axis=0)
    if not np.isfinite(total).any():
        raise ValueError("no sum of bias and variance is finite")
    ax = axes(ax)
    for look, (name, values) in zip(looks(3), (parts | {"sum": total}).items(), strict=True):
        ax.plot(x, values, label=name, **look | {"marker": ""})
    least = int(np.nanargmin(np.where(np.isfinite(total), total, np.nan)))
    ax.plot(x[least], total[least], label=f"least sum, at {x[least]:.2g}", **_star("black"))
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel="error (up to constants)")
    ax.legend()
    return ax


@styled
def plot_bounds(
    x: Any,
    measured: Sequence[float],
    bounds: Mapping[str, Sequence[float]],
    xlabel: str = WIDTH_LABEL,
    ylabel: str = "error (relative)",
    ax: Axes | None = None,
) -> Axes:
    """What was measured beside what theory promises, on a log axis: a bound holds where it lies above.

    Args:
        x: (n,) numbers, such as widths, or names, such as layers.
        measured: (n,).
        bounds: (n,) by name; NaN or infinite where there is none.
        xlabel: what x is, with its unit.
        ylabel: what is bounded, with its unit.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes; the measured line first, then a line a bound, in the order given.

    Raises:
        ValueError: the lengths differ.
    """
    arrays = curves_of(x, {"measured": measured, **bounds}, "curve", "x")
    ax = axes(ax)
    for look, (name, values) in zip(looks(len(arrays)), arrays.items(), strict=True):
        shown = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        ax.plot(list(x), shown, label=name, **look)
    ax.set(yscale="log", xlabel=xlabel, ylabel=ylabel)
    if len(x) and isinstance(x[0], str):
        ax.tick_params(axis="x", rotation=30)
    ax.legend()
    return ax


def _sweep(x: np.ndarray, curves: dict[Any, np.ndarray], by: str, ax: Axes) -> Axes:
    chosen = looks(len(curves))
    for look, (rate, values) in zip(chosen, curves.items(), strict=True):
        ax.plot(x, values, label=rate if isinstance(rate, str) else f"{100 * rate:.4g} %", **look)
    for look, values in zip(chosen, curves.values(), strict=True):
        if np.isfinite(values).any():
            best = int(np.nanargmax(values))
            ax.plot(x[best], values[best], **_star(look["color"]))
    ax.legend(title=by, loc="upper left", bbox_to_anchor=(1.02, 1.02))  # curves are everywhere inside
    return ax


def _star(colour: str) -> dict[str, Any]:
    return {
        "marker": "*", "markersize": 16, "linestyle": "", "color": colour, "markeredgecolor": "black",
        "zorder": 3,
    }  # fmt: skip


def _mark_width(ax: Axes, width: int | None) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if width is not None:
        ax.axvline(width, color=MARK, linestyle="-", linewidth=1.5)
