"""What the page shows, as a picture and a line: for where no page can be, on paper or in a saved notebook."""

from __future__ import annotations

import base64
import io
import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.plots import (
    figure_class,
    plot_degrees_of_freedom,
    plot_history,
    plot_losses,
    plot_spectrum,
)

SIZE = (11.0, 6.2)  # inches
DOTS = 100  # an inch
LOSSES = ("input", "output", "combined")
# The traits that line and picture are made of.
PICTURED = (
    "name", "data_name", "metric", "measured", "layers", "spectra", "selected", "lam", "width", "curve",
    "history", "position",
)  # fmt: skip
VIEW = "application/vnd.jupyter.widget-view+json"


def line_of(values: Mapping[str, Any]) -> str:
    """The state in words: the network's size and score, and the group that is looked at.

    Args:
        values: the traits `PICTURED`.

    Returns:
        One line.
    """
    if not values["history"]:
        return "Workbench (no model loaded)"
    step = values["history"][values["position"]]
    said = f"{step['parameters']:,} parameters, {step['macs']:,} MACs"
    if step["score"] is not None:
        said += f", {values['metric']} {step['score']:.4f}"
    eigenvalues = _eigenvalues(values)
    if eigenvalues.size and eigenvalues.sum() > 0:
        freedom = freedom_of(eigenvalues, values["lam"])
        said += f"; {values['selected']}: N(λ) = {freedom:.2f} of {len(eigenvalues)} units at "
        said += f"λ = {values['lam']:.3g} Tr Σ"
    return f"Workbench on {values['name']}: {said}"


def picture_of(values: Mapping[str, Any]) -> bytes | None:
    """The spectrum with λ, N(λ), the losses and the history.

    Args:
        values: the traits `PICTURED`.

    Returns:
        A PNG; None where nothing is measured, of which there is nothing to see.
    """
    eigenvalues = _eigenvalues(values)
    if not values["measured"] or not eigenvalues.sum() > 0:
        return None
    figure = figure_class()(figsize=SIZE)
    (top, side), (low, last) = figure.subplots(2, 2)
    lam = values["lam"] * float(eigenvalues.sum())
    plot_spectrum(eigenvalues, lam, ax=top)
    plot_degrees_of_freedom(eigenvalues, lam, ax=side)
    curve = np.frombuffer(values["curve"]).reshape(4, -1)
    if curve.size:
        plot_losses(curve[0], dict(zip(LOSSES, curve[1:], strict=True)), values["width"], ax=low)
    else:
        low.set_axis_off()
    steps = [step for step in values["history"] if step["score"] is not None]
    if steps:
        labels = [step["label"] for step in steps] if len(steps) <= 4 else []
        plot_history(
            [step["parameters"] for step in steps],
            [step["score"] for step in steps],
            labels,
            ax=last,
            metric=values["metric"],
        )
    else:
        last.set_axis_off()
    data = f" on {values['data_name']}" if values["data_name"] else ""
    kept = f"{values['selected']}, {values['width']} of {len(eigenvalues)} units"
    return png_of(figure, f"{values['name']}{data}: {kept}", DOTS)


def png_of(figure: Any, title: str, dots: int) -> bytes:
    """A figure with a title over it, in any script and with any signs.

    Args:
        figure: of matplotlib.
        title: '' for none.
        dots: an inch.

    Returns:
        The bytes of a PNG file.
    """
    if title:
        figure.suptitle(title.replace("$", r"\$"))
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(file, format="png", dpi=dots)
    return file.getvalue()


def freedom_of(eigenvalues: np.ndarray, lam: float) -> float:
    """N(λ) = Σ μ/(μ+λ) of (m,) eigenvalues at λ relative to their trace."""
    return float((eigenvalues / (eigenvalues + lam * eigenvalues.sum())).sum())


def understudy(png: bytes, model: str) -> str:
    """A script for a page made of the notebook: the picture stands in until the widget is drawn, if ever.

    The script that draws widgets in such a page comes from a public network. In JupyterLab, whose page has
    long been loaded, nothing happens.

    Args:
        png: the picture.
        model: the widget's model_id.

    Returns:
        JavaScript.
    """
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return f"""document.addEventListener("DOMContentLoaded", () => {{
  for (const place of document.querySelectorAll('script[type="{VIEW}"]')) {{
    if (!place.textContent.includes({json.dumps(model)})) continue;
    const picture = document.createElement("img");
    picture.alt = "The workbench, as it was";
    picture.style.maxWidth = "100%";
    picture.src = {json.dumps(source)};
    place.before(picture);
    new MutationObserver((_, watch) => {{
      if (!place.parentElement.querySelector(".wbw-panel")) return;
      picture.remove();
      watch.disconnect();
    }}).observe(place.parentElement, {{ childList: true, subtree: true }});
  }}
}});"""


def _eigenvalues(values: Mapping[str, Any]) -> np.ndarray:
    """Of the group that is looked at; empty where it has none."""
    layer = next((one for one in values["layers"] if one["name"] == values["selected"]), None)
    if layer is None or not values["spectra"]:
        return np.zeros(0)
    return np.frombuffer(values["spectra"])[layer["offset"] : layer["offset"] + layer["count"]]
