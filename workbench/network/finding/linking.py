"""Linking: groups that can only go together at equal widths become one, whose unit is some units of each.

A folded axis (`view`) binds what stands at one place of the part that adapts: those go together. A cut
(`chunk`, a slice) asks only that its parts keep their proportion: units are matched, the j-th of one part
with the j-th of the next, until every match leaves every cut in proportion. What finds no match stays.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from workbench.network.finding.assembly import Discovery
from workbench.network.finding.cuts import Cut, divided
from workbench.network.groups import Held, UnitGroup, Writer

Atom = list[int]  # labels of units that go together
Weigh = Callable[[Atom], tuple[int, ...]]  # how far an atom is from lying in a cut's parts in proportion
Place = tuple[str, int]  # a group's name and a unit of it
LARGEST_MULTIPLE = 16  # units of one part in a match


@dataclass(frozen=True)
class Link:
    """Groups made one, and which units (m, n) of each make a unit of it."""

    group: UnitGroup
    units: Mapping[str, Tensor]


def bonds(found: Discovery) -> dict[str, set[str]]:
    """With which groups each is taken apart, by name; with itself where parts of it are."""
    bound: dict[str, set[str]] = {group.name: set() for group in found.groups}
    for cut in found.cuts:
        names = {found.places[x][0] for x in cut.labels.unique().tolist() if x in found.places}
        for name in names:
            bound[name] |= names
    return bound


def link(groups: Mapping[str, UnitGroup], found: Discovery, fold: int = 0) -> list[Link]:
    """Links of `groups`, by name and in the order of running, none of which can go alone.

    `fold`: which axis of a folded one adapts, 0 the longest. What is found is believed after a trial.
    """
    places, cuts = found.places, found.cuts
    live = [label for label, (name, _) in places.items() if name in groups]
    alive = set(live)
    cuts = [cut for cut in cuts if not alive.isdisjoint(cut.labels.unique().tolist())]
    atoms = _folded(live, [cut for cut in cuts if not cut.sizes], fold)
    splits = [cut for cut in cuts if cut.sizes]
    weighs = [_imbalance(cut) for cut in splits]
    for index, weigh in enumerate(weighs):
        atoms = _matched(atoms, weigh, weighs[index + 1 :])
    alike: dict[tuple, list[Atom]] = defaultdict(list)
    for atom in atoms:
        alike[tuple(sorted(Counter(places[label][0] for label in atom).items()))].append(atom)
    out: list[Link] = []
    for profile, same in alike.items():
        unchanged = len(profile) == 1 and profile[0][1] == 1 and len(same) == groups[profile[0][0]].width
        if len(same) > 1 and not unchanged:
            units = _units([[places[label] for label in atom] for atom in same], list(groups))
            taken = {one.group.name for one in out}
            out.append(Link(merged(units, groups, found.position, taken), units))
    return out


def _folded(live: Sequence[int], boxes: Sequence[Cut], fold: int) -> list[Atom]:
    """Units joined that stand in one column of a box; without those bound to what cannot go."""
    parent = {label: label for label in live}
    dead = -1  # what cannot go
    parent[dead] = dead

    def find(label: int) -> int:
        while parent[label] != label:
            parent[label] = label = parent[parent[label]]
        return label

    for cut in boxes:
        tables = divided(cut)
        for column in tables[min(fold, len(tables) - 1)].t().tolist():
            names = {label if label in parent else dead for label in column}
            if names == {dead}:
                continue
            first, *rest = sorted(names)
            for label in rest:
                low, high = sorted((find(first), find(label)))
                parent[high] = low
    atoms: dict[int, Atom] = defaultdict(list)
    for label in live:
        atoms[find(label)].append(label)
    return [atom for root, atom in atoms.items() if root != dead]


def _imbalance(cut: Cut) -> Weigh:
    """How far an atom is from lying in the cut's parts as their sizes are; zeros: in proportion."""
    counts: defaultdict[int, np.ndarray] = defaultdict(lambda: np.zeros(len(cut.sizes), dtype=np.int64))
    for index, part in enumerate(torch.split(cut.labels, list(cut.sizes))):
        for label in part.tolist():
            counts[label][index] += 1
    sizes = np.array(cut.shares)
    nothing = (0,) * len(sizes)

    def of(atom: Atom) -> tuple[int, ...]:
        inside = [counts[label] for label in atom if label in counts]
        if not inside:  # most lie in other cuts
            return nothing
        total = sum(inside[1:], inside[0])
        return tuple((total * sizes.sum() - sizes * total.sum()).tolist())

    return of


