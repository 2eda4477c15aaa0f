"""What a session holds at one point of its history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from workbench.measure.moments import GroupStatistics
from workbench.network.cost import Cost
from workbench.network.groups import UnitGroup, named_group
from workbench.network.tensors import sharing_copy
from workbench.pruning.choice import Choice
from workbench.pruning.problem import GroupProblem, NotMeasuredError
from workbench.tuning.settings import Tuning


class StaleMomentsError(RuntimeError):
    """The group's moments were measured before a commit that changed what it receives."""


class Statistics(Mapping[str, GroupStatistics]):
    """What was measured of every group, of the units that are left.

    The moments of a few units are cut out of those of all when they are asked for: a moment of its own after
    every commit would take as much memory as a layer does.
    """

    def __init__(
        self,
        measured: Mapping[str, GroupStatistics] | None = None,
        kept: Mapping[str, tuple[int, ...]] | None = None,
    ):
        self._measured, self._kept = dict(measured or {}), dict(kept or {})

    def __getitem__(self, name: str) -> GroupStatistics:
        found = self._measured[name]
        return found.restrict(self._kept[name]) if name in self._kept else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._measured)

    def __len__(self) -> int:
        return len(self._measured)

    def restrict(self, name: str, kept: Sequence[int]) -> Statistics:
        """The same with the units `kept` of group `name`, as they are numbered now."""
        before = self._kept.get(name)
        units = tuple(kept) if before is None else tuple(before[unit] for unit in kept)
        return Statistics(self._measured, self._kept | {name: units})

    def updated(self, measured: Mapping[str, GroupStatistics]) -> Statistics:
        """The same with groups that were measured anew."""
        kept = {name: units for name, units in self._kept.items() if name not in measured}
        return Statistics(self._measured | dict(measured), kept)


@dataclass(frozen=True)
class State:
    """Everything that a commit changes. Replaced, never changed: undo is going back to an earlier one.

    The parameters of its network may lie in the same memory as those of other states: nobody writes into
    them. Nobody runs it either, but copies of it (`running`).
    """

    model: nn.Module
    groups: tuple[UnitGroup, ...]
    cost: Cost
    units: dict[str, tuple[int, ...]]  # of every group, as they are numbered in the original network
    statistics: Statistics = field(default_factory=Statistics)
    stale: dict[str, str] = field(default_factory=dict)
    measured: bool = False
    problems: dict[str, GroupProblem] = field(default_factory=dict)  # a cache, filled when asked
    damages: dict[Any, Any] = field(default_factory=dict)  # what was measured of each group alone (damage.py)

    def problem(self, name: str) -> GroupProblem:
        """The selection problem of group `name`. Raises ValueError, NotMeasuredError."""
        found = self.problems.get(name)
        if found is None:
            group = named_group(self.groups, name)
            if not group.prunable:
                raise ValueError(f"{name} is not prunable: {group.why_not}")
            self.check_measured()
            found = GroupProblem(group, self.statistics[name], self.model, self.units[name])
            self.problems[name] = found
        return found

    def check_measured(self) -> None:
        """Raises NotMeasuredError."""
        if not self.measured:
            raise NotMeasuredError("nothing is measured yet: call session.measure() first")

    def running(self) -> State:
        """The same on a network of one's own, to be run and watched while others run and watch theirs."""
        return replace(self, model=sharing_copy(self.model))


@dataclass(frozen=True)
class Change:
    """What one step made: the state after it, what to call it, and the choice that it carried out."""

    state: State
    label: str
    choice: Choice | None = None
    tuning: Tuning | None = None
