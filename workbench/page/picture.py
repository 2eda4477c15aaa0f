"""The first state of a figure as a PNG, for where no script runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench import plots
from workbench.page.packing import unpacked
from workbench.plots.spectra import LAM_RANGE
from workbench.plots.style import KEPT, LAM, LAM_LABEL, looks
from workbench.widgets.picture import freedom_of, png_of

SIZE = (5.4, 3.7)  # inches a view
DOTS = 90  # an inch


def picture(title: str, values: Mapping[str, Any], views: Sequence[str]) -> bytes:
    """Draw what a figure shows when it opens.

    Args:
        title: over all of it.
        values: of the page, as values.py makes them.
        views: of `Figure`, one beside the other.

    Returns:
        The bytes of a PNG file.
    """
    drawn = plots.figure_class()(figsize=(SIZE[0] * len(views), SIZE[1]), layout="constrained")
    for view, ax in zip(views, np.ravel(drawn.subplots(1, len(views))), strict=True):
        _draw(view, values, ax)
    return png_of(drawn, title, DOTS)


def spectra_of(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The eigenvalues in a page's values, by name, each (m,)."""
    whole = unpacked(values["spectra"])
    return {one["name"]: whole[one["offset"] :][: one["count"]] for one in values["layers"]}


def _draw(view: str, values: Mapping[str, Any], ax: Any) -> None:
    spectra, lam = spectra_of(values), values["lam"]
    if view in ("losses", "units"):
        order, losses = _path(values)
        if view == "losses":
            plots.plot_losses(np.arange(len(order) + 1), losses, values["width"], ax=ax)
        else:
            _draw_units(order[: values["width"]], values["layers"][0]["width"], ax)
    elif len(spectra) > 1:
        _draw_several(spectra, lam, view, ax)
    else:
        (mu,) = spectra.values()
        draw = plots.plot_spectrum if view == "spectrum" else plots.plot_degrees_of_freedom
        draw(mu, lam * mu.sum(), ax)


def _path(values: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """The path of the λ next to the one that the figure opens with: units (k,), and losses (k+1,) by name."""
    paths, theta = values["layers"][0]["paths"], values["theta"]
    index = int(np.argmin(np.abs(np.log(np.array(paths["lams"]) / values["lam"]))))
    start, size = sum(paths["sizes"][:index]), paths["sizes"][index]
    order = unpacked(paths["order"])[start : start + size]
    both: dict[str, Any] = {  # a path of k units has k + 1 losses
        name: unpacked(paths[name])[start + index :][: size + 1].astype(float) for name in ("input", "output")
    }
    return order, both | {"combined": theta * both["input"] + (1 - theta) * both["output"]}


def _draw_units(kept: np.ndarray, m: int, ax: Any) -> None:
    ax.bar(kept + 1, np.ones(len(kept)), width=0.9, color=KEPT)
    ax.set(
        xlabel=f"unit (1 to {m})",
        xlim=(0.3, m + 0.7),
        ylim=(0, 1),
        yticks=[],
        title=f"{len(kept)} units stay",
    )


def _draw_several(spectra: Mapping[str, np.ndarray], lam: float, view: str, ax: Any) -> None:
    relative = np.geomspace(*LAM_RANGE, 200)
    for look, (name, mu) in zip(looks(len(spectra)), spectra.items(), strict=True):
        label = f"{name}: N(λ) = {freedom_of(mu, lam):.1f}".replace("$", r"\$").lstrip("_")
        if view == "spectrum":
            x, y = np.arange(1.0, len(mu) + 1)[mu > 0], mu[mu > 0] / mu.sum()
        else:
            x, y = relative, (mu / (mu + relative[:, None] * mu.sum())).sum(1)
        ax.plot(x, y, label=label, **look | {"marker": ""})
    if view == "spectrum":
        ax.axhline(lam, color=LAM, linestyle="-", linewidth=1.5)
        ax.set(
            yscale="log",
            xlabel="index of the eigenvalue (1 is the largest)",
            ylabel="μ / Tr Σ (share of the trace)",
        )
    else:
        ax.axvline(lam, color=LAM, linestyle="-", linewidth=1.5)
        ax.set(xscale="log", xlabel=LAM_LABEL, ylabel="degrees of freedom N(λ) (units)")
    ax.legend()
