"""A choice for one group: which units are kept, what that loses, and what it saves. Touches nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real

from workbench.pruning.problem import (
    GroupProblem,
    LossCurve,
)
from workbench.spectral.bounds import guaranteed_width, suggested_width
from workbench.spectral.selection import SWAPPED
from workbench.spectral.spectrum import Spectrum
from workbench.spectral.swapping import Swapped

RECONSTRUCTIONS = ("channel", "kernel", "original", "none")
"""The paper's Â; [beyond] least squares on patches; [beyond] against the original's outputs; nothing.

The two fits use the ridge of min(λ, 1e-6·Tr Σ), `FIT_LAM` (method.md §10): there λ chooses the width and the
units, and does not shrink what is fitted, since with more they came out worse than with less.
"""
DEFAULT_THETA = 0.3  # the paper's best for VGG-13 on CIFAR-10 (method.md §3)


@dataclass(frozen=True)
class Choice:
    """What `Session.preview` found for one group; `Session.commit` carries it out.

    `kept`: ascending unit indices in [0, `of`), `width` of them, where `of` is the group's present width;
    `units`: the same as they are numbered in the original network. `order`: unit indices as they were taken,
    (k,), the first `width` of them are kept; `curve` has the losses of every prefix.
    `reestimate`: running statistics of batch norms are measured anew on the calibration data afterwards.
    `lam` is absolute, `lam_relative` is λ/Tr Σ. With several readers Σ is here the mean of their moments, and
    each reader's own λ is the same share of its own trace: λ_r = λ·Tr Σ_r/Tr Σ. For the reconstructions
    "kernel" and "original" λ chooses the width and the units alone: `RECONSTRUCTIONS`.
    Losses are relative to keeping none, in [0, 1].
    `predicted_error` is the root-mean-square change at the readers' outputs over their root mean square
    (biases left out), as the paper's Â leaves it at this λ, on the activations that were measured: an upper
    bound there where `predicted_error_exact`, else an estimate, since channel moments ignore the correlation
    between kernel positions (method.md §6). Under the simultaneous procedure these are the original's, which
    is not what a reader behind an earlier commit receives.
    `parameters_saved`, `macs_saved`: counts, exact.
    `swaps`: of the selection "greedy-swap", how many there were, and the combined loss before and after; None
    under another, in a group too wide to try them (`GroupProblem.tries_swaps`), and of a replayed step.
    """

    group: str
    of: int
    kept: tuple[int, ...] = field(repr=False)
    units: tuple[int, ...] = field(repr=False)
    width: int
    lam: float
    lam_relative: float
    theta: float
    selection: str
    reconstruction: str
    reestimate: bool
    degrees_of_freedom: float
    suggested_width: int
    guaranteed_width: int
    input_loss: float
    output_loss: float
    combined_loss: float
    predicted_error: float
    predicted_error_exact: bool
    parameters_saved: int
    macs_saved: int
    curve: LossCurve = field(repr=False, compare=False)
    order: tuple[int, ...] = field(default=(), repr=False, compare=False)
    swaps: Swapped | None = field(default=None, repr=False, compare=False)


def make_choice(
    problem: GroupProblem,
    saved: tuple[int, int],
    *,
    lam: float,
    width: int,
    theta: float,
    selection: str,
    reconstruction: str,
    reestimate: bool = False,
    order: Sequence[int] | None = None,
) -> Choice:
    """The choice of `width` units at `lam` (absolute); `order` overrules the selection, for a replay."""
    spectrum, group = problem.spectrum, problem.group
    if order is None:
        order = problem.order(lam, width, theta, selection)
    kept = tuple(sorted(order[:width]))
    curve = problem.curve(order, lam, width, theta)
    freedom = spectrum.degrees_of_freedom(lam)
    return Choice(
        group=group.name,
        of=group.width,
        kept=kept,
        units=tuple(problem.units[j] for j in kept),
        width=width,
        lam=lam,
        lam_relative=lam / spectrum.trace if spectrum.trace > 0 else lam,
        theta=theta,
        selection=selection,
        reconstruction=reconstruction,
        reestimate=reestimate,
        degrees_of_freedom=freedom,
        suggested_width=suggested_width(freedom, group.width),
        guaranteed_width=guaranteed_width(freedom),
        input_loss=float(curve.input[width]),
        output_loss=float(curve.output[width]),
        combined_loss=float(curve.combined[width]),
        predicted_error=problem.predicted_error(order[:width], lam, reconstruction),
        predicted_error_exact=all(r.kind == "Linear" and r.positions == 1 for r in group.readers),
        parameters_saved=saved[0],
        macs_saved=saved[1],
        curve=curve,
        order=tuple(order),
        swaps=_swaps(problem, kept, lam, theta, selection),
    )


def _swaps(
    problem: GroupProblem, kept: tuple[int, ...], lam: float, theta: float, selection: str
) -> Swapped | None:
    """The swaps that led to `kept`; a replayed step takes its units from the recipe and looks for none."""
    found = problem.swaps_found(lam, len(kept), theta) if selection == SWAPPED else None
    return found if found and found.kept == kept else None


def resolve(spectrum: Spectrum, width: int | None, lam: float | None) -> tuple[int, float]:
    """Width and λ, each given or following from the other through N(λ) = width.

    Raises ValueError where neither is given, λ is not a positive number, or the width not in [1, m].
    """
    m = spectrum.width
    if width is None and lam is None:
        raise ValueError(f"give a width (1 to {m}), a λ > 0, or both")
    if lam is not None and not (isinstance(lam, Real) and math.isfinite(lam) and lam > 0):
        raise ValueError(f"λ must be a positive finite number, got {lam!r}")
    if width is not None and not (_is_whole(width) and 1 <= width <= m):
        raise ValueError(f"the width must be a whole number from 1 to {m}, got {width!r}")
    if width is None:
        return suggested_width(spectrum.degrees_of_freedom(float(lam)), m), float(lam)  # type: ignore[arg-type]
    if lam is None:
        lam = spectrum.lam_for(width) if spectrum.trace > 0 else 1.0
    return int(width), float(lam)


def _is_whole(number: object) -> bool:
    return isinstance(number, Real) and not isinstance(number, bool) and float(number).is_integer()
