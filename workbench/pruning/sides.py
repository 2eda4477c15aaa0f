"""Two sides of the calibration data: what is fitted to one is measured on the other (cross-fitting)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from threading import Event

from workbench.data.progress import Progress
from workbench.measure.halves import halves
from workbench.measure.moments import measure_moments
from workbench.measure.outputs import Reference
from workbench.pruning.state import State
from workbench.pruning.transitions import Ground, refreshed


@dataclass(frozen=True)
class Side:
    """Where plans are carried out on some examples, by `ground` on `state`, and measured on others."""

    ground: Ground
    state: State
    reference: Reference


def sides_of(
    ground: Ground,
    state: State,
    reference: Callable[[Iterable], Reference],
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> tuple[Side, ...]:
    """Two sides, each fitted to the half of the calibration data on which the other one is measured.

    Args:
        ground: what plans are carried out against.
        state: what is pruned; each side has its moments from its own half.
        reference: the original's outputs on some data.
        progress: told of the measuring.
        cancel: set, it ends.

    Returns:
        One side alone, fitted to what it is measured on, where the data has no halves.

    Raises:
        Cancelled: `cancel` was set.
    """
    try:
        parts = halves(ground.calibration)
    except ValueError:
        return (Side(ground, state, reference(ground.calibration)),)
    sides = []
    for mine, other in (parts, parts[::-1]):
        own = replace(ground, calibration=mine, cached_calls=None)
        sides.append(Side(own, _measured_by(own, state, progress, cancel), reference(other)))
    return tuple(sides)


def _measured_by(ground: Ground, state: State, progress: Progress | None, cancel: Event | None) -> State:
    """`state` with moments from the ground's data, of the network of which its procedure takes them."""
    prunable = [group.name for group in state.groups if group.prunable]
    if not ground.simultaneous:
        stale = dict.fromkeys(prunable, "measured on all examples")
        return refreshed(ground, replace(state, stale=stale), progress, cancel)
    original = ground.original
    found = measure_moments(original.model, original.groups, ground.calibration, progress, cancel)
    measured = {
        name: replace(found[name].restrict(state.units[name]), taylor=state.statistics[name].taylor)
        for name in prunable
    }
    return replace(state, statistics=state.statistics.updated(measured), problems={})
