"""Numbers of places that code gives to torch: sizes of a view, of the parts of a split, a slice's ends."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn

SHAPING = (Tensor.view, Tensor.reshape, torch.reshape)
UNFOLDING = (Tensor.unflatten, torch.unflatten)
SPLITTING = (Tensor.split, torch.split, Tensor.split_with_sizes, torch.split_with_sizes)
NARROWING = (Tensor.narrow, torch.narrow)
INDEXING = (Tensor.__getitem__,)
NAMES: dict[Any, tuple[str, ...]] = {
    **dict.fromkeys(UNFOLDING, ("input", "dim", "sizes")),
    **dict.fromkeys(SPLITTING, ("input", "sizes", "dim")),
    **dict.fromkeys(NARROWING, ("input", "dim", "start", "length")),
}
GIVING = frozenset((*SHAPING, *INDEXING, *NAMES))
ALSO = {"self": "input", "tensor": "input", "split_size": "sizes"}  # other names of the same
ALSO |= {"split_size_or_sections": "sizes", "split_sizes": "sizes"}
SYMBOLS = "torch.fx.experimental.symbolic_shapes"
INPUT = -1  # stands for what is taken apart, beside the results 0, 1, …
CALLED = nn.Module._call_impl.__code__
PASSED_OVER = tuple(f"{Path(at).parent}/" for at in (torch.__file__, __file__))


@dataclass(frozen=True)
class Counted:
    """Which places along an axis of a result, or of the input, a size counts: from `first` up to `stop`."""

    tensor: int
    axis: int
    first: int | None = None
    stop: int | None = None


@dataclass(frozen=True)
class Given:
    """The sizes of one call, as the code gives them, what each counts, and the call with other ones.

    `whole`: how many places the sizes must fill, None where any would do.
    """

    sizes: list[Any]
    counted: list[Counted]
    arguments: Callable[[list[Any]], tuple[Any, ...]]
    whole: int | None = None

    @property
    def fits(self) -> bool:
        """Whether they fill what is there, none of them left open."""
        if self.whole is None or any(isinstance(size, int) and size < 0 for size in self.sizes):
            return False
        same = math.prod(self.sizes) == self.whole
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
        return _of_unflatten(**given) if func in UNFOLDING else _of_split(**given)
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
    return isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)


def place_of_call(depth: int = 1) -> tuple[nn.Module | None, str]:
    """The module whose forward runs, and where in its code: functions and lines in them, the outermost last.

    `depth`: frames between the caller of torch and this function.
    """
    frame: FrameType | None = sys._getframe(depth + 1)
    lines: list[tuple[CodeType, str]] = []
    while frame is not None and frame.f_code is not CALLED:
        code = frame.f_code
        # Comprehensions have no frames of their own in later versions of Python.
        if not code.co_name.startswith("<") and not code.co_filename.startswith(PASSED_OVER):
            lines.append((code, f"{code.co_name}:{frame.f_lineno - code.co_firstlineno}"))
        frame = frame.f_back
    if frame is None:
        return None, ""
    module = frame.f_locals["self"]
    own = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    ends = [index for index, (code, _) in enumerate(lines) if code is own]  # what wraps it is passed over
    return module, " ".join(line for _, line in (lines[: ends[-1] + 1] if ends else lines))
