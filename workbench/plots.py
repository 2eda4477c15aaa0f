"""Pictures for papers and course notes: arrays and an `ax` in, the `ax` out.

Nothing here knows a session: give the arrays of a `Spectrum`, of a choice's curve, or your own. The live
view in the browser does not use this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEPT, LOST, LAM = "#0173b2", "#c3c8cd", "#c1440e"  # seaborn's colour-blind blue, grey, and the λ line
LAM_RANGE = (1e-10, 1.0)  # of λ / Tr Σ


def plot_spectrum(eigenvalues, lam: float | None = None, ax: Axes | None = None) -> Axes:
    """Eigenvalues μ/Tr Σ against their index on a log axis, each coloured by its share μ/(μ+λ).

    Zero eigenvalues are left out, since a log axis has no place for them.

    Args:
        eigenvalues: μ, (m,) >= 0, descending.
        lam: λ > 0, absolute, in their units; None: no λ.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes.

    Raises:
        ValueError: eigenvalues that are not (m,), finite and >= 0 with a positive sum, or a λ <= 0.

    Source:
        method.md §2, the paper's Figure 1a.
    """
    values, ax = _checked(eigenvalues, lam), _axes(ax)
    trace, index = values.sum(), np.arange(1, len(values) + 1)
    shown = values > 0
    share = np.ones(len(values)) if lam is None else values / (values + lam)
    ax.bar(index[shown], values[shown] / trace, width=0.9, color=_mix(share[shown]), bottom=0)
    ax.set(yscale="log", xlabel="index of the eigenvalue", ylabel="μ / Tr Σ", xlim=(0.3, len(values) + 0.7))
    if lam is not None:
        ax.axhline(lam / trace, color=LAM, linewidth=1.5)
        ax.set_title(f"N(λ) = {share.sum():.2f} at λ = {lam / trace:.3g} Tr Σ", fontsize="medium")
    return ax


def plot_degrees_of_freedom(eigenvalues, lam: float | None = None, ax: Axes | None = None) -> Axes:
    """N(λ) = Σ μ/(μ+λ) against λ/Tr Σ on a log axis, with the point of `lam` where it is given.

    Args:
        eigenvalues: μ, (m,) >= 0, descending.
        lam: λ > 0, absolute, in their units; None: no λ.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes.

    Raises:
        ValueError: as for `plot_spectrum`.

    Source:
        method.md §2.
    """
    values, ax = _checked(eigenvalues, lam), _axes(ax)
    trace = values.sum()
    relative = np.geomspace(*LAM_RANGE, 200)
    freedom = (values / (values + relative[:, None] * trace)).sum(1)
    ax.plot(relative, freedom, color=KEPT)
    if lam is not None:
        ax.plot([lam / trace], [(values / (values + lam)).sum()], "o", color=LAM)
    ax.set(xscale="log", xlabel="λ / Tr Σ", ylabel="degrees of freedom N(λ)", ylim=(0, None))
    return ax


def plot_losses(widths, losses: dict[str, Sequence[float]], width: int | None = None, ax=None) -> Axes:
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
    import seaborn

    widths, ax = np.asarray(widths), _axes(ax)
    colours = seaborn.color_palette("colorblind", len(losses))
    for colour, style, (name, given) in zip(colours, _styles(len(losses)), losses.items(), strict=True):
        values = np.asarray(given, dtype=float)
        if values.shape != widths.shape:
            raise ValueError(f"the {name} loss has shape {values.shape}, the widths {widths.shape}")
        ax.plot(widths[values > 0], values[values > 0], style, color=colour, label=name)
    if width is not None:
        ax.axvline(width, color="0.4", linewidth=1.5)
    ax.set(yscale="log", xlabel="width, units kept", ylabel="loss, relative to keeping none")
    ax.legend(frameon=False)
    return ax


def plot_history(parameters, scores, labels: Sequence[str] = (), ax: Axes | None = None) -> Axes:
    """Score against parameters, a point a step, joined in order.

    Args:
        parameters: (n,) counts.
        scores: (n,).
        labels: of the points, n of them or none.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes.

    Raises:
        ValueError: the lengths differ.
    """
    parameters, scores, ax = np.asarray(parameters), np.asarray(scores, dtype=float), _axes(ax)
    if parameters.shape != scores.shape or (labels and len(labels) != len(scores)):
        raise ValueError(
            f"{len(parameters)} parameters, {len(scores)} scores and {len(labels)} labels differ"
        )
    ax.plot(parameters, scores, "o-", color=KEPT)
    for x, y, label in zip(parameters, scores, labels, strict=False):
        side = -1 if x > parameters.max() / 2 else 1  # away from the edge
        align = "right" if side < 0 else "left"
        ax.annotate(label, (x, y), (4 * side, 5), textcoords="offset points", fontsize="small", ha=align)
    ax.margins(x=0.05, y=0.15)
    ax.set(xlabel="parameters", ylabel="score", xlim=(0, None))
    return ax


def plot_comparison(
    costs, scores, ways: Sequence[str], metric: str = "score", unpruned=None, ax: Axes | None = None
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

    costs, scores, ax = np.asarray(costs, dtype=float), np.asarray(scores, dtype=float), _axes(ax)
    if not costs.shape == scores.shape == (len(ways),):
        raise ValueError(f"{costs.shape} costs, {scores.shape} scores and {len(ways)} ways differ")
    names = list(dict.fromkeys(ways))
    seaborn.lineplot(
        x=costs, y=scores, hue=list(ways), style=list(ways), hue_order=names, style_order=names, markers=True,
        dashes=False, palette=seaborn.color_palette("colorblind", len(names)), ax=ax, estimator=None,
    )  # fmt: skip
    if unpruned is not None:
        ax.axhline(unpruned[1], color="0.4", linewidth=1, linestyle="--")
        ax.annotate(
            "unpruned", (1, unpruned[1]), (-4, 3), ("axes fraction", "data"), "offset points", ha="right"
        )
    ax.set(xlabel="MACs", ylabel=metric)
    ax.legend(frameon=False, fontsize="small", title=None)
    return ax


def plot_sensitivity(
    groups: Sequence[str], shares: Sequence[float], values, label: str = "score", ax: Axes | None = None
) -> Axes:
    """Heat map of what each group bears alone.

    Args:
        groups: their names.
        shares: of the width kept.
        values: (groups, shares), NaN left white.
        label: what the values are.
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
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots(figsize=(5, 0.8 + 0.3 * len(groups)), layout="constrained")
    seaborn.heatmap(
        values, ax=ax, cmap="cividis", annot=len(groups) <= 30, fmt=".3g", linewidths=0.5,
        xticklabels=[f"{share:.0%}" for share in shares], yticklabels=list(groups), cbar_kws={"label": label},
    )  # fmt: skip
    ax.set(xlabel="share of the width kept, this group alone", ylabel="")
    return ax


