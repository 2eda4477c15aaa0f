"""What a model takes and returns in words: the name, shape and type of every tensor."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from workbench.network.running import Inputs, placed_tensors, tensors_of


def described(names: list[str], first: Any, second: Any, lengths: tuple[int, int]) -> list[dict[str, Any]]:
    """{"name", "shape", "dtype"} of every tensor in `first`.

    `second` is the same of another batch, and `lengths` are the examples in the two: a size that has changed
    as they did is "batch" in the shape, and "varies" where it has changed otherwise. Tensors are compared by
    their names: a network may return more of them for more examples.
    """

    def size_of(size: int, other: int) -> int | str:
        if size == other:
            return size
        return "batch" if (size, other) == lengths else "varies"

    def shape_of(tensor: Tensor, other: Tensor) -> list[int | str]:
        if tensor.dim() != other.dim():
            return ["varies"] * tensor.dim()
        return [size_of(*sizes) for sizes in zip(tensor.shape, other.shape, strict=True)]

    again = dict(zip(names_of(second), tensors_of(second), strict=True))
    return [
        {
            "name": name,
            "shape": shape_of(tensor, again.get(place, tensor)),
            "dtype": str(tensor.dtype).removeprefix("torch."),
        }
        for name, place, tensor in zip(names, names_of(first), tensors_of(first), strict=True)
    ]


def input_names(model: nn.Module, inputs: Inputs) -> list[str]:
    """One name a tensor, in the order of `tensors_of`: the argument's, with the place in it behind."""
    if isinstance(inputs, Mapping):
        return names_of(inputs)
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    known = [
        name
        for name, parameter in inspect.signature(model.forward).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    known += [f"input_{index}" for index in range(len(known), len(args))]
    return [name for prefix, part in zip(known, args, strict=False) for name in names_of(part, prefix)]


def names_of(value: Any, prefix: str = "") -> list[str]:
    """One name a tensor, in the order of `tensors_of`: keys, fields or positions, one inside another."""
    unnamed = (
        isinstance(value, Collection) and not isinstance(value, Mapping) and not hasattr(value, "_fields")
    )
    start = prefix or ("output" if unnamed or isinstance(value, Tensor) else "")
    return ["_".join(filter(None, (start, *map(str, path)))) for path, _ in placed_tensors(value)]
