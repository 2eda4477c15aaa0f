"""What was tried once: the same groups lose the same units in the same round, so the answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from workbench.network.finding.looking_up import LookedUp
from workbench.network.finding.trials import Trials
from workbench.network.groups import UnitGroup

Tried = tuple[int, frozenset]  # the round, and the groups


class RememberedTrials:
    """Trials, none of which runs twice.

    `blamed`: of the last failure, the groups at whose layers it showed first, where that is known. `stopped`:
    the module in which the network broke, '' where it did not.
    """

    def __init__(self, trials: Trials):
        self.model, self.example, self._trials = trials.model, trials.example, trials
        self.blamed: frozenset[str] = frozenset()
        self.stopped = ""
        self._looked_up: dict[tuple, LookedUp | None] = {}
        self._known: dict[Tried, tuple[str, frozenset[str], str]] = {}

    def failure(self, groups: Sequence[UnitGroup], round_: int) -> str:
        """Why removal is not silencing in this round, '' where it is."""
        key = round_, frozenset(map(_key, groups))
        if key not in self._known:
            reason = self._trials.failure(groups, round_)
            self._known[key] = reason, self._trials.blamed, self._trials.stopped
        reason, self.blamed, self.stopped = self._known[key]
        return reason

    def hardest(self, group: UnitGroup) -> int:
        """The round in which the group loses most."""
        return self._trials.hardest(group)

    def looked_up(self, group: UnitGroup) -> LookedUp | None:
        """Whole numbers that the network looks up until it breaks without some of the group's units."""
        key = _key(group)
        if key not in self._looked_up:
            self._looked_up[key] = self._trials.looked_up(group, self.failure([group], 0))
        return self._looked_up[key]


def _key(group: UnitGroup) -> tuple:
    """All that tells a trial of one group from that of another one."""
    tables = [(one.module, one.rows) for one in (*group.writers, *group.norms)]
    tables += [(one.module, one.columns) for one in group.readers]
    tables += [(f"{one.module}.{one.tensor} {one.dim}", one.indices) for one in group.held]
    seen = blake2b(digest_size=16)
    for name, table in tables:
        seen.update(f"{name}{tuple(table.shape)}".encode())
        seen.update(table.contiguous().numpy().tobytes())
    return group.name, group.width, group.attributes, group.sizes, seen.digest()
