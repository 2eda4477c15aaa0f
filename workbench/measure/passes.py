"""Passes over calibration data: every batch through one network or two, every call of one layer handed on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event
from typing import Any

import torch
from torch import nn

from workbench.data.batches import first_inputs, split_batch
from workbench.data.progress import Cancelled, Progress
from workbench.data.randomness import batch_count, each_of
from workbench.network.running import (
    Inputs,
    batch_length,
    call,
    moved,
    one_line,
    shape_of,
    tensors_of,
)


def each_batch(
    data: Iterable,
    device: torch.device,
    what: str,
    run: Callable[[int, Inputs], Any],
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> None:
    """Call `run(index, inputs)` for every batch, its inputs on `device`.

    Raises ValueError where there is no example or the data ends before all it promises, and Cancelled before
    the batch that follows `cancel`.
    """
    total, count = batch_count(data), 0
    for index, batch in enumerate(each_of(data, "calibration")):
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"{what} was cancelled after {index} batches; nothing was changed")
        inputs, _ = split_batch(batch, index, "calibration")
        if batch_length(inputs):
            run(index, moved(inputs, device))
            count += batch_length(inputs)
        if progress is not None:
            progress(index + 1, total, f"{what}, {count} examples")
    if not count:
        raise ValueError("the calibration data is empty: give at least one batch with one example")


def example_count(data: Iterable) -> int:
    """Examples in all batches; where only the number of batches is known, as many in each as in the first."""
    batches = batch_count(data)
    if batches is None:
        return sum(
            batch_length(split_batch(batch, i, "calibration")[0]) for i, batch in enumerate(each_of(data))
        )
    return getattr(data, "examples", None) or batches * batch_length(first_inputs(data))


class ActivationError(ValueError):
    """An activation is NaN or infinite; the message names the batch and the layer."""


def traced(error: ActivationError, inputs: Any, index: int) -> ValueError:
    """The error that says where NaN or Inf came from: the inputs of batch `index`, where they hold any."""
    bad = [t for t in tensors_of(inputs) if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if not bad:
        return error
    if all(bool((t[~torch.isfinite(t)] < 0).all()) for t in bad):
        return ActivationError(
            f"{one_line(error)} (the batch has −Inf in its inputs: in data, remove those examples; a mask "
            "must leave something of every row, since a softmax over nothing but −Inf is NaN)"
        )
    return ValueError(
        f"calibration batch {index} has NaN or Inf in its inputs: remove those examples ({one_line(error)})"
    )


def run_batch(model: nn.Module, inputs: Any, index: int) -> Any:
    """The model's output for calibration batch `index`, whose number and shape errors name.

    Inputs may hold NaN or Inf, as an attention mask does: they are a fault where they reach a reader's
    features, of which the hook there tells by an ActivationError.
    """
    try:
        return call(model, inputs)
    except ActivationError as error:
        raise traced(error, inputs, index) from error
    except Exception as error:
        raise ValueError(
            f"calibration batch {index} of shape {shape_of(inputs)} does not go through the model: "
            f"{one_line(error)}"
        ) from error
