"""What a session holds at one point of its history."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from workbench.measure import GroupStatistics
from workbench.network import Cost, UnitGroup
from workbench.session.choice import Choice, GroupProblem
from workbench.session.tuning import Tuning


class StaleMomentsError(RuntimeError):
    """The group's moments were measured before a commit that changed what it receives."""


@dataclass(frozen=True)
class Step:
    """One point of the history: the start, the state after a commit, or after fine-tuning.

    `choice`: what was committed, None at the start and for fine-tuning, whose settings are `tuning`. `plan`:
    what steps that were committed together are called; they are undone together.

    `score`: in the session's metric, None without evaluation data. `parameters`, `macs`: counts of the
    model at this point. `seconds`: what the commit took.
    """

    label: str
    choice: Choice | None
    score: float | None
    parameters: int
    macs: int
    seconds: float
    plan: str = ""
    tuning: Tuning | None = None


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
