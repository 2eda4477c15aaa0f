"""What an operation of no known family does to units, found by trying.

Where the numbers of one unit are changed and those of all others are not, the results that change are made
of that unit. An operation that keeps every place to itself shows it in two tries; otherwise units are changed
by the bits of their numbers, 2 log₂ n tries for n of them, and one by one where that tells too little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from workbench.network.finding.labels import Labels
from workbench.network.training import untouched_randomness

# Sizes of what is added, of the largest number, a draw each: one may leave a rounded result as it was, or be
# below a bound from where on a unit weighs on others.
DRAWS = (1.0, 1e4)
ONE_BY_ONE = 512  # units that are tried each for itself


def settle_by_trying(
    labels: Labels, func: Callable, args: tuple, kwargs: Mapping[str, Any], outputs: list[Tensor], mixer: str
) -> bool:
    """Label the results of an operation by what they depend on.

    Args:
        labels: of its inputs; those of its results are written.
        func: the operation, of torch's core operators, with the arguments of the call.
        outputs: the tensors that the call gave.
        mixer: says what mixed units where results are made of several.

    Returns:
        Whether that could be told. Where not, nothing was written: bare parameters among the inputs, results
        that differ when the same is run twice, inputs other than real numbers.
    """
    tensors = [t for t in tree_flatten((args, dict(kwargs)))[0] if isinstance(t, Tensor)]
    known = [labels.of(t) for t in tensors]
    units = torch.cat([k.flatten() for k in known if k is not None]).unique()
    if bool((units < 0).any()):
        return False
    units = units[units > 0]
    if len(units) == 1:  # whatever is made of it
        for out in outputs:
            labels.write(out, units[0].expand(out.shape))
        return True
    try:
        with torch.no_grad(), untouched_randomness():
            trial = _Trial(func, args, kwargs, known)
            found = trial.place_by_place(outputs) or _by_units(labels, trial, units, mixer)
    except Exception:  # it may not take the numbers that are tried: then nothing is told
        return False
    for out, theirs in zip(outputs, found or (), strict=False):
        labels.write(out, theirs)
    return found is not None


class _Trial:
    """An operation that is run again and again with some numbers of its labelled inputs changed."""

    def __init__(self, func: Any, args: tuple, kwargs: Mapping[str, Any], known: list[Tensor | None]):
        self.func, (leaves, self.tree) = func, tree_flatten((args, dict(kwargs)))
        self.generator = torch.Generator().manual_seed(0)
        at = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self.known = {i: k for i, k in zip(at, known, strict=True) if k is not None}
        if any(not leaves[i].is_floating_point() or leaves[i].is_nested for i in self.known):
            raise ValueError("only real numbers can be changed a little")
        # What is written in place holds its result already.
        lost = func._schema.is_mutable
        self.leaves = [
            torch.randn(leaf.shape, generator=self.generator).to(leaf.dtype)
            if lost and i in self.known
            else leaf
            for i, leaf in enumerate(leaves)
        ]
        self.base = self._run({})
        if any(not _same(a, b).all() for a, b in zip(self.base, self._run({}), strict=True)):
            raise ValueError("it gives other results when it is run twice")
        if any(out.is_floating_point() and out.numel() and out.isnan().all() for out in self.base):
            raise ValueError("no result is a number")

    def _run(self, others: Mapping[int, Tensor]) -> list[Tensor]:
        """The results with some of the inputs replaced."""
        leaves = [others.get(i, leaf) for i, leaf in enumerate(self.leaves)]
        leaves = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, leaves)
        args, kwargs = tree_unflatten(leaves, self.tree)
        return [t for t in tree_flatten(self.func(*args, **kwargs))[0] if isinstance(t, Tensor)]

    def changed(self, where: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Which results change where some numbers do: `where` says which, of an input's labels."""
        seen = [torch.zeros(out.shape, dtype=torch.bool) for out in self.base]
        for factor in DRAWS:
            others = {}
            for i, theirs in self.known.items():
                old = self.leaves[i]
                noise = torch.randn(old.shape, generator=self.generator).to(old.dtype)
                spread = old.abs().amax().clamp(min=1.0) if old.numel() else 1.0
                others[i] = torch.where(where(theirs), old + factor * spread * noise, old)
            found = self._run(others)
            if [t.shape for t in found] != [t.shape for t in self.base]:
                raise ValueError("the shape of its results depends on the numbers")
            seen = [s | ~_same(a, b) for s, a, b in zip(seen, found, self.base, strict=True)]
        return seen

    def place_by_place(self, outputs: list[Tensor]) -> list[Tensor] | None:
        """Labels of results that stand where their input stands and know of no other place, else None."""
        if len(self.known) != 1:
            return None
        (theirs,) = self.known.values()
        if any(out.numel() and out.shape != theirs.shape for out in outputs):
            return None
        half = torch.rand(theirs.shape, generator=self.generator) < 0.5
        for mask in (half, ~half):
            if any(
                bool((seen & ~mask).any()) for seen in self.changed(partial(_given, mask)) if seen.numel()
            ):
                return None
        return [theirs if out.numel() else torch.zeros(out.shape, dtype=torch.int64) for out in outputs]


def _by_units(labels: Labels, trial: _Trial, units: Tensor, mixer: str) -> list[Tensor] | None:
    """Labels of the results; units that several results are made of together are joined."""
    count, found = len(units), [torch.zeros(out.shape, dtype=torch.int64) for out in trial.base]
    unclear = [torch.ones(out.shape, dtype=torch.bool) for out in trial.base]
    if count > 16:
        found, unclear = _by_bits(trial, units)
    if not any(bool(u.any()) for u in unclear):
        return found
    if count > ONE_BY_ONE:
        return None
    pairs: list[np.ndarray] = []
    for unit in units.tolist():
        seen = trial.changed(partial(torch.eq, other=unit))
        for at, s in enumerate(seen):
            here = s & unclear[at]
            before = found[at][here & (found[at] > 0)].unique().numpy()
            pairs.append(np.stack([before, np.full(len(before), unit)]))
            found[at] = torch.where(here & (found[at] == 0), unit, found[at])
    joined = np.concatenate(pairs, 1)
    labels.union(joined[0], joined[1], mixer)
    return [labels.roots(f) for f in found]


def _by_bits(trial: _Trial, units: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """(labels of results that are made of one unit, 0 for none; results of which that cannot be told)."""
    code = [torch.zeros(out.shape, dtype=torch.int64) for out in trial.base]
    single = [torch.ones(out.shape, dtype=torch.bool) for out in trial.base]
    touched = [torch.zeros(out.shape, dtype=torch.bool) for out in trial.base]
    for bit in range((len(units) - 1).bit_length()):
        sides = []
        for value in (0, 1):
            marked = units[(torch.arange(len(units)) >> bit) & 1 == value]
            sides.append(trial.changed(partial(torch.isin, test_elements=marked)))
        for at, (zero, one) in enumerate(zip(*sides, strict=True)):
            code[at] |= one.long() << bit
            single[at] &= zero ^ one
            touched[at] |= zero | one
    labelled = [
        torch.where(s & t, units[c.clamp(max=len(units) - 1)], 0)
        for c, s, t in zip(code, single, touched, strict=True)
    ]
    return labelled, [t & ~s for s, t in zip(single, touched, strict=True)]


def _given(mask: Tensor, _labels: Tensor) -> Tensor:
    return mask


def _same(first: Tensor, second: Tensor) -> Tensor:
    """Where two results are the same number, NaN as NaN."""
    same = first == second
    return same | (first.isnan() & second.isnan()) if first.is_floating_point() else same
