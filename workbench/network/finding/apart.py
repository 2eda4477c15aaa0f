"""Readers looked at one by one: each passes on what it gives where units are silent, so that nothing adds up.

Rounding in one layer is a few of the last digits; behind fifty layers it is as much as a small group changes.
Where every layer goes on from the very numbers of the silenced network, what differs is its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from workbench.network.finding.benches import Bench
from workbench.network.finding.seen import Seen, is_plain_product
from workbench.network.groups import Reader
from workbench.network.layers import SPATIAL

Received = dict[str, dict[int, Tensor]]  # by a reader's name and the number of its call


class Apart:
    """What differs in a pass without units whose readers pass on `zeroed`, what they give of silent ones.

    `whole`: what they give of all units. `received`: what those readers received that give something else.
    `differing`: their names, '' for the network itself; known once the pass has ended.
    """

    def __init__(self, bench: Bench, whole: Seen, zeroed: Seen):
        self.bench, self.whole, self.zeroed = bench, whole, zeroed
        self.received: Received = defaultdict(dict)
        self.differing: set[str] = set()
        self._calls: Counter[str] = Counter()

    def look(self, name: str, given: Tensor, output: Tensor) -> None:
        """Keep what a reader received where it gives something else than of silent units."""
        at, call = self._calls.total(), self._calls[name]
        self._calls[name] += 1
        if at < len(self.zeroed) and self._is_other(at, output):
            self.received[name][call] = given

    def ends(self, found: Seen) -> bool:
        """Whether what the pass gave can be compared at all; notes where the network itself differs."""
        if [name for name, _ in found] != [name for name, _ in self.zeroed] or len(found) != len(self.whole):
            return False
        own = [at for at, (name, _) in enumerate(found) if not name]
        self.differing = {*self.received, *("" for at in own if self._is_other(at, found[at][1]))}
        return True

    def are_plain_products(self) -> bool:
        """Whether all that differ are layers that multiply what they receive by their weight, and no more."""
        return all(name and is_plain_product(self.bench.model.get_submodule(name)) for name in self.differing)

    def is_given(self, silent: Received, readers: Sequence[tuple[Reader, Tensor]]) -> bool:
        """Whether those that differ received the very numbers that they do of silent units, bit for bit.

        Then a product differs by rounding alone, however much of it cancels. `readers`: with the units
        that they lose.
        """
        for name, calls in self.received.items():
            gone = torch.cat([one.columns[units].flatten() for one, units in readers if one.module == name])
            axis = next(-1 - SPATIAL[one.kind] for one, _ in readers if one.module == name)
            for call, given in calls.items():
                of_all = silent[name].get(call)
                if of_all is None:
                    return False
                alive = others(gone, of_all.shape[axis]).to(of_all.device)
                if not torch.equal(of_all.index_select(axis, alive), given):
                    return False
        return True

    def _is_other(self, at: int, output: Tensor) -> bool:
        name, silent = self.zeroed[at]
        return output.shape != silent.shape or self.bench.differs(name, self.whole[at][1], output, silent)


class Noted:
    """What some readers receive in some of their calls in one pass: where `wanted` has something."""

    def __init__(self, wanted: Mapping[str, Mapping[int, Tensor]]):
        self.wanted = wanted
        self.received: Received = defaultdict(dict)
        self._calls: Counter[str] = Counter()

    def look(self, name: str, given: Tensor, output: Tensor) -> None:
        """Note what a reader receives."""
        if self._calls[name] in self.wanted.get(name, {}):
            self.received[name][self._calls[name]] = given
        self._calls[name] += 1


def others(gone: Tensor, count: int) -> Tensor:
    """The indices below `count` that are not `gone`, ascending."""
    stays = torch.ones(count, dtype=torch.bool)
    stays[gone] = False
    return stays.nonzero().flatten()
