"""The evidence of the Taylor criterion: activation × gradient of the task loss, a unit at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any

import torch
from torch import Tensor, nn

from workbench.data.batches import as_batches, split_batch
from workbench.data.progress import Cancelled, Progress
from workbench.data.randomness import batch_count, each_of
from workbench.measure.intake import Intake
from workbench.measure.passes import ActivationError
from workbench.measure.positions import Positions, Visible
from workbench.measure.reading import Loss, loss_for, passes_over_marks
from workbench.network.copying import copied
from workbench.network.groups import UnitGroup
from workbench.network.running import batch_length, call, main_output, one_line, received, tensors_of


def measure_taylor(
    model: nn.Module,
    groups: Sequence[UnitGroup],
    data: Iterable,
    loss: Loss | None = None,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> dict[str, Tensor]:
    """|mean of gradient × activation| of every unit, (m,) float64 by group name (Molchanov et al. 2017).

    `data` gives (inputs, targets). `loss`: by default the one that goes with the targets (`Reading.loss`),
    the mean over all that count, however they are cut into batches; a user's own is the mean over examples.
    Positions that an attention mask hides add nothing, nor do their targets (`positions`).
    Each reader's gradient is its own, also where several read one tensor, and the terms of all readers, and
    of all calls of one, are added before the absolute value: that is the first-order change of the loss where
    the unit goes. The model is copied, run in evaluation mode and not changed.

    Raises ValueError where the data is empty or ends before all it promises, targets are missing or none
    counts, a batch has NaN or Inf (the batch is named) or does not fit; Cancelled.
    """
    prunable = [group for group in groups if group.prunable]
    own = copied(model).eval()
    for parameter in own.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    sums = {group.name: torch.zeros(group.width, dtype=torch.float64) for group in prunable}
    data, counted, count, intake, objective = as_batches(data), 0, 0, Intake(model), None
    positions = Positions.of_data(own, data)
    with _aliases(own, {reader.module for group in prunable for reader in group.readers}) as seen:
        for index, batch in enumerate(each_of(data, "training")):
            if cancel is not None and cancel.is_set():
                raise Cancelled(f"measuring gradients was cancelled after {index} batches")
            inputs, targets = _labelled(batch, index)
            _check_finite(inputs, targets, index)
            objective = objective or loss_for(loss, model, data, "calibration")
            inputs = intake(inputs)
            visible = positions.of(inputs)
            if batch_length(inputs):
                targets = visible.targets(targets) if passes_over_marks(loss) else targets
                counted += _backward(own, inputs, targets.to(intake.device), index, *objective, visible)
                count += batch_length(inputs)
            _add_terms(sums, prunable, seen, visible)
            for values in seen.values():
                values.clear()
            own.zero_grad(set_to_none=True)
            if progress is not None:
                progress(index + 1, batch_count(data), f"measuring gradients, {count} examples")
    if not count:
        raise ValueError("the training data is empty: give at least one batch of (inputs, targets)")
    if not counted:
        raise ValueError("no target of the training data counts: all are marked as ignored, or hidden")
    for name, total in sums.items():
        if not bool(torch.isfinite(total).all()):
            raise ActivationError(f"the gradients at the readers of {name} have NaN or Inf: check the data")
    return {name: (total / counted).abs() for name, total in sums.items()}


def _add_terms(
    sums: dict[str, Tensor],
    groups: Sequence[UnitGroup],
    seen: Mapping[str, Sequence[Tensor]],
    visible: Visible,
) -> None:
    """Gradient × activation of one batch, added to the sums of every group."""
    for group in groups:
        for reader in group.readers:
            for step, value in enumerate(seen[reader.module]):
                if value.grad is not None:  # else no gradient came by: a part computed a second time
                    product = value.detach() * value.grad
                    terms = visible.counted(product, reader.kind, reader.module, value, step)
                    sums[group.name] += reader.samples(terms).sum(0, dtype=torch.float64).cpu()


@contextmanager
def _aliases(model: nn.Module, layers: Iterable[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Each call of each layer receives a copy of its input of its own, listed here, which keeps its gradient.

    The tensor itself would collect the gradients of all who read it, and may be written to afterwards.
    """
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}

    def watch(name: str) -> Any:
        def pass_on(_module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict] | None:
            value = received(args, kwargs)
            if not (value.requires_grad and torch.is_grad_enabled()):
                return None
            alias = value.clone()
            alias.retain_grad()
            seen[name].append(alias)
            return ((alias, *args[1:]), kwargs) if args else (args, {**kwargs, next(iter(kwargs)): alias})

        return model.get_submodule(name).register_forward_pre_hook(pass_on, with_kwargs=True)

    handles = [watch(name) for name in seen]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _labelled(batch: Any, index: int) -> tuple[Any, Tensor]:
    inputs, targets = split_batch(batch, index, "calibration")
    if targets is None:
        raise ValueError(
            f"batch {index} has no targets; the Taylor criterion needs a task loss: give (inputs, targets) "
            "as training or calibration data"
        )
    return inputs, targets


def _check_finite(inputs: Any, targets: Tensor, index: int) -> None:
    """Refuse NaN in a batch, and Inf, but for the −Inf of a mask."""
    for what, tensors in (("inputs", tensors_of(inputs)), ("targets", [targets])):
        for tensor in tensors:
            numbers = tensor.clamp(min=0) if what == "inputs" and tensor.is_floating_point() else tensor
            if not bool(torch.isfinite(numbers).all()):
                raise ActivationError(f"batch {index} has NaN or Inf in its {what}: remove those examples")


def _backward(
    model: nn.Module,
    inputs: Any,
    targets: Tensor,
    index: int,
    loss: Loss,
    of: Callable[[Tensor, Tensor], int],
    visible: Visible,
) -> int:
    """Gradients of the sum over the targets that count; returns how many there are."""
    try:
        with torch.enable_grad(), visible.followed():
            outputs = main_output(call(model, inputs))
            counted = of(outputs.detach(), targets)
            (loss(outputs, targets) * counted).backward()
    except Exception as error:
        raise ValueError(f"batch {index} does not fit the loss: {one_line(error)}") from error
    return counted
