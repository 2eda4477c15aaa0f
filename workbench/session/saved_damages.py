"""Measured damages as they are written with a session, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from workbench.pruning.choice import RECONSTRUCTIONS
from workbench.pruning.damage import Measured, Trial, Way
from workbench.pruning.state import State
from workbench.session.history import History, Line
from workbench.session.recipe import MOST_STEPS, MOST_UNITS
from workbench.spectral.selection import SELECTIONS

Triple = tuple[float, float, float]
MOST_GROUPS, MOST_WIDTHS = 100_000, 10_000
FARTHEST = 1e300


class SavedTrial(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `Trial`; what is NaN there is None."""

    width: Annotated[int, msgspec.Meta(ge=0, le=MOST_UNITS)]
    change: Triple
    loss: float
    divergence: Triple | None = None
    score: float | None = None
    seconds: float = 0.0


class SavedDamage(msgspec.Struct, frozen=True):
    """What was measured in one way on the state at `position` of `branch`."""

    branch: str
    position: Annotated[int, msgspec.Meta(ge=0, le=MOST_STEPS)]
    theta: Annotated[float, msgspec.Meta(ge=0, le=1)]
    selection: str
    reconstruction: str
    lam: Annotated[float, msgspec.Meta(gt=0)] | None
    asked: Annotated[int, msgspec.Meta(ge=1)]
    examples: Annotated[int, msgspec.Meta(ge=0)]
    are_classes: bool
    now: SavedTrial
    trials: Annotated[
        dict[str, Annotated[list[SavedTrial], msgspec.Meta(max_length=MOST_WIDTHS)]],
        msgspec.Meta(max_length=MOST_GROUPS),
    ]

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise ValueError(f"unknown selection {self.selection!r}")
        if self.reconstruction not in RECONSTRUCTIONS:
            raise ValueError(f"unknown reconstruction {self.reconstruction!r}")


def saved_damages(lines: dict[str, Line], ends: dict[str, int]) -> list[SavedDamage]:
    """All that was measured on states of `lines`, up to `ends`; what branches share is written once."""
    found, seen = [], set()
    for branch, line in lines.items():
        for position in range(ends[branch] + 1):
            damages = _damages_at(line, position)
            if id(damages) not in seen:
                seen.add(id(damages))
                found += [
                    _saved(branch, position, way, one)
                    for way, one in list(damages.items())
                    if one.now is not None
                ]
    return found


def put_back(history: History, saved: Sequence[SavedDamage]) -> None:
    """Give each state what was measured of it. Raises ValueError where one does not fit its groups."""
    for one in saved:
        line = history.branches.get(one.branch)
        if line is None or one.position >= len(line.places):
            raise ValueError(f"damage of step {one.position} of branch {one.branch!r}, which is not there")
        widths = {g.name: g.width for g in _state_at(line, one.position).groups if g.prunable}
        for name, trials in one.trials.items():
            wrong = [t.width for t in trials if not 1 <= t.width < widths.get(name, 0)]
            if wrong:
                raise ValueError(f"damage of {name} at {wrong[0]} units, which it cannot be cut to")
        way = Way(one.theta, one.selection, one.reconstruction, one.lam, one.asked)
        found = {name: {t.width: _trial(t) for t in each} for name, each in one.trials.items()}
        _damages_at(line, one.position)[way] = Measured(_trial(one.now), one.are_classes, one.examples, found)


def _state_at(line: Line, position: int) -> State:
    place = line.places[position]
    state = place.state if place.state is not None else place.folded.rest if place.folded else None
    assert state is not None
    return state


def _damages_at(line: Line, position: int) -> dict[Any, Any]:
    return _state_at(line, position).damages


def _saved(branch: str, position: int, way: Way, one: Measured) -> SavedDamage:
    assert one.now is not None
    trials = {name: [_written(t) for t in list(each.values())] for name, each in list(one.trials.items())}
    return SavedDamage(
        branch, position, way.theta, way.selection, way.reconstruction, way.lam, way.examples,
        one.examples, one.are_classes, _written(one.now), trials,
    )  # fmt: skip


def _written(trial: Trial) -> SavedTrial:
    divergence = trial.divergence if all(v == v for v in trial.divergence) else None
    score = trial.score if trial.score == trial.score else None
    return SavedTrial(trial.width, _finite(trial.change), trial.loss, divergence, score, trial.seconds)


def _finite(values: Triple) -> Triple:
    """Numbers that JSON has: outputs that are no numbers any more are as far away as can be."""
    first, second, third = (v if abs(v) < FARTHEST else FARTHEST for v in values)
    return first, second, third


def _trial(saved: SavedTrial) -> Trial:
    nan = float("nan")
    return Trial(
        saved.width, saved.change, saved.divergence or (nan, nan, nan), saved.loss,
        nan if saved.score is None else saved.score, saved.seconds,
    )  # fmt: skip
