"""Mending: whole numbers that modules keep (`num_heads`, a width) and that must fall with a group's units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from torch import nn

from workbench.network.finding.looking_up import LookedUp
from workbench.network.groups import Attribute, CodeSize, UnitGroup

CANDIDATES = 6  # numbers near a group, and names, that are tried


def _attributes(group: UnitGroup, model: nn.Module, looked_up: LookedUp | None) -> list[Attribute]:
    """Whole numbers of the enclosing modules that count the group's units or its rows, the nearest first.

    Of those that are `looked_up`, where that is known.
    """
    layers = [w.module for w in (*group.writers, *group.norms)] + [r.module for r in group.readers]
    around = {name.rsplit(".", depth)[0] for name in layers for depth in range(1, name.count(".") + 1)} | {""}
    each = {w.rows.shape[1] for w in group.writers} | {r.positions for r in group.readers} | {1}
    found = []
    for name in sorted(around, key=lambda n: (-n.count(".") - bool(n), n)):
        for key, value in vars(model.get_submodule(name)).items():
            if key.startswith("_") or isinstance(value, bool) or not isinstance(value, int):
                continue
            if looked_up is not None and (name, key) not in looked_up:
                continue
            found += [Attribute(name, key, r) for r in sorted(each) if value == group.width * r]
    found.sort(key=lambda a: "head" not in a.name)
    return found


def choices(
    group: UnitGroup, model: nn.Module, looked_up: LookedUp | None = None
) -> list[tuple[Attribute, ...]]:
    """What may have to fall together, the likeliest first.

    One to three numbers near by, or all of one or two names in the modules around.
    """
    found = _attributes(group, model, looked_up)
    near = found[:CANDIDATES]
    named: dict[str, list[Attribute]] = {}
    for attribute in found:
        named.setdefault(attribute.name, []).append(attribute)
    everywhere = [tuple(same) for same in named.values()][:CANDIDATES]
    pairs = [one + other for one, other in combinations(everywhere, 2)]
    few = [chosen for size in (1, 2) for chosen in combinations(near, size)]
    several = [chosen for chosen in (*everywhere, *pairs) if len(chosen) > 2]
    return [*few, *several, *combinations(near, 3)]


def mends(
    group: UnitGroup, found: Sequence[tuple[Attribute, ...]], sizes: tuple[CodeSize, ...]
) -> list[UnitGroup]:
    """The group with numbers of modules, or `sizes` in their code, that fall with its units; likeliest first.

    Numbers, `found` as `choices` gives them, come first: sizes in code hold for this code alone.
    """
    numbers = [replace(group, attributes=chosen) for chosen in found]
    few = sum(len(chosen) <= 2 for chosen in found)
    return [*numbers[:few], *([replace(group, sizes=sizes)] if sizes else []), *numbers[few:]]


def way_of(mended: UnitGroup) -> tuple[Any, ...]:
    """How a group was mended: names of the numbers, by which the next group's are tried first."""
    return bool(mended.sizes), tuple(sorted({one.name for one in mended.attributes}))
