"""Which layers use each unit: units of one signature, used equally often by the same layers, are alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Use = tuple[str, Any]  # ("writer" | "norm" | "reader", module) or ("held", (module, tensor, dim))


class Alike:
    """Units of one signature: `uses`, the entries of each use by unit, in the order in which they came.

    Each entry of `uses` is (units, indices), the indices of one unit in ascending order of coming.
    """

    def __init__(self, uses: Mapping[Use, tuple[np.ndarray, np.ndarray]]):
        self.uses = uses

    def in_order_of(self, use: Use) -> np.ndarray:
        """The units, (m,), in the order of the first index that each has in a use."""
        units, at = self.uses[use]
        _, first = np.unique(units, return_index=True)
        first = np.sort(first)
        return units[first[np.argsort(at[first], kind="stable")]]

    def table(self, use: Use, order: np.ndarray) -> np.ndarray:
        """Indices of the units of `order` in a use, (m, k)."""
        units, at = self.uses[use]
        ascending = np.argsort(order)
        rank = ascending[np.searchsorted(order, units, sorter=ascending)]
        return at[np.argsort(rank, kind="stable")].reshape(len(order), -1)


class Uses:
    """Uses of units, each noted with the indices that the units have there."""

    def __init__(self) -> None:
        self._noted: dict[Use, list[tuple[np.ndarray, np.ndarray]]] = {}

    def note(self, use: Use, units: np.ndarray, at: np.ndarray) -> None:
        """Add to a use that `units[i]`, a positive label, has index `at[i]` there."""
        if len(units):
            self._noted.setdefault(use, []).append((units, at))

    def alike(self, count: int) -> list[Alike]:
        """All units by signature, in the order in which they came; labels are below `count`.

        A signature is refined use by use, so that the work is that of going once through all entries.
        """
        noted = {
            use: (np.concatenate([u for u, _ in parts]), np.concatenate([at for _, at in parts]))
            for use, parts in self._noted.items()
        }
        signature, made = np.zeros(count, dtype=np.int64), 1
        for units, _ in noted.values():
            made = _refined(signature, units, made)
        entries: dict[int, dict[Use, tuple[np.ndarray, np.ndarray]]] = {}
        for use, (units, at) in noted.items():
            for one, here in _parts(signature[units]):
                entries.setdefault(one, {})[use] = (units[here], at[here])
        return [Alike(uses) for uses in entries.values()]


def _refined(signature: np.ndarray, units: np.ndarray, made: int) -> int:
    """Give units of one signature that are as often among `units` a new one from `made` on; the next free."""
    times = np.ones(1, dtype=np.int64)
    if len(units) > 1 and not bool((units[1:] > units[:-1]).all()):
        units, times = np.unique(units, return_counts=True)
    keys = signature[units] * (int(times.max()) + 1) + times
    if bool((keys == keys[0]).all()):
        signature[units] = made
        return made + 1
    _, which = np.unique(keys, return_inverse=True)
    signature[units] = made + which.reshape(-1)
    return made + int(which.max()) + 1


def _parts(of: np.ndarray) -> list[tuple[int, Any]]:
    """(a value, where it stands), the values in the order in which they come first."""
    if bool((of == of[0]).all()):
        return [(int(of[0]), slice(None))]
    order = np.argsort(of, kind="stable")
    pieces = np.split(order, np.flatnonzero(np.diff(of[order])) + 1)
    return [(int(of[piece[0]]), piece) for piece in sorted(pieces, key=lambda piece: int(piece[0]))]
