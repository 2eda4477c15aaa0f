"""Which positions count among rows that a network has picked, for the experts of a mixture say.

And of which inputs a tensor is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from workbench.network.modes import Watching

aten = torch.ops.aten
# Their results have rows of their own, or in an order of their own.
REORDERING = (
    *("index_put", "index_add", "index_copy", "index_reduce", "scatter", "put", "gather"),
    *("sort", "topk", "flip", "roll", "cat", "stack"),
)
PARTS = {"slice": 1, "split": 2, "split_with_sizes": 2}  # where their argument of the axis stands


class Routing(Watching):
    """Within: follows rows that are picked from tensors whose positions are known, and what is made of them.

    `known(tensor)`: which positions of a tensor count, (…) without its last axis; None where that cannot be
    told. What an operation makes of picked rows, and has as many of, is taken to be theirs in that order.
    `inputs`: the network's, each with its bit.
    """

    def __init__(self, known: Callable[[Tensor], Tensor | None], inputs: Iterable[tuple[Tensor, int]] = ()):
        super().__init__()
        self._known = known
        self._picked = WeakTensorKeyDictionary()
        self._origin = WeakTensorKeyDictionary()
        for tensor, bit in inputs:
            self._origin[tensor] = self._origin.get(tensor, 0) | bit
        self._follows = bool(self._origin)

    def origin(self, tensor: Tensor) -> int | None:
        """The bits of the inputs of which a tensor is made; None where that is not known."""
        return self._origin.get(tensor)

    def of(self, tensor: Tensor) -> Tensor | None:
        """Which rows of a tensor that was made of picked ones count, (rows,); None for any other."""
        return self._picked.get(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._note_origin(out, args, kwargs)
        axis = PARTS.get(func.overloadpacket.__name__)
        if axis is not None and not (args[axis] if len(args) > axis else 0):
            if (flags := self._picked.get(args[0])) is not None:
                self._note(out, func(flags, *args[1:], **(kwargs or {})))
        elif (flags := self._of_result(func.overloadpacket, args)) is not None:
            self._note(out, [flags] * len(tree_leaves(out)))
        return out

    def _note_origin(self, out: Any, args: tuple, kwargs: Any) -> None:
        if not self._follows:
            return
        bits = 0
        for arg in (*args, *(kwargs or {}).values()):
            for leaf in arg if isinstance(arg, list | tuple) else (arg,):
                if isinstance(leaf, Tensor):
                    bits |= self._origin.get(leaf, 0)
        if bits:
            for leaf in tree_leaves(out):
                if isinstance(leaf, Tensor):
                    self._origin[leaf] = bits

    def _note(self, out: Any, flags: Any) -> None:
        """The flags of each tensor of a result that has as many rows."""
        for tensor, one in zip(tree_leaves(out), tree_leaves(flags), strict=True):
            if isinstance(tensor, Tensor) and tensor.dim() and tensor.shape[0] == one.shape[0]:
                self._picked[tensor] = one

    def _of_result(self, operation: Any, args: tuple) -> Tensor | None:
        """Which rows of a result count, where it consists of picked rows."""
        if operation in (aten.index, aten.index_select) and isinstance(args[0], Tensor):
            return self._of_choice(operation, *args[:3])
        if any(part in operation.__name__ for part in REORDERING):
            return None
        rows = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
        return next((flags for one in rows if (flags := self._picked.get(one)) is not None), None)

    def _of_choice(self, operation: Any, source: Tensor, where: Any, index: Any = None) -> Tensor | None:
        flags = self._picked.get(source)
        if flags is None:
            flags = self._known(source)
        if flags is None:
            return None
        flags = flags.to(source.device)
        if operation is aten.index_select:
            axis = where % source.dim()  # it may be counted from the end
            return flags.index_select(axis, index) if axis < flags.dim() else None
        if len(where) > flags.dim() or any(one is None for one in where):
            return None
        chosen = flags[tuple(where)]
        return chosen if chosen.dim() == 1 else None
