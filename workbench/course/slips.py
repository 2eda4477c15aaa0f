"""Slips that can happen in any exercise: per cent for a share, a sign, an order, counting from one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from workbench.course.exercise import agree

Arrays = list[np.ndarray]


def slip(given: Any, wanted: Any, tolerance: float) -> str:
    """The name of a slip that turns the right answer into the given one.

    Args:
        given: an answer that is wrong, as `comparable` makes it.
        wanted: the truth, in the same form.
        tolerance: the exercise's.

    Returns:
        A hint, or "" where it is none of these slips.
    """
    if isinstance(wanted, frozenset):
        from_one = frozenset(unit + 1 for unit in wanted)
        return "units are counted from 0, as indices in Python are." if given == from_one else ""
    if not isinstance(wanted, list):
        return ""
    for made, hint in SLIPS:
        slipped = made(wanted)
        if slipped is not None and agree(given, slipped, tolerance):
            return hint
    return ""


def _in_per_cent(wanted: Arrays) -> Arrays | None:
    """Only where every number is a share."""
    shares = all((values >= 0).all() and (values <= 1).all() for values in wanted)
    return [100 * values for values in wanted] if shares else None


def _negative(wanted: Arrays) -> Arrays:
    return [-values for values in wanted]


def _transposed(wanted: Arrays) -> Arrays | None:
    return [values.T for values in wanted] if all(values.ndim == 2 for values in wanted) else None


def _reversed(wanted: Arrays) -> Arrays | None:
    return [values[::-1] for values in wanted] if all(values.ndim == 1 for values in wanted) else None


SLIPS: tuple[tuple[Callable[[Arrays], Arrays | None], str], ...] = (
    (_in_per_cent, "that is in per cent; a share is a number between 0 and 1."),
    (_negative, "the sign is turned round."),
    (_transposed, "rows and columns are exchanged."),
    (_reversed, "the numbers stand in the wrong order."),
)
