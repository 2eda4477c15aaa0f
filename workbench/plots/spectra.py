"""Figures of spectra: eigenvalues, N(λ), and several layers' or data sets' beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plots.style import KEPT, LAM, LAM_LABEL, LOST, axes, checked, looks, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAM_RANGE = (1e-10, 1.0)  # of λ / Tr Σ
MARKED = 8  # markers a curve, where it has more points than can be told apart


@styled
def plot_spectrum(eigenvalues: Any, lam: float | None = None, ax: Axes | None = None) -> Axes:
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
        method.md §2.
    """
    values, ax = checked(eigenvalues, lam), axes(ax)
    trace, index = values.sum(), np.arange(1, len(values) + 1)
    shown = values > 0
    share = np.ones(len(values)) if lam is None else values / (values + lam)
    ax.bar(index[shown], values[shown] / trace, width=0.9, color=_mix(share[shown]), bottom=0)
    ax.set(
        yscale="log",
        xlabel="index of the eigenvalue (1 is the largest)",
        ylabel="μ / Tr Σ (share of the trace)",
        xlim=(0.3, len(values) + 0.7),
    )
    if lam is not None:
        ax.axhline(lam / trace, color=LAM, linewidth=1.5)
        ax.set_title(f"N(λ) = {share.sum():.2f} at λ = {lam / trace:.3g} Tr Σ")
    return ax


@styled
def plot_degrees_of_freedom(
    eigenvalues: Any, lam: float | None = None, ax: Axes | None = None, halves: Sequence[Any] = ()
) -> Axes:
    """N(λ) = Σ μ/(μ+λ) against λ/Tr Σ on a log axis, with the point of `lam` where it is given.

    Args:
        eigenvalues: μ, (m,) >= 0, descending; or several by name, a line and an entry of the legend each.
        lam: λ > 0, absolute, in their units; None: no λ. Of several spectra, the same share of each one's
            trace would be another λ: there it is refused.
        ax: drawn into; None for a figure of its own.
        halves: eigenvalues of two halves of the data (`Session.half_spectra`), between whose curves it is
            shaded: how sure N(λ) is.

    Returns:
        The axes.

    Raises:
        ValueError: as for `plot_spectrum`; a λ or halves with several spectra.

    Source:
        method.md §2.
    """
    several = isinstance(eigenvalues, Mapping)
    if several and lam is not None:
        raise ValueError("a λ is marked on one spectrum: it is absolute, and each has a trace of its own")
    if halves and (several or len(halves) != 2):
        raise ValueError(f"two halves go with one spectrum; got {len(halves)} with {len(eigenvalues)}")
    spectra = eigenvalues if several else {"": eigenvalues}
    arrays, ax = {name: checked(given, lam) for name, given in spectra.items()}, axes(ax)
    relative = np.geomspace(*LAM_RANGE, 200)
    chosen = looks(len(arrays)) if several else [{"color": KEPT, "linestyle": "-"}]
    freedoms = [_freedom(checked(half), relative) for half in halves]
    if freedoms:
        ax.fill_between(
            relative,
            freedoms[0],
            freedoms[1],
            color=KEPT,
            alpha=0.3,
            linewidth=0,
            label="between halves of the data",
        )
    for look, (name, values) in zip(chosen, arrays.items(), strict=True):
        freedom = _freedom(values, relative)
        ax.plot(relative, freedom, label=name or None, markevery=len(relative) // MARKED, **look)
    if lam is not None:
        values = arrays[""]
        ax.plot([lam / values.sum()], [(values / (values + lam)).sum()], "o", color=LAM)
    if several or freedoms:
        ax.legend()
    ax.set(xscale="log", xlabel=LAM_LABEL, ylabel="degrees of freedom N(λ) (units)", ylim=(0, None))
    return ax


@styled
def plot_spectra(spectra: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    """Spectra of several layers or data sets, each divided by its largest eigenvalue, on a log axis.

    Zero eigenvalues are left out.

    Args:
        spectra: μ by name, each (m,) >= 0, descending; their lengths may differ.
        ax: drawn into; None for a figure of its own.

    Returns:
        The axes; a line a spectrum, in the order given.

    Raises:
        ValueError: as for `plot_spectrum`.

    Source:
        The paper's Figure 1a.
    """
    arrays = {name: checked(eigenvalues) for name, eigenvalues in spectra.items()}
    ax = axes(ax)
    for look, (name, values) in zip(looks(len(arrays)), arrays.items(), strict=True):
        index, shown = np.arange(1, len(values) + 1), values > 0
        ax.plot(
            index[shown],
            values[shown] / values.max(),
            label=name,
            markevery=max(1, len(values) // MARKED),
            **look,
        )
    ax.set(
        yscale="log",
        xlabel="index j of the eigenvalue (1 is the largest)",
        ylabel="μⱼ / μ₁ (relative to the largest)",
    )
    ax.legend()
    return ax


def _freedom(values: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """N(λ) at each share of the trace, (len(relative),)."""
    return (values / (values + relative[:, None] * values.sum())).sum(1)


def _mix(share: np.ndarray) -> np.ndarray:
    from matplotlib.colors import to_rgb

    kept, lost = np.array(to_rgb(KEPT)), np.array(to_rgb(LOST))
    return lost + share[:, None] * (kept - lost)
