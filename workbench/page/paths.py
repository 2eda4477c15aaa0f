"""What a kernel would answer, computed beforehand: which units stay and what is lost, at some λ."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.page.packing import packed
from workbench.pruning.choice import DEFAULT_THETA
from workbench.session.session import Session
from workbench.spectral.spectrum import Spectrum
from workbench.widgets.constants import LAM_MIN, START_LAM

STEPS = 13  # λ a group, beside the one that the page opens with
LEAST_LAM = 1e-8  # of the trace: below, nothing that is seen changes


def lam_grid(spectrum: Spectrum, steps: int = STEPS, start: float = START_LAM) -> np.ndarray:
    """λ/Tr Σ at which a page knows the units, evenly on a log axis, with `start` among them.

    They reach from N(λ) a little under the rank to N(λ) under one unit, where nothing changes any more.

    Args:
        spectrum: of the group.
        steps: how many, beside `start`.
        start: λ/Tr Σ that must be among them.

    Returns:
        (steps + 1,) ascending, or fewer where some are the same.
    """
    if spectrum.rank == 0:
        return np.array([start])
    low = max(spectrum.lam_for(max(spectrum.rank - 0.5, 0.5)) / spectrum.trace, LEAST_LAM, LAM_MIN)
    high = min(spectrum.lam_for(min(0.9, spectrum.rank * 0.9)) / spectrum.trace, 1.0)
    return np.unique(np.append(np.geomspace(min(low, high), high, steps), start))


def group_paths(session: Session, name: str, theta: float = DEFAULT_THETA) -> dict[str, Any]:
    """The greedy paths of a group, one a λ of `lam_grid`, as the page unpacks them.

    Each is that of `Session.preview` at its λ and the width ⌈N(λ)⌉: the order in which units are taken, and
    the relative input and output losses of keeping the first 0, 1, …, k of them. "sizes" are the k, m but in
    groups of more than 512 units.

    Args:
        session: which has measured the group, and it is not stale.
        name: of the group.
        theta: θ in [0, 1].

    Returns:
        "lams" (λ/Tr Σ), "widths", "sizes", and packed, one path behind the other: "order", "input", "output".

    Raises:
        NotMeasuredError, StaleMomentsError: as `Session.preview`.
    """
    spectrum = session.spectrum(name)
    lams = lam_grid(spectrum)
    trace = spectrum.trace or 1.0
    choices = [session.preview(name, lam=float(lam) * trace, theta=theta, remeasure=False) for lam in lams]
    return {
        "lams": [float(lam) for lam in lams],
        "widths": [choice.width for choice in choices],
        "sizes": [len(choice.order) for choice in choices],
        "order": packed(np.concatenate([choice.order for choice in choices]), "u2"),
        "input": packed(np.concatenate([choice.curve.input.numpy() for choice in choices]), "f4"),
        "output": packed(np.concatenate([choice.curve.output.numpy() for choice in choices]), "f4"),
    }
