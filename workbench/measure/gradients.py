"""The evidence of the Taylor criterion: activation × gradient of the task loss, a unit at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from threading import Event
from typing import Any

import torch
from torch import Tensor, nn

from workbench.data.batches import as_batches, batch_count, split_batch
from workbench.data.progress import Cancelled, Progress
from workbench.measure.evaluation import default_loss
from workbench.network.groups import UnitGroup
from workbench.network.running import call, device_of, main_output, moved, one_line, received


def measure_taylor(
    model: nn.Module,
    groups: Sequence[UnitGroup],
    data: Iterable,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> dict[str, Tensor]:
    """|mean of gradient × activation| of every unit, (m,) float64 by group name (Molchanov et al. 2017).

    `data` gives (inputs, targets). `loss`: by default cross-entropy for whole-number targets, the mean
    squared error for others. A group with several readers adds their terms before the absolute value: that
    is the first-order change of the loss where the unit goes. The model is copied, run in evaluation mode
    and not changed.

    Raises ValueError where targets are missing or a batch does not fit; Cancelled.
    """
    prunable = [group for group in groups if group.prunable]
    device = device_of(model)
    copied = copy.deepcopy(model).eval().requires_grad_(True)
    sums = {group.name: torch.zeros(group.width, dtype=torch.float64) for group in prunable}
    seen: list[tuple[UnitGroup, int, Tensor]] = []
    handles = []
    for group in prunable:
        for index, reader in enumerate(group.readers):

            def note(_m: nn.Module, args: tuple, kwargs: dict, g: UnitGroup = group, i: int = index) -> None:
                value = received(args, kwargs)
                if value.requires_grad:
                    value.retain_grad()
                    seen.append((g, i, value))

            layer = copied.get_submodule(reader.module)
            handles.append(layer.register_forward_pre_hook(note, with_kwargs=True))
    data, count = as_batches(data), 0
    try:
        for index, batch in enumerate(data):
            if cancel is not None and cancel.is_set():
                raise Cancelled(f"measuring gradients was cancelled after {index} batches")
            seen.clear()
            count += _backward(copied, batch, index, loss, device)
            for group, at, value in seen:
                product = value.detach() * (value.grad if value.grad is not None else 0)
                sums[group.name] += group.readers[at].samples(product).sum(0, dtype=torch.float64).cpu()
            copied.zero_grad(set_to_none=True)
            if progress is not None:
                progress(index + 1, batch_count(data), f"measuring gradients, {count} examples")
    finally:
        for handle in handles:
            handle.remove()
    return {name: (total / max(count, 1)).abs() for name, total in sums.items()}


def _backward(model: nn.Module, batch: Any, index: int, loss: Any, device: torch.device) -> int:
    inputs, targets = split_batch(batch, index, "calibration")
    if targets is None:
        raise ValueError(
            f"batch {index} has no targets; the Taylor criterion needs a task loss: give (inputs, targets) "
            "as training or calibration data"
        )
    own = loss or default_loss(targets)
    try:
        with torch.enable_grad():
            value = own(main_output(call(model, moved(inputs, device))), targets.to(device))
            (value * len(targets)).backward()
    except Exception as error:
        raise ValueError(f"batch {index} does not fit the loss: {one_line(error)}") from error
    return len(targets)
