"""Inputs in other forms than the documented ones, which are tried where these do not go through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, nn

from workbench.data.batches import Rewritten, as_batches, first_inputs, pair_hint, split_batch
from workbench.data.randomness import each_of
from workbench.measure.intake import Intake, taken_by
from workbench.network.running import Inputs
from workbench.session.opening import probed

Form: TypeAlias = "Callable[[Any], Any]"
Passed: TypeAlias = "tuple[Iterable, Inputs, tuple[str, ...]]"


def first_pass(model: nn.Module, data: Iterable, example: Inputs | None) -> Passed:
    """A first forward pass, which says of wrong inputs that they are wrong.

    A batch that does not go through as (inputs, targets) is tried as one argument, a list of images, a named
    tuple or an object of a graph library, and a named tuple by the names of its fields; so is `example`,
    which is all of it inputs and never cut.

    Args:
        model: the network, in evaluation mode.
        data: calibration batches, from `as_batches`.
        example: inputs as the network takes them; None for those of the first batch.

    Returns:
        (the batches as the network takes them, the examples with which groups are proved, the order in which
        they call the modules).

    Raises:
        ValueError: no form goes through, or the data is empty.
    """
    try:
        return _passed(model, data, example)
    except ValueError as error:
        for formed in _formed(data):
            for inputs in [example] if example is None else [example, *_whole(example)]:
                if formed is not data or inputs is not example:
                    with suppress(Exception):
                        return _passed(model, formed, inputs)
        raise ValueError(f"{error}{_hint(model, data, example)}") from error


def as_taken(model: nn.Module, data: Any, what: str) -> Iterable:
    """Batches with targets, as `as_batches` makes them, in the form in which the network takes them.

    `what` names the data in errors.
    """
    batches = as_batches(data, what)
    batch = next(iter(each_of(batches)), None)
    first = batch[0] if isinstance(batch, tuple | list) and 0 < len(batch) < 3 else batch
    if first is None or isinstance(first, Tensor | np.ndarray | dict) or type(first) is tuple:
        return batches
    for formed in _formed(batches):
        with suppress(Exception):
            inputs, targets = split_batch(next(iter(each_of(formed))), 0, what)
            probed(model, Intake(model)(inputs), cut=False)
            if targets is not None:
                return formed
    return batches


def _passed(model: nn.Module, data: Iterable, example: Inputs | None) -> Passed:
    data = taken_by(model, data)
    inputs = Intake(model)(first_inputs(data) if example is None else example)
    return data, *probed(model, inputs, cut=example is None)


def _formed(data: Iterable) -> Iterator[Iterable]:
    """The data as it is, and in every form that its first batch may have."""
    yield data
    for form in _forms(next(iter(each_of(data)), None)):
        yield _written(data, form)


def _forms(batch: Any) -> Iterator[Form]:
    """What a batch may be besides (inputs, targets), as functions that write it so."""
    if isinstance(batch, Tensor | dict) or batch is None:
        return
    if type(batch) is not tuple:
        yield lambda one: ((one,), None)
    if hasattr(batch, "_asdict"):
        yield lambda one: one._asdict()
    if isinstance(batch, tuple | list) and len(batch) in (1, 2) and type(batch[0]) is not tuple:
        yield lambda one: ((one[0],), *one[1:])


def _written(data: Iterable, form: Form) -> Iterable:
    if isinstance(data, (list, tuple)):
        return [form(batch) for batch in data]
    return Rewritten(data, lambda _index, batch: form(batch))


def _whole(example: Any) -> list[Any]:
    """An example that is a list or a tuple: as one argument, by its names, and a list as several."""
    if not isinstance(example, tuple | list):
        return []
    named = [example._asdict()] if hasattr(example, "_asdict") else []
    return [(example,), *named, *([tuple(example)] if isinstance(example, list) else [])]


def _hint(model: nn.Module, data: Iterable, example: Inputs | None) -> str:
    """What to write instead."""
    if example is None:
        return pair_hint(model, data)
    if isinstance(example, tuple | list) and len(example) == 2:
        with suppress(Exception):
            probed(model, Intake(model)(example[0]), cut=False)
            return " It runs on the first part alone: example_input= takes inputs, without targets."
    return ""
