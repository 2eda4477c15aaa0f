"""Calibration and evaluation data as batches: tensors, DataLoaders and lists look alike from here on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from workbench.data.arrays import as_tensor
from workbench.data.legend import NOTHING_KNOWN, Legend, legend_of
from workbench.data.randomness import each_of
from workbench.network.running import batch_length, mapped, tensors_of

BATCH_SIZE = 256
IGNORED = -100  # a target that does not count; torch's own mark
TARGET_KEYS = ("labels", "label", "targets", "target")


@dataclass(frozen=True, eq=False)
class Batches:
    """Whole tensors cut into batches, as often as one likes: iterating gives (inputs, targets) pairs.

    `inputs` is (n, …), or several such tensors in a tuple or by name in a dictionary; `targets` (n, …) or
    None; the last batch may be smaller. ``len()`` is the number of batches, `.examples` is n. `mask_rule`
    says which positions count, see `measure.positions`; `legend` how a person reads examples.

    Raises ValueError where the lengths differ, there is no example, or `batch_size` is below 1.
    """

    inputs: Any
    targets: Tensor | None = None
    batch_size: int = BATCH_SIZE
    mask_rule: Any = None
    legend: Legend = NOTHING_KNOWN
    draws_nothing: ClassVar[bool] = True  # iterating, for `each_of`

    def __post_init__(self) -> None:
        lengths = {len(t) if t.dim() else 0 for t in tensors_of(self.inputs)}
        if len(lengths) > 1:
            raise ValueError(
                f"inputs of {', '.join(map(str, sorted(lengths)))} examples were given: one length is "
                "needed; a batch alone, as of a graph, is [{…}]"
            )
        if self.targets is not None and len(self.targets) != self.examples:
            raise ValueError(
                f"{self.examples} inputs but {len(self.targets)} targets were given: one each is needed; two "
                "inputs of one batch are [((a, b), None)]"
            )
        if self.examples == 0:
            raise ValueError("the data is empty: give at least one example")
        if self.batch_size < 1:
            raise ValueError(f"the batch size must be 1 or more, got {self.batch_size}")

    @property
    def examples(self) -> int:
        return batch_length(self.inputs)

    def __len__(self) -> int:
        return -(-self.examples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, Tensor | None]]:
        for start in range(0, self.examples, self.batch_size):
            yield self._part(slice(start, start + self.batch_size))

    @property
    def shuffled_count(self) -> int:
        """How many batches `shuffled` gives."""
        alone = self.batch_size > 1 and self.examples % self.batch_size == 1 and len(self) > 1
        return len(self) - alone

    def shuffled(self, generator: torch.Generator) -> Iterator[tuple[Any, Tensor | None]]:
        """The batches of all examples in a new order, drawn from `generator`.

        One example left over goes with the batch before it: alone it has no variance for a batch norm.
        """
        parts = list(torch.randperm(self.examples, generator=generator).split(self.batch_size))
        if len(parts) > self.shuffled_count:
            parts[-2:] = [torch.cat(parts[-2:])]
        for index in parts:
            yield self._part(index)

    def _part(self, which: slice | Tensor) -> tuple[Any, Tensor | None]:
        inputs = mapped(self.inputs, itemgetter(which))
        return inputs, None if self.targets is None else self.targets[which]


class Rewritten:
    """Batches that are written in another form as they come: `form(index, batch)`, by default as they are.

    `mask_rule` as of `Batches`.
    """

    def __init__(self, data: Iterable, form: Callable[[int, Any], Any] | None = None, mask_rule: Any = None):
        self._data, self._form, self.mask_rule = data, form, mask_rule
        self.legend = legend_of(data)

    def __iter__(self) -> Iterator[Any]:
        for index, batch in enumerate(self._data):
            yield batch if self._form is None else self._form(index, batch)

    def __len__(self) -> int:
        return len(self._data)  # type: ignore[arg-type]


def as_batches(data: Any, what: str = "calibration") -> Iterable:
    """`data` as something that can be gone through again and again.

    Accepted: a tensor or NumPy array (n, …), a pair (inputs, targets), a dictionary of tensors by argument
    name (with "labels" as targets), a DataLoader, or any re-iterable of batches. `what` names the data in
    errors.

    Raises ValueError for an iterator that can be read only once, and TypeError for anything else.
    """
    data = _with_tensors(data, what)
    if isinstance(data, Tensor):
        return Batches(data)
    if isinstance(data, Mapping) and data and all(isinstance(part, Tensor) for part in data.values()):
        return Batches(*split_batch(data, 0, what))
    if isinstance(data, tuple) and len(data) == 2 and tensors_of(data[0]) and isinstance(data[1], Tensor):
        return Batches(*data)
    if isinstance(data, Iterator):
        raise ValueError(
            f"the {what} data is a {type(data).__name__}, which can be read only once; give a tensor, a "
            "DataLoader or a list of batches"
        )
    plain = isinstance(data, Iterable) and not isinstance(data, DataLoader)  # whose iter starts workers
    if plain and iter(data) is iter(data):
        raise ValueError(
            f"the {what} data, a {type(data).__name__}, gives the same iterator every time, so it can be "
            "read only once; give a tensor, a DataLoader or a list of batches"
        )
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes, Mapping)):
        raise TypeError(
            f"the {what} data is a {type(data).__name__}; give a tensor, a pair (inputs, targets), a "
            "DataLoader or a list of batches"
        )
    return data


def _with_tensors(data: Any, what: str) -> Any:
    """Arrays as tensors of the same numbers: alone, in tuples and in dictionaries; all else as it is."""
    if isinstance(data, np.ndarray):
        if data.dtype.kind not in "biuf":
            raise TypeError(f"the {what} data is an array of {data.dtype}; give an array of numbers")
        return as_tensor(data, what, narrow=False)
    if isinstance(data, Mapping) and any(isinstance(part, np.ndarray) for part in data.values()):
        return {key: _with_tensors(part, what) for key, part in data.items()}
    if type(data) is tuple or (type(data) is list and any(isinstance(part, np.ndarray) for part in data)):
        return type(data)(_with_tensors(part, what) for part in data)
    return data


def split_batch(batch: Any, index: int, what: str) -> tuple[Any, Tensor | None]:
    """One batch as (inputs, targets or None).

    `batch`: a tensor; (inputs, targets), where several inputs stand in a tuple of their own; or a dictionary
    of arguments, in which "labels", "label", "targets" or "target" are the targets. Raises ValueError naming
    the batch.
    """
    batch = _with_tensors(batch, what)
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, Mapping) and tensors_of(batch):
        named = dict(batch)
        found = [named.pop(key) for key in TARGET_KEYS if key in named]
        return named, found[0] if found else None
    if isinstance(batch, (tuple, list)) and 1 <= len(batch) <= 2:
        inputs, targets = batch[0], batch[1] if len(batch) > 1 else None
        if isinstance(inputs, list):
            inputs = tuple(inputs)
        fits = targets is None or isinstance(targets, Tensor)
        if fits and isinstance(inputs, (Tensor, tuple, Mapping)) and tensors_of(inputs):
            return inputs, targets
    several = f" of {len(batch)} parts" if isinstance(batch, (tuple, list)) else ""
    raise ValueError(
        f"{what} batch {index} is a {type(batch).__name__}{several}; expected a tensor of inputs, (inputs, "
        "targets), or ((first, second, …), targets) for a model of several inputs, or a dictionary"
    )


def pair_hint(model: nn.Module, data: Iterable, what: str = "calibration") -> str:
    """How to write two inputs, where the first batch is a pair and the model takes several; else ''.

    A pair in a list of batches is (inputs, targets), which is not what a model of two inputs wants.
    """
    batch = next(iter(each_of(data)), None)
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2 and all(map(_is_array, batch))
    taken = [
        one.name
        for one in inspect.signature(model.forward).parameters.values()
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    if not pair or len(taken) < 2:
        return ""
    first, second = taken[:2]
    return (
        f" A {what} batch (a, b) of two tensors is read as (inputs, targets), but {type(model).__name__} "
        f"takes {first} and {second}: if both are inputs, write ((a, b), targets) or ((a, b), None), or "
        f"{{{first!r}: a, {second!r}: b}}"
    )


def _is_array(part: Any) -> bool:
    return isinstance(part, (Tensor, np.ndarray))


def first_inputs(data: Iterable, what: str = "calibration") -> Any:
    """The inputs of the first batch. Raises ValueError where the data is empty."""
    for batch in each_of(data):
        inputs, _ = split_batch(batch, 0, what)
        if batch_length(inputs):
            return inputs
    raise ValueError(f"the {what} data is empty: give at least one batch with one example")
