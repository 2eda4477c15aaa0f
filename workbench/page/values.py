"""What a page holds: the traits of the live workbench, packed, and the answers of its kernel beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.page.packing import packed
from workbench.page.paths import group_paths
from workbench.pruning.choice import DEFAULT_THETA
from workbench.session.session import Session
from workbench.spectral.bounds import suggested_width
from workbench.widgets.constants import START_LAM
from workbench.widgets.page_values import read_session


def group_values(session: Session, name: str, lam: float = START_LAM) -> dict[str, Any]:
    """The values of a page about one group.

    Args:
        session: which has measured the group.
        name: of the group.
        lam: λ/Tr Σ that the page opens with.

    Returns:
        Traits by name, ready for JSON.

    Raises:
        ValueError: no such group, or it cannot be pruned.
        NotMeasuredError, StaleMomentsError: as `Session.preview`.
    """
    group = session.group(name)
    if not group.prunable:
        raise ValueError(f"{name} has no spectrum to show, since it cannot be pruned: {group.why_not}")
    values = read_session(session)
    (layer,) = [one for one in values["layers"] if one["name"] == name]
    spectrum = session.spectrum(name)
    layer |= {"offset": 0, "paths": group_paths(session, name)} | left_units(session, layer)
    return {
        "layers": [layer],
        "spectra": packed(spectrum.eigenvalues.numpy(), "f8"),
        "selected": name,
        "theta": DEFAULT_THETA,
        "lam": lam,
        "width": suggested_width(spectrum.degrees_of_freedom(lam * (spectrum.trace or 1.0)), spectrum.width),
    }


def left_units(session: Session, layer: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that a group's units had in the original network, where some are gone; else nothing."""
    if layer["width"] == layer["original"]:
        return {}
    whole = session.preview(layer["name"], width=layer["width"], remeasure=False)
    return {"units": list(whole.units)}


def spectra_values(spectra: Mapping[str, Any], lam: float = START_LAM) -> dict[str, Any]:
    """The values of a page about eigenvalues that come from anywhere.

    Args:
        spectra: eigenvalues by what they are called, each (m,) >= 0 with a positive sum, in any order.
        lam: λ/Tr Σ that the page opens with, each spectrum's own trace.

    Returns:
        Traits by name, ready for JSON.

    Raises:
        ValueError: no spectrum, or numbers that are none.
    """
    if not spectra:
        raise ValueError("give at least one spectrum: eigenvalues, or a mapping of names to eigenvalues")
    arrays = {str(name): checked_eigenvalues(one, str(name)) for name, one in spectra.items()}
    layers, offset = [], 0
    for name, values in arrays.items():
        count = len(values)
        layers.append(
            {
                "name": name, "kind": "", "unit": "eigenvalues", "width": count, "original": count, "rows": 1,
                "prunable": True, "why_not": "", "stale": "", "offset": offset, "count": count,
            }
        )  # fmt: skip
        offset += count
    return {
        "layers": layers,
        "spectra": packed(np.concatenate(list(arrays.values())), "f8"),
        "selected": layers[0]["name"],
        "theta": DEFAULT_THETA,
        "lam": lam,
        "width": 1,
    }


def checked_eigenvalues(values: Any, name: str) -> np.ndarray:
    """`values`, as (m,) float64, descending. Raises ValueError where it is no spectrum."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(
            f"eigenvalues{f' of {name}' if name else ''} must be (m,) finite numbers; got an array of shape "
            f"{array.shape}"
        )
    if array.min() < 0 or not array.sum() > 0:
        raise ValueError(
            f"eigenvalues{f' of {name}' if name else ''} must be 0 or more with a positive sum; the least is "
            f"{array.min():g}, the sum {array.sum():g}"
        )
    return np.sort(array)[::-1].copy()
