"""Labels: which unit stands behind every number of every tensor while a network runs once.

A label is a whole number: positive for a unit (a row of a layer), negative for an entry of a bare parameter
or buffer, 0 for a constant. Units that must go together get one label, by union.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

SWEPT = 1 << 24  # bytes of more labels after which those of tensors that are gone are looked for
LOOKED_AT = 1 << 20  # labels at a time
LARGEST = 2**31 - 1  # label that is kept in four bytes


class Labels:
    """Labels of storages, so that views and writes in place need no care, and what was found of them."""

    def __init__(self, apart: bool = False) -> None:
        """`apart`: where two axes of units are multiplied with each other, the longer one stays as it is."""
        self.apart = apart
        self.crossed: list[int] = []  # labels of units of which two axes were multiplied with each other
        self._parent = np.zeros(1, dtype=np.int64)
        self._storages: dict[int, tuple[torch.UntypedStorage, Tensor]] = {}
        self._held = 0
        self._bytes, self._allowed = 0, SWEPT  # of labels that are kept, and from where on they are swept
        self.factors: list[tuple[np.ndarray, np.ndarray, str]] = []  # held entries times units, and where
        self.links: list[np.ndarray] = []  # pairs (held entry, label)
        self._made_of: list[np.ndarray] = []  # triples: what two held entries make, and the two
        self.reasons: list[tuple[np.ndarray, str]] = []  # why the units of these labels cannot go
        self.work: list[tuple[np.ndarray, np.ndarray]] = []  # multiply–accumulates by label, beside layers
        self.mixers: list[tuple[np.ndarray, str]] = []  # what made one unit of several
        self.waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray, str]] = []  # results, joins of them
        self.cuts: dict[bytes, Any] = {}  # where an axis of units is taken apart
        self._sharing: set[int] = set()  # heads that have one key in common

    # Making and reading

    def fresh(self, count: int) -> Tensor:
        """`count` new labels."""
        start = len(self._parent)
        self._parent = np.concatenate([self._parent, np.arange(start, start + count)])
        return torch.arange(start, start + count)

    def count_all(self) -> int:
        """How many labels there are, 0 among them."""
        return len(self._parent)

    def hold(self, tensor: Tensor, start: int = 0) -> int | None:
        """Give every entry of a bare parameter its own negative label; the first entry's, negated.

        `start`: that of the parameter of which this one is a copy.
        """
        if self._key(tensor) in self._storages or not tensor.numel():
            return None
        if not start:
            start = self._held + 1
            self._held += tensor.numel()
        self.write(tensor, -torch.arange(start, start + tensor.numel()).reshape(tensor.shape))
        return start

    def of(self, tensor: Tensor) -> Tensor | None:
        """Labels of a tensor, in its shape, by root; None where it has none."""
        if tensor.is_complex():  # the two parts of a number are one unit
            both = self.of(torch.view_as_real(tensor.resolve_conj()))
            return None if both is None else self.together(both, [-1]).squeeze(-1)
        labels = self._written(tensor)
        return None if labels is None else self.roots(labels)

    def units_in(self, tensor: Tensor) -> Tensor:
        """Labels of the units behind a tensor's numbers, ascending; 0 where there is anything else.

        Empty where it has no labels. Outputs may be as wide as a vocabulary: they are looked at in parts.
        """
        labels = self.of(tensor) if tensor.is_complex() else self._written(tensor)
        seen = np.zeros(len(self._parent), dtype=bool)
        for part in () if labels is None else labels.reshape(-1).split(LOOKED_AT):
            seen[self._parent[np.maximum(part.numpy(), 0)]] = True
        return torch.from_numpy(np.flatnonzero(seen))

    def _written(self, tensor: Tensor) -> Tensor | None:
        """What was written for a tensor's numbers, in its shape; None where that is nothing but constants."""
        entry = self._storages.get(self._key(tensor))
        if entry is None:
            return None
        companion = entry[1]
        if tensor.numel() and _reach(tensor) > len(companion):
            return None  # seen through another dtype
        labels = companion.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        return labels if bool(labels.any()) else None

    def write(self, tensor: Tensor, labels: Tensor | None) -> None:
        """Label a tensor's numbers; None: constants."""
        if tensor.is_complex():
            parts = None if labels is None else labels.unsqueeze(-1).expand(*tensor.shape, 2)
            self.write(torch.view_as_real(tensor), parts)
            return
        key = self._key(tensor)
        if key not in self._storages:
            if labels is None:
                return
            storage = tensor.untyped_storage()
            size = storage.nbytes() // tensor.element_size()
            self._storages[key] = (storage, torch.zeros(size, dtype=torch.int32))
            self._bytes += 4 * size
        storage, companion = self._storages[key]
        if companion.dtype == torch.int32 and max(self._held, len(self._parent)) > LARGEST:
            companion = companion.long()
            self._storages[key] = (storage, companion)
            self._bytes += 4 * len(companion)
        if tensor.numel() and _reach(tensor) > len(companion):
            return
        target = companion.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        if labels is None:
            target.zero_()
        elif 0 in tensor.stride():  # an expanded tensor: all that share a number share its label
            index = tuple(slice(0, 1) if s == 0 else slice(None) for s in tensor.stride())
            target[index].copy_(labels.expand(tensor.shape)[index])
        else:
            target.copy_(labels.expand(tensor.shape))

    def forgotten(self, now: bool = False) -> list[int]:
        """Storages that nothing else holds any more: their labels go too, `now` or now and then."""
        if self._bytes < self._allowed and not now:
            return []
        gone = [key for key, (storage, _) in self._storages.items() if _holders(storage) == 1]
        for key in gone:
            del self._storages[key]
        self._bytes = sum(labels.nbytes for _, labels in self._storages.values())
        self._allowed = self._bytes + SWEPT
        return gone

    def let_go(self) -> None:
        """Forget all tensors: the network has run, and what was found of its units stays."""
        self._storages, self._bytes = {}, 0

    @staticmethod
    def _key(tensor: Tensor) -> int:
        return tensor.untyped_storage()._cdata

    def roots(self, labels: Tensor) -> Tensor:
        """Every positive label replaced by its root."""
        flat = labels.contiguous().numpy()
        if flat.min(initial=0) == 0:  # no held entries: 0 is its own root
            return torch.from_numpy(np.asarray(self._parent[flat]))
        found = np.asarray(self._parent[np.maximum(flat, 0)])
        np.copyto(found, flat, where=flat < 0)
        return torch.from_numpy(found)

    # Joining

    def union(self, first: np.ndarray, second: np.ndarray, mixer: str = "") -> None:
        """Make one of each pair of positive labels; `mixer` says what mixed them."""
        pairs = distinct(self._parent[first], self._parent[second])
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        if mixer and len(pairs):
            self.mixers.append((pairs[0, :1].copy(), mixer))
        for a, b in pairs:
            low, high = sorted((self._find(a), self._find(b)))
            self._parent[high] = low
        if len(pairs):
            self._flatten()

    def _find(self, label: int) -> int:
        while self._parent[label] != label:
            label = self._parent[label]
        return int(label)

    def _flatten(self) -> None:
        while True:
            grand = self._parent[self._parent]
            if np.array_equal(grand, self._parent):
                return
            self._parent = grand

    def meet(self, first: Tensor, second: Tensor, mixer: str = "") -> Tensor:
        """Labels of what two numbers make together: units join, held entries are linked to their unit.

        Where several units meet one, `mixer` says what mixed them; one by one, as in a sum of two layers,
        they are not mixed. Held entries that meet before a unit does have a label of their own together.
        """
        if first is second or torch.equal(first, second):
            return first
        a, b = first.numpy(), second.numpy()
        both = (a > 0) & (b > 0) & (a != b)
        if both.any():
            pairs = distinct(self._parent[a[both]], self._parent[b[both]])
            one_by_one = all(len(np.unique(side)) == len(pairs) for side in pairs.T)
            self.union(pairs[:, 0], pairs[:, 1], "" if one_by_one else mixer)
        for one, other in ((a, b), (b, a)):
            linked = (one < 0) & (other > 0)
            if linked.any():
                self.link(one[linked], other[linked])
        joined = np.where(a > 0, a, np.where(b > 0, b, np.minimum(a, b)))
        bare = (a < 0) & (b < 0) & (a != b)
        if bare.any():
            joined[bare] = self._made(-a[bare], -b[bare])
        return self.roots(torch.from_numpy(joined))

    def _made(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """New labels of what pairs of held entries make; the unit that meets one of them meets both."""
        pairs = np.stack([np.minimum(first, second), np.maximum(first, second)], 1)
        pairs, places = np.unique(pairs, axis=0, return_inverse=True)
        made = self._held + 1 + np.arange(len(pairs))
        self._held += len(pairs)
        self._made_of.append(np.concatenate([made[:, None], pairs], 1))
        return -made[places.reshape(-1)]

    def link(self, held: np.ndarray, labels: np.ndarray) -> None:
        self.links.append(distinct(-held, labels))

    def multiply(self, held: Tensor, labels: Tensor, where: str) -> None:
        """Note that units are multiplied, in a product of matrices, by what is none: by held entries, say."""
        if bool((held > 0).any()):
            return
        entries, units = (-held[held < 0]).unique(), labels[labels > 0].unique()
        if len(units):
            self.factors.append((entries.numpy(), units.numpy(), where))

    def linked(self) -> np.ndarray:
        """Pairs (entry of a bare parameter or buffer, label of a unit that it goes with), (n, 2)."""
        return self.parts_of(np.concatenate([np.zeros((0, 2), dtype=np.int64), *self.links]))

    def parts_of(self, pairs: np.ndarray) -> np.ndarray:
        """The pairs (held entry, anything) with what several entries make replaced by these, (n, 2)."""
        if not self._made_of:
            return pairs
        made, first, second = np.concatenate(self._made_of).T
        done = []
        while len(pairs):
            at = np.searchsorted(made, pairs[:, 0]).clip(max=len(made) - 1)
            is_made = made[at] == pairs[:, 0]
            done.append(pairs[~is_made])
            at, units = at[is_made], pairs[is_made, 1]
            pairs = distinct(np.concatenate([first[at], second[at]]), np.concatenate([units, units]))
        return np.concatenate([pairs, *done])

    def together(self, labels: Tensor, dims: Sequence[int], mixer: str = "") -> Tensor:
        """One label for all that stand along `dims` (kept, with size 1): what mixes them makes one unit."""
        dims = [d % labels.dim() for d in dims] if labels.dim() else []
        if not dims:
            return labels
        if not labels.numel():  # an expert that gets no token
            return labels.sum(dims, keepdim=True)
        largest = labels.clamp(min=0).amax(dims, keepdim=True)
        spread = largest.expand(labels.shape)
        strangers = (labels > 0) & (labels != spread)
        if bool(strangers.any()):
            self.union(labels[strangers].numpy(), spread[strangers].numpy(), mixer)
        linked = (labels < 0) & (spread > 0)
        if bool(linked.any()):
            self.link(labels[linked].numpy(), spread[linked].numpy())
        # Where held entries alone come together, one of them stands for all.
        return self.roots(torch.where(largest > 0, largest, labels.amin(dims, keepdim=True)))

    def together_if_used(self, labels: Tensor, dims: Sequence[int], mixer: str) -> Tensor:
        """`together` for a result that may be thrown away, as the averaged weights of attention mostly are.

        Labels of its own stand for the result; `settle` joins them to what they are made of.
        """
        dims = [d % labels.dim() for d in dims]
        if not labels.numel():
            return self.together(labels, dims)
        largest = labels.clamp(min=0).amax(dims, keepdim=True)
        spread = largest.expand(labels.shape)
        strangers = (labels > 0) & (labels != spread)
        if not bool(strangers.any()) or bool((labels < 0).any()):
            return self.together(labels, dims, mixer)
        made, places = largest.unique(return_inverse=True)  # what is made of the same has one label
        own = torch.where(made > 0, self.fresh(len(made)), 0)
        first, second = torch.cat([labels[strangers], own]), torch.cat([spread[strangers], made])
        self.waiting.append((own[own > 0].numpy(), first.numpy(), second.numpy(), mixer))
        return own[places]

    def settle(self, used: Tensor) -> None:
        """Join what the results are made of that count: those with a label in `used`, or that met another."""
        if not self.waiting:
            return
        wanted = set(self.roots(used.unique()).tolist())
        while True:
            roots, sizes = np.unique(self._parent, return_counts=True)
            wanted |= set(roots[sizes > 1].tolist())
            alive = [one for one in self.waiting if wanted.intersection(self._parent[one[0]].tolist())]
            self.waiting = [one for one in self.waiting if not any(one is other for other in alive)]
            if not alive:
                return
            for _, first, second, mixer in alive:
                self.union(first, second, mixer)
                wanted |= set(self._parent[first].tolist())

    def is_uniform(self, labels: Tensor, dims: Sequence[int]) -> bool:
        """Whether along `dims` no two different units stand."""
        largest = labels.clamp(min=0).amax(list(dims), keepdim=True)
        return not bool(((labels > 0) & (labels != largest)).any())

    def share(self, heads: Tensor) -> None:
        """Note that these heads have one key in common."""
        self._sharing |= set(heads.unique().tolist())

    def are_sharing(self, labels: Tensor) -> bool:
        """Whether all of these are heads that have one key in common."""
        if not self._sharing:
            return False
        sharing = self.roots(torch.tensor(sorted(self._sharing)))
        return bool(torch.isin(labels, sharing).all())

    def has_several_beside(self, labels: Tensor, others: Tensor) -> bool:
        """Whether each of these meets more than one of the others."""
        pairs = distinct(labels.flatten().numpy(), others.flatten().numpy())
        return bool((np.unique(pairs[:, 0], return_counts=True)[1] > 1).all()) and bool((labels > 0).all())

    def count(self, labels: Tensor, each: int) -> None:
        """Note that every number with one of these labels was made by `each` multiply–accumulates."""
        found, times = torch.unique(labels[labels > 0], return_counts=True)
        self.work.append((found.numpy(), times.numpy() * each))

    def refuse(self, labels: Tensor, reason: str) -> None:
        """Say of every unit in `labels` why it cannot go."""
        units = labels[labels > 0].unique()
        if len(units):
            self.reasons.append((units.numpy(), reason))


def distinct(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The different pairs of positive numbers, (n, 2); repeats mostly stand next to each other."""
    starts = np.ones(len(first), dtype=bool)
    starts[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    base = int(second.max(initial=0)) + 1
    keys = np.unique(first[starts] * base + second[starts])
    return np.stack([keys // base, keys % base], 1)


def _holders(storage: torch.UntypedStorage) -> int:
    """How many hold a storage; more than one where torch does not tell."""
    count: Callable[[int], int] = getattr(torch._C, "_storage_Use_Count", lambda _: 2)
    return count(storage._cdata)


def _reach(tensor: Tensor) -> int:
    """Entries of the storage up to the tensor's last."""
    strides = zip(tensor.shape, tensor.stride(), strict=True)
    return int(tensor.storage_offset()) + 1 + sum((n - 1) * s for n, s in strides)
