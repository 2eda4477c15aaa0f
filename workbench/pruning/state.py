"""What a session holds at one point of its history."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from workbench.measure.moments import GroupStatistics
from workbench.network.cost import Cost
from workbench.network.groups import UnitGroup
from workbench.pruning.problem import GroupProblem


class StaleMomentsError(RuntimeError):
    """The group's moments were measured before a commit that changed what it receives."""


@dataclass(frozen=True)
class State:
    """Everything that a commit changes. Replaced, never changed: undo is going back to an earlier one."""

    model: nn.Module
    groups: tuple[UnitGroup, ...]
    cost: Cost
    units: dict[str, tuple[int, ...]]  # of every group, as they are numbered in the original network
    statistics: dict[str, GroupStatistics] = field(default_factory=dict)
    stale: dict[str, str] = field(default_factory=dict)
    problems: dict[str, GroupProblem] = field(default_factory=dict)  # a cache, filled when asked

    def problem(self, name: str) -> GroupProblem:
        if name not in self.problems:
            group = next(g for g in self.groups if g.name == name)
            self.problems[name] = GroupProblem(group, self.statistics[name], self.model, self.units[name])
        return self.problems[name]
