"""Fewer examples of a batch: which of its tensors have a row an example, found by trying.

A mask of as many steps as there are examples, edges between nodes and a table look like batches by their
length. So the network is asked: cut rightly, it runs, and the outputs of few examples are those of more.
Layers of torch that have steps before examples make the first axis doubtful: there too the network is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from workbench.network.running import (
    Inputs,
    batch_length,
    call,
    cut,
    evaluating,
    is_square,
    length_of,
    main_output,
    mapped,
    tensors_of,
    units_of,
)
from workbench.network.training import seed, untouched_randomness

WAYS = 8  # to cut a batch that are tried before it is left whole
Result = TypeVar("Result")
TOLERANCE = 1e-3  # of the largest output: kernels differ with the number of examples


def few_examples(model: nn.Module, inputs: Inputs, count: int) -> Inputs:
    """The first `count` examples of a batch, or all of it where no way to cut it is right.

    A single tensor is cut where the network then runs, but where its first axis is that of steps. Of several,
    those are cut with which the network's outputs for `count` examples are the first ones of its outputs for
    twice as many. The model runs in evaluation mode; random numbers stay as they were.
    """
    units = units_of(inputs)
    if not 0 < count < max(map(length_of, units), default=0):
        return inputs
    with evaluating(model), torch.no_grad(), untouched_randomness():
        if _is_single(units):
            found = _first_rows(model, inputs, count, partial(call, model))
            return inputs if found is None else found[0]
        for length, chosen in _ways(inputs, units):
            if length <= count:
                continue
            few, more = cut(inputs, count, chosen), cut(inputs, 2 * count, chosen)
            if _shapes(few) == _shapes(inputs):
                continue  # a structure of the user's own, which is cut whole or not at all
            with suppress(Exception):  # a way that does not run is not the right one
                first = _outputs(model, few)
                if _agree(first, _outputs(model, more), count, min(2 * count, length)):
                    return few
    return inputs


def on_few(
    model: nn.Module, inputs: Inputs, count: int, run: Callable[[Inputs], Result]
) -> tuple[Inputs, Result]:
    """(`few_examples`, what `run` gives on them). `run` calls the model, and is the trial of a single tensor.

    Raises whatever `run` raises on what `few_examples` gives.
    """
    units = units_of(inputs)
    if _is_single(units) and 0 < count < length_of(units[0]):
        return _first_rows(model, inputs, count, run) or (inputs, run(inputs))
    few = few_examples(model, inputs, count)
    return few, run(few)


def _is_single(units: list) -> bool:
    return len(units) == 1 and isinstance(units[0], Tensor)


def _first_rows(
    model: nn.Module, inputs: Inputs, count: int, run: Callable[[Inputs], Result]
) -> tuple[Inputs, Result] | None:
    """The first rows of a single tensor, and what `run` gives on them; None where that is not right."""
    if not _are_steps(model, inputs, count):
        few = cut(inputs, count, [True])
        with suppress(Exception):  # it does not run on so few
            return few, run(few)
    return None


def _ways(inputs: Inputs, units: list) -> Iterator[tuple[int, list[bool]]]:
    """(the batch's length, what has a row an example), the likeliest first, `WAYS` at most."""
    ways: list[tuple[int, list[bool]]] = []
    for length in dict.fromkeys([batch_length(inputs), *map(length_of, units)]):
        alike = [index for index, unit in enumerate(units) if length_of(unit) == length]
        odd = [index for index in alike if is_square(units[index])]
        for left_out in [[], odd, *([index] for index in reversed(alike)), alike[1:]]:
            chosen = [index in alike and index not in left_out for index in range(len(units))]
            # Rows between all nodes go with the nodes.
            alone = set(alike) > set(odd) and all(index in odd for index in alike if chosen[index])
            if any(chosen) and not alone and (length, chosen) not in ways:
                ways.append((length, chosen))
    yield from ways[:WAYS]


def _are_steps(model: nn.Module, inputs: Inputs, count: int) -> bool:
    """Whether the first axis of a single tensor is that of steps: without the first, the rest are others.

    Asked only where a layer of torch takes steps first.
    """
    if not any(getattr(module, "batch_first", True) is False for module in model.modules()):
        return False
    more = cut(inputs, max(count, 2), [True])
    with suppress(Exception), evaluating(model), torch.no_grad(), untouched_randomness():
        seed(0)
        whole = main_output(call(model, more))
        seed(0)
        rest = main_output(call(model, mapped(more, lambda tensor: tensor[1:])))
        return len(rest) != len(whole) - 1 or not _close(rest.double(), whole[1:].double())
    return False


def _shapes(inputs: Inputs) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors_of(inputs) if not tensor.is_nested]


def _outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    seed(0)
    return tensors_of(call(model, inputs))


def _agree(few: list[Tensor], more: list[Tensor], count: int, larger: int) -> bool:
    """Whether the outputs of `count` examples are the first of those of `larger`; scalars are passed over."""
    for a, b in zip(few, more, strict=False):
        if a.dim() != b.dim() or a.shape[1:] != b.shape[1:]:
            return False
        if not a.dim():
            continue
        if len(a) == count and len(b) == larger:
            b = b[:count]
        a, b = a.double(), b.double()
        if a.shape != b.shape or not _close(a, b):
            return False
    return 0 < len(few) <= len(more)


def _close(a: Tensor, b: Tensor) -> bool:
    a, b = (torch.nan_to_num(t, nan=0.0, posinf=0.0, neginf=0.0) for t in (a, b))
    return not a.numel() or bool((a - b).abs().max() <= TOLERANCE * b.abs().max() + 1e-9)