def pareto_front(costs, scores) -> np.ndarray:
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
    import seaborn

    ax = _axes(ax)
    points = [(np.asarray(c, dtype=float), np.asarray(s, dtype=float)) for c, s in branches.values()]
    colours = seaborn.color_palette("colorblind", max(1, len(points)))
    for colour, name, (costs, scores) in zip(colours, branches, points, strict=False):
        known = np.isfinite(scores)
        ax.plot(costs[known], scores[known], "o-", color=colour, label=name, markersize=4)
    if points:
        costs, scores = (np.concatenate(parts) for parts in zip(*points, strict=True))
        front = pareto_front(costs, scores)
        ax.step(
            costs[front],
            scores[front],
            where="post",
            color="0.6",
            linewidth=1,
            label="Pareto front",
            zorder=0,
        )
    ax.set(xlabel="MACs", ylabel=metric)
    ax.legend(frameon=False, fontsize="small")
    return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import seaborn
    from matplotlib import pyplot

    with seaborn.axes_style("ticks"):
        _, ax = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    seaborn.despine(ax=ax)
    return ax


def _checked(eigenvalues, lam: float | None) -> np.ndarray:
    values = np.asarray(eigenvalues, dtype=float)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any() or not values.sum() > 0:
        raise ValueError(
            f"eigenvalues must be (m,) finite numbers ≥ 0, not all 0; got an array of shape {values.shape}"
        )
    if lam is not None and not (np.isfinite(lam) and lam > 0):
        raise ValueError(f"λ must be a positive finite number, got {lam!r}")
    return values


def _mix(share: np.ndarray) -> np.ndarray:
    from matplotlib.colors import to_rgb

    kept, lost = np.array(to_rgb(KEPT)), np.array(to_rgb(LOST))
    return lost + share[:, None] * (kept - lost)


def _styles(count: int) -> list[str]:
    return [("-", "--", ":", "-.")[index % 4] for index in range(count)]
