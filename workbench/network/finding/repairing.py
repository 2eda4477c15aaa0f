"""Repairing groups that fail: what mends one is tried on its sisters at once, and first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

from workbench.network.duplicating import is_ordinary
from workbench.network.finding.assembly import Discovery
from workbench.network.finding.looking_up import LookedUp, looked_up
from workbench.network.finding.mending import choices, mends, way_of
from workbench.network.finding.noted_sizes import code_sizes
from workbench.network.finding.remembering import RememberedTrials
from workbench.network.finding.sisters import Kind, Sisters
from workbench.network.finding.trials import BREAKS
from workbench.network.groups import Attribute, UnitGroup

SISTERS = 2  # groups of repeated layers for which everything is tried before the others are given up
FEW = 3  # repairs that are tried sooner than looked for


class Repairs:
    """The repairs of one network's groups, found by trying."""

    def __init__(self, trials: RememberedTrials, found: Discovery, sisters: Sisters):
        self.trials, self.found, self.sisters = trials, found, sisters
        self._way: tuple = ()  # how the last group was mended
        self._unmended: dict[tuple[bool, Kind], set[str]] = defaultdict(set)  # of a kind
        self._ways: dict[int, tuple[UnitGroup, list[UnitGroup]]] = {}  # of a group, by its identity

    def mended(self, group: UnitGroup) -> UnitGroup | None:
        """The group with the numbers of the modules around that must fall with its units."""
        ways = sorted(self._likely(group), key=lambda way: way_of(way) != self._way)
        if self.gave_up(group):
            ways = [way for way in ways if way_of(way) == self._way]
        unmended = self._outcome(group) if len(ways) > 1 else None
        idle: set[Attribute] = set()  # numbers that alone change nothing of how the network breaks
        for trial in ways:
            numbers = set(trial.attributes)
            if numbers and numbers <= idle:
                continue
            outcome = self._outcome(trial)
            if not outcome[0] and (len(ways) == 1 or self._holds(trial)):
                self._way = way_of(trial)
                return trial
            if outcome == unmended and len(numbers) == 1 and outcome[0].startswith(BREAKS):
                idle |= numbers
        self._unmended[self._kind(group)].add(group.name)
        return None

    def _holds(self, mended: UnitGroup) -> bool:
        """Whether it passes a round in which it loses more: a number may be as large as a width by chance."""
        return way_of(mended) == self._way or not self.trials.failure([mended], self.trials.hardest(mended))

    def gave_up(self, group: UnitGroup) -> bool:
        """Whether enough sisters of the group were tried in vain."""
        return len(self._unmended[self._kind(group)]) >= SISTERS

    def _kind(self, group: UnitGroup) -> tuple[bool, Kind]:
        return bool(group.linked), self.sisters.kind(group.name)

    def all_mended(self, groups: Iterable[UnitGroup]) -> dict[str, UnitGroup]:
        """Those of groups that fail alone which can be mended, by name, each as it passes."""
        left, out = list(groups), dict[str, UnitGroup]()
        while left:
            first, *left = left
            if self.gave_up(first):
                kind = self._kind(first)
                out |= self._in_any_way([first, *(group for group in left if self._kind(group) == kind)])
                left = [group for group in left if self._kind(group) != kind]
                continue
            better = self.mended(first)
            if better is None:
                continue
            out[first.name] = better
            together = self._passing([one for group in left if (one := self.alike(better, group))])
            out |= together
            left = [group for group in left if group.name not in together]
        return out

    def alike(self, better: UnitGroup, group: UnitGroup) -> UnitGroup | None:
        """The group mended as `better` is, a sister, or as its own code asks for; None where it is not."""
        ways, way = self._mends(group), way_of(better)
        if self.sisters.kind(better.name) != self.sisters.kind(group.name):
            ways = ways[:1] if better.sizes else []  # another layer's number may be there by chance
        return next((one for one in ways if way_of(one) == way), None)

    def _in_any_way(self, groups: list[UnitGroup]) -> dict[str, UnitGroup]:
        """Those of many sisters, of which a few are given up, that one number or their own code mends."""
        out: dict[str, UnitGroup] = {}
        simple = {group.name: [m for m in self._mends(group) if len(m.attributes) < 2] for group in groups}
        for way in dict.fromkeys(way_of(mended) for ways in simple.values() for mended in ways):
            left = [group for group in groups if group.name not in out]
            likely = [[one for one in simple[group.name] if way_of(one) == way] for group in left]
            chosen = [ways[0] for ways in likely if ways]
            out |= self._passing(chosen)
        return out

    def _passing(self, groups: list[UnitGroup]) -> dict[str, UnitGroup]:
        """Those that pass a first round together, less those at whose layers it showed."""
        while groups and self.trials.failure(groups, 0):
            left = [group for group in groups if group.name not in self.trials.blamed]
            groups = left if len(left) < len(groups) else []
        return {group.name: group for group in groups}

    def _outcome(self, group: UnitGroup) -> tuple[str, str]:
        return self.trials.failure([group], 0), self.trials.stopped

    def _mends(self, group: UnitGroup) -> list[UnitGroup]:
        if id(group) not in self._ways:
            trace = self.found.trace
            sizes = code_sizes(group, trace.labels, (trace.rows, trace.carriers), trace.sizes)
            kept = all(
                is_ordinary(self.trials.model.get_submodule(size.module)) for size in sizes
            )  # by copies
            self._ways[id(group)] = group, mends(group, self._choices(group), sizes if kept else ())
        return self._ways[id(group)][1]

    def _choices(self, group: UnitGroup) -> list[tuple[Attribute, ...]]:
        found = choices(group, self.trials.model)
        return found if len(found) < FEW else choices(group, self.trials.model, self._looked_up)

    def _likely(self, group: UnitGroup) -> list[UnitGroup]:
        """The ways to mend a group, less numbers that are looked up only after it broke the network."""
        ways = self._mends(group)
        numbers = sum(bool(way.attributes) for way in ways)
        if numbers < FEW or self.gave_up(group) or not self._outcome(group)[0].startswith(BREAKS):
            return ways
        before = self.trials.looked_up(group)
        return [
            way
            for way in ways
            if before is None
            or not way.attributes
            or any((one.module, one.name) in before for one in way.attributes)
        ]

    @cached_property
    def _looked_up(self) -> LookedUp | None:
        return looked_up(self.trials.model, self.trials.example)
