"""Cuts: where a network takes an axis of units apart by its length, so that parts must keep their proportion.

`chunk`, `split` and slices cut an axis into parts; a `view` folds it into a box. What such code does with
fewer units is not known from one run: a cut only says which units may be bound to each other, and a trial
decides.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.network.finding.labels import Labels

SPLITTING = {"split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"}
SLICING = {"slice"}
FOLDING = {"view", "_unsafe_view", "_reshape_alias", "_reshape_copy", "unflatten"}
SHUFFLING = {"channel_shuffle", "native_channel_shuffle"}
CUTTING = SPLITTING | SLICING | FOLDING | SHUFFLING


@dataclass(frozen=True)
class Cut:
    """An axis of units that is taken apart.

    `labels`: along the axis, 0 for constants: (C,) where parts of `sizes` lie one behind the other, and the
    box, (n₁, n₂, …), with no `sizes`, where it is folded.
    """

    labels: Tensor
    sizes: tuple[int, ...] = ()

    @property
    def shares(self) -> tuple[int, ...]:
        """In which proportion the parts must lose units.

        One of each where they are alike, also where one is shorter by what a division leaves: `chunk` and
        `split` make their last part of the rest.
        """
        *first, last = self.sizes
        if max(self.sizes) - min(self.sizes) <= 1 or (
            len(set(first)) == 1 and first[0] / 2 < last < first[0]
        ):
            return (1,) * len(self.sizes)
        return tuple(size // math.gcd(*self.sizes) for size in self.sizes)


def note_cut(
    labels: Labels, name: str, given: Mapping[str, Any], found: Tensor, outputs: list[Tensor]
) -> None:
    """Remember how the operation `name` takes apart a tensor with labels `found`, if it does so to units."""
    if not found.dim() or not outputs:
        return
    if name in FOLDING:
        for cut in _folds(found, outputs[0]):
            _remember(labels, cut)
        return
    axis = 1 if name in SHUFFLING else int(given.get("dim", 0)) % found.dim()
    along = _along(found, [axis])
    length = len(along)
    if name in SHUFFLING:
        groups = int(given["groups"])
        _remember(labels, Cut(along.reshape(groups, length // groups)))
    elif name in SPLITTING:
        _remember(labels, Cut(along, tuple(out.shape[axis] for out in outputs)))
    elif given.get("step", 1) != 1:  # every second one: neighbours go together
        step = int(given["step"])
        if length % step == 0:
            _remember(labels, Cut(along.reshape(length // step, step)))
    else:
        start = given.get("start") or 0
        start = start + length if start < 0 else start
        stop = start + outputs[0].shape[axis]
        _remember(labels, Cut(along, tuple(n for n in (start, stop - start, length - stop) if n)))


def note_stack(labels: Labels, given: Mapping[str, Any], out: Tensor) -> None:
    """Remember that stacked tensors must be alike: what stands at one place of each goes together."""
    found = labels.of(out)
    if found is None:
        return
    dim = int(given.get("dim", 0)) % out.dim()
    for axis in (d for d in range(out.dim()) if d != dim and out.shape[d] > 1):
        along = _along(found, sorted((dim, axis))).reshape([out.shape[d] for d in sorted((dim, axis))])
        _remember(labels, Cut(along))


def _along(found: Tensor, axes: list[int]) -> Tensor:
    """The units along an axis, or along several as one."""
    others = [d for d in range(found.dim()) if d not in axes]
    units = found.clamp(min=0)
    return (units.amax(others) if others else units).flatten()


def _folds(found: Tensor, out: Tensor) -> list[Cut]:
    """Axes of the source that a view folds into several, each with its box."""
    cuts = []
    for source, target in _matching_axes(tuple(found.shape), tuple(out.shape)):
        wide = [d for d in source if found.shape[d] > 1]
        box = [out.shape[d] for d in target if out.shape[d] > 1]
        if len(wide) == 1 and len(box) > 1:
            cuts.append(Cut(_along(found, wide).reshape(box)))
    return cuts


def _matching_axes(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of axes of two shapes that hold the same numbers."""
    runs: list[tuple[list[int], list[int]]] = []
    if 0 in old:
        return runs
    i = j = 0
    while i < len(old) and j < len(new):
        a, b = [i], [j]
        while (left := math.prod(old[k] for k in a)) != (right := math.prod(new[k] for k in b)):
            if left < right:
                a.append(a[-1] + 1)
            else:
                b.append(b[-1] + 1)
        runs.append((a, b))
        i, j = a[-1] + 1, b[-1] + 1
    return runs


def _remember(labels: Labels, cut: Cut) -> None:
    flat = cut.labels.flatten()
    if len(cut.sizes) == 1 or len(flat) < 2 or bool((flat == flat[0]).all()):
        return
    shape = repr((tuple(cut.labels.shape), cut.sizes)).encode()
    key = hashlib.sha256(shape + cut.labels.contiguous().numpy().tobytes()).digest()
    labels.cuts.setdefault(key, cut)


def settled(labels: Labels, cut: Cut) -> Cut:
    """The cut with the labels that stand at the end of the trace."""
    return Cut(labels.roots(cut.labels), cut.sizes)


def divided(cut: Cut) -> list[Tensor]:
    """A box by each of its axes, the longest first: (parts, n), where the n columns may go one by one."""
    axes = sorted(range(cut.labels.dim()), key=lambda d: -cut.labels.shape[d])
    return [cut.labels.movedim(d, -1).flatten(0, -2) for d in axes if cut.labels.shape[d] > 1]


def is_kept(cut: Cut) -> bool:
    """Whether units that go one by one leave the cut in proportion anyway."""
    if not cut.sizes:
        return any(bool((table == table[0]).all()) for table in divided(cut))
    shares = cut.shares
    counts = [Counter(part.tolist()) for part in torch.split(cut.labels, list(cut.sizes))]
    units = set().union(*counts) - {0}
    return all(
        count[unit] * shares[0] == counts[0][unit] * share
        for unit in units
        for count, share in zip(counts, shares, strict=True)
    )
