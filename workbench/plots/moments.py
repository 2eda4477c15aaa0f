"""Figures of moments and of what finite samples know of them: a plane, the edge of noise, N(λ) by n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plots.style import KEPT, LAM, axes, checked, curves_of, looks, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOISE = "#949494"  # darker than what is lost: points, not areas
CIRCLE = np.linspace(0, 2 * np.pi, 200)


@styled
def plot_moment(samples: Any, ax: Axes | None = None) -> Axes:
    """Points in a plane with the ellipse of their uncentred second moment Σ, and √μⱼ·vⱼ from the origin.

    The ellipse is {x : xᵀΣ⁻¹x = 1}; its half axes are √μⱼ long and lie along the eigenvectors vⱼ, which
    are drawn towards the points.

    Args:
        samples: (n, 2), a row a sample, a column a unit.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes; the lines are the points, the ellipse, and the half axes, the larger first.

    Raises:
        ValueError: samples that are not finite (n, 2), n >= 1.

    Source:
        method.md §1 and §2.
    """
    points = np.asarray(samples, dtype=float)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not np.isfinite(points).all():
        raise ValueError(f"a plane takes finite samples (n, 2), a column a unit; got shape {points.shape}")
    values, vectors = np.linalg.eigh(points.T @ points / len(points))  # Σ = (1/n) ΦᵀΦ   (2, 2)
    values, vectors = values[::-1].clip(min=0), vectors[:, ::-1]
    half = vectors * np.sqrt(values)  # √μ_j·v_j, a column each   (2, 2)
    towards = np.sign(points.mean(0) @ half)
    half = half * np.where(towards == 0, 1, towards)
    ax = axes(ax, height=4.6)
    few = len(points) < 20
    ax.plot(*points.T, "o", color=NOISE, markersize=9 if few else 4, label="samples", zorder=3 if few else 1)
    ax.plot(*(half @ [np.cos(CIRCLE), np.sin(CIRCLE)]), color=KEPT, linestyle="-", label="xᵀΣ⁻¹x = 1")
    for marker, colour, end, name in zip("os", (LAM, "black"), half.T, ("√μ₁·v₁", "√μ₂·v₂"), strict=True):
        x, y = ([0, part] for part in end)
        ax.plot(x, y, "-", marker=marker, markevery=[1], color=colour, linewidth=3, label=name, zorder=4)
    ax.axhline(0, color="0.6", linewidth=0.8, linestyle="-", zorder=0)
    ax.axvline(0, color="0.6", linewidth=0.8, linestyle="-", zorder=0)
    ax.set_aspect("equal")
    ax.set(xlabel="unit 0 (activation)", ylabel="unit 1 (activation)")
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.02))
    return ax


@styled
def plot_noise_edge(eigenvalues: Any, edge: float, ax: Axes | None = None) -> Axes:
    """Eigenvalues against their index on a log axis, those above the edge of noise apart from those below.

    Zero eigenvalues are left out.

    Args:
        eigenvalues: μ, (m,) >= 0, descending.
        edge: in their units, as `marchenko_pastur_edge` gives it.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes; the lines are those above, those below and the edge.

    Raises:
        ValueError: as for `plot_spectrum`, or an edge that is not positive.

    Source:
        method.md §2; Marchenko and Pastur, 1967.
    """
    values, index = checked(eigenvalues, edge), np.arange(1, len(np.asarray(eigenvalues)) + 1)
    above, below = values > edge, (values <= edge) & (values > 0)
    ax = axes(ax)
    ax.plot(index[above], values[above], "o", color=KEPT, label=f"above the edge: {above.sum()}")
    ax.plot(index[below], values[below], "s", color=NOISE, markersize=4, label=f"below: {below.sum()}")
    ax.axhline(edge, color=LAM, linestyle="-", linewidth=1.5, label=f"edge of noise: {edge:.3g}")
    ax.set(
        yscale="log",
        xlabel="index of the eigenvalue (1 is the largest)",
        ylabel="eigenvalue μ (squared activation)",
    )
    ax.legend()
    return ax


@styled
def plot_sample_sizes(
    counts: Sequence[int] | Any, freedoms: Mapping[str, Sequence[float]], ax: Axes | None = None
) -> Axes:
    """N(λ) against the number of samples from which the moment was measured, on a log axis, a line a λ.

    Args:
        counts: (k,) > 0, samples.
        freedoms: N(λ), (k,) by name.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes; a line a λ, in the order given.

    Raises:
        ValueError: a curve has another length than the counts, or a count is not positive.
    """
    counts = np.asarray(counts, dtype=float)
    if not (counts > 0).all():
        raise ValueError(f"every number of samples must be positive on a log axis; got {counts.min():g}")
    arrays, ax = curves_of(counts, freedoms, "curve", "counts"), axes(ax)
    for look, (name, values) in zip(looks(len(arrays)), arrays.items(), strict=True):
        ax.plot(counts, values, label=name, **look)
    ax.set(
        xscale="log",
        xlabel="samples n (number)",
        ylabel="degrees of freedom N(λ) (units)",
        ylim=(0, None),
        xticks=counts,
        xticklabels=[f"{count:g}" for count in counts],
    )
    ax.minorticks_off()
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.02))
    return ax


@styled
def plot_leverage(scores: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    """Leverage scores of a layer's units, each curve in descending order.

    Args:
        scores: (m,) >= 0 by name, such as one a λ; un-normalised, in [0, 1], they sum to N(λ).
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes; a line a name, in the order given.

    Raises:
        ValueError: scores that are not (m,), finite and >= 0, not all 0.

    Source:
        method.md §2.
    """
    arrays, ax = {name: np.sort(checked(values))[::-1] for name, values in scores.items()}, axes(ax)
    for look, (name, values) in zip(looks(len(arrays)), arrays.items(), strict=True):
        ax.plot(np.arange(1, len(values) + 1), values, label=name, markevery=max(1, len(values) // 8), **look)
    ax.set(
        xlabel="unit, by its score (1 is the highest)", ylabel="leverage (share of a unit)", ylim=(0, None)
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.02))
    return ax
