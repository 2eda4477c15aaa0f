"""Groups that go together: all at once where that holds, else less those at whose layers it shows."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.network.finding.remembering import RememberedTrials
from workbench.network.finding.repairing import Repairs
from workbench.network.finding.sisters import Kind, Sisters
from workbench.network.finding.trials import BREAKS, ROUNDS
from workbench.network.groups import UnitGroup

Failures = dict[str, str]  # why a group cannot go, by its name


class Joint:
    """Trials of many groups of one network at once."""

    def __init__(self, trials: RememberedTrials, sisters: Sisters, repairs: Repairs):
        self.trials, self.sisters, self.repairs = trials, sisters, repairs

    def passing(self, groups: Sequence[UnitGroup], done: int) -> tuple[list[UnitGroup], Failures]:
        """Those that pass every round, all of them together, and why the others do not.

        `done`: rounds, the first ones, that they have passed together.
        """
        passed, failures = list(groups), Failures()
        round_, since = done % ROUNDS, done  # rounds passed since a group was left out
        while passed and since < ROUNDS:
            passed, failed = self.parted([], passed, round_)
            failures |= failed
            since = 1 if failed else since + 1
            round_ = (round_ + 1) % ROUNDS
        return passed, failures

    def parted(
        self, base: list[UnitGroup], groups: list[UnitGroup], round_: int
    ) -> tuple[list[UnitGroup], Failures]:
        """The groups that can go beside `base`: all at once where that holds; else one part after another."""
        if not groups:
            return [], {}
        reason = self.trials.failure([*base, *groups], round_)
        if not reason:
            return groups, {}
        if len(groups) > 1 and round_ == 0:
            kept, aside = self._sifted(base, groups)
            alone = {group.name: self.trials.failure([group], 0) for group in aside}
            rest = [group for group in aside if not alone[group.name]]
            if kept != groups and len(rest) < len(groups):
                first, failures = self.parted(base, kept, 0)
                second, more = self.parted([*base, *first], rest, 0)
                failures |= {name: why for name, why in alone.items() if why}
                return _in_order(groups, [*first, *second]), failures | more
            self.trials.failure([*base, *groups], 0)  # whom it blames
        blamed = {group.name for group in groups if group.name in self.trials.blamed}
        kinds = {self.sisters.kind(name) for name in blamed}
        if len(blamed) == 1 or len(kinds) > 1:  # layers of repeated blocks fail alike, one after another
            second = [group for group in groups if self._kind(group) in kinds]
        else:
            second = [group for group in groups if group.name in blamed]
        suspects = [second, [group for group in second if group.name in blamed]] if blamed else []
        return self._halved(base, groups, round_, reason, suspects)

    def _halved(
        self,
        base: list[UnitGroup],
        groups: list[UnitGroup],
        round_: int,
        reason: str,
        last: Sequence[list[UnitGroup]] = (),
    ) -> tuple[list[UnitGroup], Failures]:
        """Groups that cannot go at once beside `base` for a reason, in two parts.

        The second part is the first of `last`, those suspected, each within the one before, that is not all
        of them, or one half.
        """
        if len(groups) == 1:
            return [], {groups[0].name: reason}
        second, *later = [part for part in last if len(part) < len(groups)] or [groups[len(groups) // 2 :]]
        names = {group.name for group in second}
        first, failures = self.parted(base, [g for g in groups if g.name not in names], round_)
        if failures:
            second, more = self.parted([*base, *first], second, round_)
        else:
            second, more = self._halved([*base, *first], second, round_, reason, later)
        return _in_order(groups, [*first, *second]), failures | more

    def _sifted(
        self, base: list[UnitGroup], groups: list[UnitGroup]
    ) -> tuple[list[UnitGroup], list[UnitGroup]]:
        """Groups that fail beside `base` mended with their sisters, and others as they were.

        What is left may still fail, in another way or where none of them has a layer.
        """
        kept, aside, settled, alone = list(groups), list[UnitGroup](), set[Kind](), set[Kind]()
        while kept and (reason := self.trials.failure([*base, *kept], 0)):
            blamed = [group for group in kept if group.name in self.trials.blamed]
            first = {
                self._kind(group): group for group in reversed(blamed) if self._kind(group) not in settled
            }
            failing = [group for group in first.values() if self.trials.failure([group], 0)]
            settled |= first.keys() - {self._kind(group) for group in failing}
            gone = set[str]()
            for group in failing:
                kind = self._kind(group)
                if kind in settled:  # mended as another one was
                    continue
                better = self.repairs.mended(group)
                alone.add(kind)
                if better is not None:
                    kept, mended = self._with_sisters(kept, group, better)
                    settled, alone = settled | mended, alone | mended
                    continue
                sisters = [one for one in kept if self._kind(one) == kind]
                hopeless = self.repairs.gave_up(group) and self.trials.failure([sisters[-1]], 0)
                gone |= {one.name for one in sisters} if hopeless else {group.name}
            if not failing:  # a break is near its cause, a difference may come from elsewhere
                gone = {one.name for one in blamed if reason.startswith(BREAKS) or self._kind(one) in alone}
                if not gone:
                    break
            aside += [group for group in groups if group.name in gone]
            kept = [group for group in kept if group.name not in gone]
        return kept, aside

    def _with_sisters(
        self, groups: list[UnitGroup], mended: UnitGroup, better: UnitGroup
    ) -> tuple[list[UnitGroup], set[Kind]]:
        """The groups, all of the kinds that fail alone mended as one was, and these kinds."""
        own, out = self._kind(mended), []
        fails = {own: True}
        for group in groups:
            kind, like = self._kind(group), None
            if group is mended:
                like = better
            elif not (group.attributes or group.sizes):
                like = self.repairs.alike(better, group)
            if like is not None and kind not in fails:
                fails[kind] = bool(self.trials.failure([group], 0))
            out.append(like if like is not None and fails[kind] else group)
        return out, {kind for kind, alone in fails.items() if alone}

    def _kind(self, group: UnitGroup) -> Kind:
        return self.sisters.kind(group.name)


def _in_order(groups: Sequence[UnitGroup], found: Sequence[UnitGroup]) -> list[UnitGroup]:
    """What was found, by the names of the groups, in their order."""
    left = {group.name: group for group in found}
    return [left[group.name] for group in groups if group.name in left]
