"""What stays: the parameters that belong to no group of units, each with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from workbench.network.finding.trace_tables import Trace
from workbench.network.groups import UnitGroup
from workbench.network.layers import is_linear_layer, kind_of

IDLE = "its module does not run on the example input"


@dataclass(frozen=True)
class Staying:
    """A parameter of the network that no group of units takes with it.

    Attributes:
        name: the parameter's, as in `named_parameters`.
        numbers: how many numbers it holds.
        why_not: why none of them can go, in words.
    """

    name: str
    numbers: int
    why_not: str


def what_stays(
    model: nn.Module, groups: Sequence[UnitGroup], found: Trace, untraced: str = ""
) -> tuple[Staying, ...]:
    """Every parameter that is in none of the groups, prunable or not, in the order of the network's modules.

    Args:
        model: the network.
        groups: what was found in it, with every layer that cannot be pruned.
        found: the trace from which the groups come; `untraced` says why there is none.

    Returns:
        One entry a parameter; a tied one stands under its first name.
    """
    listed = _in_groups(model, groups)
    reasons = _Reasons(found, groups)
    out = []
    for name, parameter in model.named_parameters():
        if id(parameter) not in listed:
            owner, _, key = name.rpartition(".")
            reason = untraced or reasons.of(owner, key, model.get_submodule(owner), parameter)
            out.append(Staying(name, parameter.numel(), reason))
    return tuple(out)


def _in_groups(model: nn.Module, groups: Sequence[UnitGroup]) -> set[int]:
    """Parameters by id that a group has: of linear layers weight and bias, of all others everything."""
    out: set[int] = set()
    for group in groups:
        rows = [part.module for part in (*group.writers, *group.norms)]
        for name in dict.fromkeys([*rows, *(part.module for part in group.readers)]):
            module = model.get_submodule(name)
            names = ("weight", "bias") if is_linear_layer(module) else None
            own = module.named_parameters(recurse=False)
            out |= {id(p) for key, p in own if names is None or key in names}
        for held in group.held:
            out.add(id(getattr(model.get_submodule(held.module), held.tensor)))
    return out


class _Reasons:
    """Why a parameter stays, from what the trace saw of it."""

    def __init__(self, found: Trace, groups: Sequence[UnitGroup]):
        self.found, self.called = found, set(found.calls)
        self.groups = {g.writers[0].module: g for g in reversed(groups) if g.writers}
        labels = found.labels
        pairs = labels.linked()
        self.entries = pairs[:, 0]
        self.units = labels.roots(torch.from_numpy(pairs[:, 1].copy())).numpy()

    @cached_property
    def _factors(self) -> list[tuple[np.ndarray, str]]:
        """The held entries of which factors of units are made, and where these are multiplied."""
        labels = self.found.labels
        return [
            (labels.parts_of(np.stack([entries, entries], 1))[:, 0], where)
            for entries, _, where in labels.factors
        ]

    @cached_property
    def _writers(self) -> np.ndarray:
        """Of each label the first layer that writes its unit: a place in the trace's rows, -1 for none."""
        labels = self.found.labels
        first = np.full(labels.count_all(), -1)
        for index, rows in reversed(list(enumerate(self.found.rows.values()))):
            first[labels.roots(rows).clamp(min=0).numpy()] = index
        return first

    def of(self, owner: str, key: str, module: nn.Module, parameter: Tensor) -> str:
        """The reason for the parameter `key` of `module`, whose name is `owner`."""
        place = owner or "the network"
        layer, made, _ = owner.partition(".parametrizations.")
        if made:
            return f"it makes a weight of {layer}, which is parametrized"
        if parameter.numel() == 1:
            return "it is one number for all units"
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            return self._of_norm(owner, kind_of(module))
        if is_linear_layer(module):
            return f"{place} has it beside its weight: only weight and bias of a layer are taken apart"
        at, where = self.found.held.get((owner, key)), self.found.used.get((owner, key))
        if at is None:
            return f"no units reach {place} on the example input" if owner in self.called else IDLE
        if where is None:
            return f"{place} does not use it on the example input" if owner in self.called else IDLE
        where = where or "the network"
        if (owner, key) in self.found.multiplied:
            return f"{where} multiplies by it as a layer does by its weight, and is no layer that is known"
        return self._of_bare(at, where)

    def _factor(self, first: int, count: int) -> str | None:
        """Where what is made of held entries is multiplied with units; None where it is not."""
        for entries, where in self._factors:
            if ((entries >= first) & (entries < first + count)).any():
                return where
        return None

    def _of_norm(self, owner: str, kind: str) -> str:
        if owner not in self.called:
            return IDLE
        return f"it goes with the features that {owner or 'the network'} ({kind}) mixes: none can go alone"

    def _of_bare(self, at: tuple[int, Tensor], where: str) -> str:
        first, tensor = at
        here = (self.entries >= first) & (self.entries < first + tensor.numel())
        if not here.any():
            made = self._factor(first, tensor.numel())
            if made is not None:
                return (
                    f"{made or 'the network'} multiplies by numbers that are made of it, not by it as it is"
                )
            return f"it is used in {where}, and goes with no units that are told apart"
        names, places = list(self.found.rows), np.unique(self._writers[self.units[here]]).tolist()
        written = [names[index] for index in places if index >= 0]
        for name in written:
            group = self.groups.get(name)
            if group is not None and not group.prunable:
                return f"it goes with the units of {name}, which stay: {group.why_not}"
        return f"units of {', '.join(sorted(written))} share its entries in {where}"