def _matched(atoms: Sequence[Atom], weighs: Weigh, ahead: Sequence[Weigh]) -> list[Atom]:
    """Atoms joined so that each is in proportion in a cut; what finds no partner is left out.

    Within a part, those that weigh alike in later cuts come together, so that few have to be joined there.
    """
    waiting: dict[tuple[int, ...], list[Atom]] = defaultdict(list)
    for atom in atoms:
        waiting[weighs(atom)].append(atom)
    out = [atom for weight, same in waiting.items() if not any(weight) for atom in same]
    waiting = {w: sorted(same, key=lambda a: _order(a, ahead)) for w, same in waiting.items() if any(w)}
    for weight in list(waiting):
        other = tuple(-w for w in weight)
        while waiting[weight] and waiting.get(other):
            out.append(waiting[weight].pop(0) + waiting[other].pop(0))
    left = {weight: same for weight, same in waiting.items() if same}
    multiples = _multiples(list(left))
    while multiples and all(len(left[w]) >= n for w, n in multiples.items()):
        out.append([label for w, n in multiples.items() for _ in range(n) for label in left[w].pop(0)])
    return sorted(out, key=min)


def _order(atom: Atom, ahead: Sequence[Weigh]) -> tuple:
    """By weight in the cuts ahead, then as the units ascend."""
    return (tuple(tuple(-w for w in weighs(atom)) for weighs in ahead), min(atom))


def _multiples(weights: list[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
    """The smallest numbers of each weight that cancel; empty where there are none, or more than one way."""
    if len(weights) < 2:
        return {}
    # n with Σ nᵢ wᵢ = 0, unique up to a factor where the weights' rank is one less than their number
    table = np.array(weights, dtype=float)  # (weights, parts)
    _, values, vectors = np.linalg.svd(table.T, full_matrices=True)
    rank = int((values > 1e-9 * values[0]).sum())
    if rank != len(weights) - 1:
        return {}
    null = vectors[-1] / np.abs(vectors[-1]).max()
    if (null < 0).all():
        null = -null
    if (null < 1e-9).any():
        return {}
    for smallest in range(1, LARGEST_MULTIPLE + 1):
        counts = np.rint(null / null.min() * smallest).astype(int)
        if counts.max() <= LARGEST_MULTIPLE and not (counts @ np.array(weights)).any():
            return dict(zip(weights, counts.tolist(), strict=True))
    return {}


def _units(atoms: list[list[Place]], order: Sequence[str]) -> dict[str, Tensor]:
    """Units of each group that go together, (m, units of this group in one), as the first group's ascend."""
    names = sorted({name for name, _ in atoms[0]}, key=order.index)
    tables = {
        name: torch.tensor([sorted(unit for owner, unit in atom if owner == name) for atom in atoms])
        for name in names
    }
    ascending = tables[names[0]][:, 0].argsort()
    return {name: table[ascending] for name, table in tables.items()}


def merged(
    units: Mapping[str, Tensor],
    groups: Mapping[str, UnitGroup],
    position: Mapping[str, int],
    taken: Collection[str] = (),
) -> UnitGroup:
    """One group whose j-th unit is the units in row j of every table, (m, n), by a group's name.

    `position`: of modules in the order of running; `taken`: names that other groups have.
    """
    members = [(groups[name], at) for name, at in units.items()]
    first, width = members[0][0], len(members[0][1])

    def rows(parts: Sequence[tuple[str, Tensor]]) -> dict[str, Tensor]:
        return _joined(sorted(parts, key=lambda part: position.get(part[0], len(position))))

    writers = rows([(part.module, part.rows[at].flatten(1)) for g, at in members for part in g.writers])
    norms = rows([(part.module, part.rows[at].flatten(1)) for g, at in members for part in g.norms])
    columns = rows([(part.module, part.columns[at].flatten(1)) for g, at in members for part in g.readers])
    readers = {part.module: part for group, _ in members for part in group.readers}
    held = _joined(
        [((h.module, h.tensor, h.dim), h.indices[at].flatten(1)) for g, at in members for h in g.held]
    )
    name = first.name
    while name in taken:
        name += "′"
    return UnitGroup(
        name=name,
        kind=first.kind,
        width=width,
        writers=tuple(Writer(module, at) for module, at in writers.items()),
        norms=tuple(Writer(module, at) for module, at in norms.items() if module not in writers),
        readers=tuple(replace(readers[module], columns=at) for module, at in columns.items()),
        held=tuple(Held(module, key, dim, at) for (module, key, dim), at in held.items()),
        work=sum(group.work * at.shape[1] for group, at in members),
        linked=tuple(units),
    )


def _joined(parts: Sequence[tuple]) -> dict:
    """Tables of one key side by side: (m, r₁), (m, r₂), … → (m, r₁ + r₂ + …)."""
    out: dict[object, list[Tensor]] = defaultdict(list)
    for key, table in parts:
        out[key].append(table)
    return {key: torch.cat(tables, 1) for key, tables in out.items()}


def without_units(group: UnitGroup, gone: Iterable[int]) -> UnitGroup | None:
    """The group less some of its units, None where nothing is left."""
    drop = set(gone)
    left = torch.tensor([unit for unit in range(group.width) if unit not in drop], dtype=torch.int64)
    if not len(left):
        return None
    return replace(
        group,
        width=len(left),
        writers=tuple(replace(w, rows=w.rows[left]) for w in group.writers),
        norms=tuple(replace(w, rows=w.rows[left]) for w in group.norms),
        readers=tuple(replace(r, columns=r.columns[left]) for r in group.readers),
        held=tuple(replace(h, indices=h.indices[left]) for h in group.held),
    )
