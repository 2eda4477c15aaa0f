"""Sisters: groups of the same place in repeated blocks, which mostly share what becomes of them.

What was seen of one is tried first with the others, all of them at once: never believed without a trial.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from workbench.network.groups import UnitGroup

Kind = tuple[str, int, int]  # where the layer stands, which of its groups, and which link of that name


def pattern(name: str) -> str:
    """A module's name without the numbers of what it stands in, which tell repeated blocks apart."""
    home, point, own = name.rpartition(".")
    return re.sub(r"\d+", "#", home) + point + own


class Sisters:
    """Which groups of one network, or links named after them, are sisters."""

    def __init__(self, groups: Iterable[UnitGroup]):
        self._kinds: dict[str, tuple[str, int]] = {}
        seen: Counter[str] = Counter()
        for group in groups:
            module = group.writers[0].module if group.writers else group.name
            self._kinds[group.name] = pattern(module), seen[module]
            seen[module] += 1

    def kind(self, name: str) -> Kind:
        """What a group has in common with its sisters."""
        own = name.rstrip("′")
        return *self._kinds.get(own, (pattern(own), 0)), len(name) - len(own)

    def by_cuts(self, groups: Sequence[UnitGroup], bound: Mapping[str, set[str]]) -> list[list[UnitGroup]]:
        """Groups that are taken apart, sisters together among the same kinds: first, last, or other ones."""
        order = {name: index for index, name in enumerate(self._kinds)}
        out: dict[tuple, list[UnitGroup]] = {}
        for group in groups:
            own = order[group.name]
            others = [order[name] for name in bound[group.name]]
            kinds = frozenset(map(self.kind, bound[group.name]))
            ends = own <= min(others), own >= max(others)
            out.setdefault((self.kind(group.name), kinds, ends), []).append(group)
        return list(out.values())
