"""Sizes in code that count units: noted while a network runs once, with the labels of what they count."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

from workbench.network.finding.labels import Labels
from workbench.network.groups import CodeSize, UnitGroup
from workbench.network.rebuilt.code_places import place_of_call
from workbench.network.rebuilt.fallen_sizes import size_in_code
from workbench.network.rebuilt.given_sizes import INPUT, Given, given_sizes, input_of

HERE = str(Path(__file__).parent)
Key = tuple[str, str, int, int]  # module, place, index and size as it stands in the code


@dataclass(frozen=True)
class NotedSize:
    """A size that the code of a module gave, and the labels, each with its times, of the places it counts.

    `was`: as it stands in the code, where it fell with units already. `checked`: torch takes no other sizes
    in this call, since they fill what is there.
    """

    module: str
    place: str
    index: int
    was: int
    size: int
    labels: Tensor
    times: Tensor
    checked: bool

    @property
    def key(self) -> Key:
        """Which size in the code it is."""
        return self.module, self.place, self.index, self.was


class SizeNotes(TorchFunctionMode):
    """Within: the sizes that the code of a network gives are noted, with the labels of what they count."""

    def __init__(self, model: nn.Module, labels: Labels, noted: list[NotedSize]):
        super().__init__()
        self.names = {id(module): name for name, module in model.named_modules()}
        self.labels, self.noted = labels, noted

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        ours = sys._getframe(1).f_code.co_filename.startswith(HERE)  # a look at what ran
        given = None if ours else given_sizes(func, args, kwargs)
        if given is not None:
            module, place = place_of_call()
            if module is not None and id(module) in self.names and place:
                tensors = {INPUT: input_of(args, kwargs)}
                tensors |= dict(enumerate(t for t in tree_flatten(out)[0] if isinstance(t, Tensor)))
                with torch._C._DisableTorchDispatch():  # looking is none of the network's operations
                    self._note(module, place, given, tensors)
        return out

    def _note(self, module: nn.Module, place: str, given: Given, tensors: Mapping[int, Tensor]) -> None:
        known = {key: self.labels.of(tensors[key]) for key in {one.tensor for one in given.counted}}
        for index, (size, one) in enumerate(zip(given.sizes, given.counted, strict=True)):
            found = known[one.tensor]
            if size in (-1, 0) or not isinstance(size, int) or (size == 1 and one.first is None):
                continue
            line = torch.zeros(0, dtype=torch.int64) if found is None else _line(found, one.axis)
            line = line[one.first : one.stop]
            labels, times = line[line != 0].unique(return_counts=True)
            was = size_in_code(module, place, index, size)
            name, checked = self.names[id(module)], given.is_filled_by(given.sizes)
            self.noted.append(NotedSize(name, place, index, was, size, labels, times, checked))


def _line(found: Tensor, axis: int) -> Tensor:
    """The labels along an axis, at the first place or the last of all others: wherever there are more."""
    if not found.numel():
        return found.flatten()
    lines = found.movedim(axis, -1).reshape(-1, found.shape[axis])[[0, -1]]
    return lines[int((lines != 0).sum(1).argmax())]


def code_sizes(
    group: UnitGroup, labels: Labels, tables: Sequence[Mapping[str, Tensor]], noted: Sequence[NotedSize]
) -> tuple[CodeSize, ...]:
    """The sizes in the network's code that must fall with the group's units.

    Args:
        group: as it was found, or linked.
        labels: of the trace; `tables`: labels of rows by a module's name.
        noted: the sizes that the code gave.

    Returns:
        One entry a size, and one that falls by 0 for what a unit has along another axis of the same call, a
        head's dimension say; none where a size counts some of the units more often than others, or counts
        them at one call and not at another one in the same place of the code, nor where it may be taken for
        another number there that happens to be equal.
    """
    unit = _units(group, labels, tables)
    held = _of_held(unit, labels, noted)
    found: dict[Key, set[tuple[int, int]]] = defaultdict(set)
    within: list[Key] = []
    touched = _touched(unit, held, labels, noted)
    for index, note in enumerate(noted):
        if index not in touched:  # it counts none of the group's units
            found[note.key].add((0, 0))
            continue
        units = _counted(note, unit, held, labels)
        here = units >= 0
        counts = np.bincount(units[here], weights=note.times.numpy()[here], minlength=group.width)
        each = int(counts.min())
        if each != counts.max() and group.width > 1:
            if (counts > 0).sum() > 1:
                return ()
            each = 0  # an axis within a unit
            within.append(note.key)
        stay = note.times.numpy()[~here]  # units of the kind that stay, the one that is spared say
        alike = group.width + len(stay) if each and (stay == each).all() else 0
        found[note.key].add((each, alike if each * alike == note.size else 0))
    if any(len(ways) > 1 for ways in found.values()):
        return ()
    sizes = [CodeSize(*key, each, units) for key, ways in found.items() for each, units in ways if each]
    places = {(one.module, one.place) for one in sizes}
    falling = {(one.module, one.place, one.index) for one in sizes}
    lengths = [note for note in noted if len(note.labels) < 2 and not note.checked]  # or a number of examples
    free = {(note.module, note.place, note.index) for note in lengths}
    if falling & free:
        return ()
    return (*sizes, *(CodeSize(*key, 0, 0) for key in dict.fromkeys(within) if key[:2] in places))


def _touched(
    unit: np.ndarray, held: Mapping[int, int], labels: Labels, noted: Sequence[NotedSize]
) -> set[int]:
    """Which of the notes count units of the group, or may."""
    if not noted:
        return set()
    known = torch.cat([note.labels for note in noted])
    of = np.repeat(np.arange(len(noted)), [len(note.labels) for note in noted])
    here = unit[labels.roots(known.clamp(min=0)).numpy()] >= 0
    return set(of[here | ((known < 0).numpy() & bool(held))].tolist())


def _units(group: UnitGroup, labels: Labels, tables: Sequence[Mapping[str, Tensor]]) -> np.ndarray:
    """The unit behind each label, -1 where none of the group's is."""
    out = np.full(labels.count_all(), -1)
    for writer in group.writers:
        rows = next((table[writer.module] for table in tables if writer.module in table), None)
        if rows is not None:
            roots = labels.roots(rows[writer.rows]).numpy()  # (m, rows a unit)
            out[roots] = np.arange(group.width)[:, None]
    out[0] = -1
    return out


def _counted(note: NotedSize, unit: np.ndarray, held: Mapping[int, int], labels: Labels) -> np.ndarray:
    """The unit that each of the note's labels is of, -1 where it is none of the group's."""
    known = note.labels.numpy()
    units = np.where(known > 0, unit[labels.roots(note.labels).clamp(min=0).numpy()], -1)
    if held and (known < 0).any():
        units = np.array([held.get(k, u) for k, u in zip(known.tolist(), units.tolist(), strict=True)])
    return units


def _of_held(unit: np.ndarray, labels: Labels, noted: Sequence[NotedSize]) -> dict[int, int]:
    """The unit that each entry of a bare parameter met, by the entry's label, of those that sizes count."""
    wanted = [note.labels[note.labels < 0] for note in noted]
    if not labels.links or not any(map(len, wanted)):
        return {}
    pairs = np.concatenate(labels.links)
    pairs = pairs[np.isin(pairs[:, 0], -torch.cat(wanted).numpy())]
    units = unit[labels.roots(torch.from_numpy(pairs[:, 1].copy())).numpy()]
    return {-entry: at for entry, at in zip(pairs[:, 0].tolist(), units.tolist(), strict=True) if at >= 0}
