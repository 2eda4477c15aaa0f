"""Numbers of places that code gives to torch: sizes of a view, of the parts of a split, a slice's ends."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

SHAPING = (Tensor.view, Tensor.reshape, torch.reshape)
UNFLATTENING = (Tensor.unflatten, torch.unflatten)
SPLITTING = (Tensor.split, torch.split, Tensor.split_with_sizes, torch.split_with_sizes)
NARROWING = (Tensor.narrow, torch.narrow)
INDEXING = (Tensor.__getitem__,)
NAMES: dict[Any, tuple[str, ...]] = {
    **dict.fromkeys(UNFLATTENING, ("input", "dim", "sizes")),
    **dict.fromkeys(SPLITTING, ("input", "sizes", "dim")),
    **dict.fromkeys(NARROWING, ("input", "dim", "start", "length")),
}
GIVING = frozenset((*SHAPING, *INDEXING, *NAMES))
ALSO = {  # other names of the same
    **dict.fromkeys(("self", "tensor"), "input"),
    **dict.fromkeys(("split_size", "split_size_or_sections", "split_sizes"), "sizes"),
}
SYMBOLS = "torch.fx.experimental.symbolic_shapes"
INPUT = -1  # stands for what is taken apart, beside the results 0, 1, …


class Counted(NamedTuple):
    """Which places along an axis of a result, or of the input, a size counts: from `first` up to `stop`."""

    tensor: int
    axis: int
    first: int | None = None
    stop: int | None = None


class Given(NamedTuple):
    """The sizes of one call, as the code gives them, what each counts, and the call with other ones.

    `whole`: how many places the sizes must fill, None where any would do.
    """

    sizes: list[Any]
    counted: list[Counted]
    arguments: Callable[[list[Any]], tuple[Any, ...]]
    whole: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether torch is to find one of them, −1."""
        return any(isinstance(size, int) and size < 0 for size in self.sizes)

    def could_fill(self, sizes: list[Any]) -> bool:
        """Whether torch takes such sizes for what is there, one of them left open or none."""
        if self.whole is None or not all(type(part) is int for part in (self.whole, *sizes)):
            return True  # any would do, or nobody knows
        closed = math.prod(size for size in sizes if size >= 0)
        return closed > 0 and self.whole % closed == 0 if min(sizes) < 0 else closed == self.whole

    def is_filled_by(self, sizes: list[Any]) -> bool:
        """Whether other sizes in their place fill what is there, none of them left open."""
        if self.whole is None or self.is_open:
            return False
        same = math.prod(sizes) == self.whole
        # Where a program is written sizes are symbols: to ask one would fix it. Their module is loaded then.
        return same if isinstance(same, bool) else sys.modules[SYMBOLS].statically_known_true(same)


def given_sizes(func: Any, args: tuple, kwargs: dict[str, Any]) -> Given | None:
    """What a call of a torch function is given, None where it is given no numbers of places."""
    if func not in GIVING:
        return None
    try:
        if func in SHAPING:
            return _of_shape(*args, **kwargs)
        if func in INDEXING:
            return _of_slices(*args)
        given = dict(zip(NAMES[func], args, strict=False)) | {ALSO.get(k, k): v for k, v in kwargs.items()}
        if func in NARROWING:
            return _of_narrow(**given) if _is_size(given["start"]) else None
        return _of_unflatten(**given) if func in UNFLATTENING else _of_split(**given)
    except Exception:  # given in no way that torch takes: it says so itself
        return None


def input_of(args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """The tensor that is taken apart."""
    return args[0] if args else next(value for value in kwargs.values() if isinstance(value, Tensor))


def _of_shape(input: Tensor, *given: Any, shape: Any = None, size: Any = None) -> Given | None:
    one = shape or size or (given[0] if len(given) == 1 else given)
    sizes = list(one) if isinstance(one, (tuple, list)) else [one]
    if not sizes or not all(map(_is_size, sizes)):
        return None  # a view as another type
    counted = [Counted(0, axis) for axis in range(len(sizes))]
    return Given(sizes, counted, lambda new: (input, tuple(new)), input.numel())


def _of_unflatten(input: Tensor, dim: int, sizes: Any) -> Given | None:
    if not isinstance(dim, int) or not all(map(_is_size, sizes)):
        return None  # named axes
    axis = dim % input.dim()
    counted = [Counted(0, axis + index) for index in range(len(sizes))]
    return Given(list(sizes), counted, lambda new: (input, dim, tuple(new)), input.shape[axis])


def _of_split(input: Tensor, sizes: Any, dim: int = 0) -> Given:
    axis = dim % input.dim()
    if _is_size(sizes):
        return Given([sizes], [Counted(0, axis)], lambda new: (input, new[0], dim))
    counted = [Counted(part, axis) for part in range(len(sizes))]
    return Given(list(sizes), counted, lambda new: (input, list(new), dim))


def _of_narrow(input: Tensor, dim: int, start: int, length: int) -> Given:
    axis = dim % input.dim()
    counted = [Counted(INPUT, axis, 0, start), Counted(0, axis)]
    return Given([start, length], counted, lambda new: (input, dim, *new))


def _of_slices(tensor: Tensor, index: Any) -> Given | None:
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(not (part is None or part is ... or _is_size(part) or isinstance(part, slice)) for part in parts):
        return None
    sizes: list[Any] = []
    counted: list[Counted] = []
    ends: list[tuple[int, str]] = []
    behind = sum(part is not None and part is not ... for part in parts)
    axis = 0
    for at, part in enumerate(parts):
        if part is ...:
            axis = tensor.dim() - (behind - axis)
        elif part is not None:
            for end in ("start", "stop") if isinstance(part, slice) and part.step in (None, 1) else ():
                size = getattr(part, end)
                if isinstance(size, int) and size:
                    sizes, ends = [*sizes, size], [*ends, (at, end)]
                    counted.append(Counted(INPUT, axis, *((0, size) if size > 0 else (size, None))))
            axis += 1
    return Given(sizes, counted, lambda new: (tensor, _cut(index, ends, new))) if sizes else None


def _cut(index: Any, ends: list[tuple[int, str]], new: list[Any]) -> Any:
    """The index with other ends of its slices."""
    parts = list(index) if isinstance(index, tuple) else [index]
    for (at, end), size in zip(ends, new, strict=True):
        part = parts[at]
        parts[at] = slice(size, part.stop) if end == "start" else slice(part.start, size)
    return tuple(parts) if isinstance(index, tuple) else parts[0]


def _is_size(value: Any) -> bool:
    return type(value) is int or (isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool))
