"""What single units look like: their weights, and what a reader receives of them on average."""

from __future__ import annotations

from collections.abc import Iterable
from math import isqrt
from threading import Event
from typing import Any

import torch
from torch import Tensor, nn

from workbench.data.batches import as_batches, split_batch
from workbench.data.progress import Cancelled
from workbench.data.randomness import each_of
from workbench.measure.intake import Intake
from workbench.network.groups import UnitGroup
from workbench.network.layers import SPATIAL, layer_weight
from workbench.network.running import batch_length, call, evaluating, hook_after, received


def unit_weights(model: nn.Module, group: UnitGroup) -> Tensor:
    """The weights that make each unit, as the first writer has them.

    Args:
        model: the network.
        group: of it.

    Returns:
        (m, inputs, *kernel), or (m, rows, inputs) where a unit is several rows of a layer, as a head is;
        (m, 0) where the writer has no weight of the kind.
    """
    writer = group.writers[0]
    module: Any = model.get_submodule(writer.module)
    if not isinstance(getattr(module, "weight", None), Tensor) or module.weight.dim() < 2:
        return torch.zeros(group.width, 0)
    weight = layer_weight(module).detach().cpu()
    rows = writer.rows
    if rows.shape[1] == 1:
        return weight[rows[:, 0]]
    return weight[rows.flatten()].reshape(*rows.shape, -1)


def mean_maps(
    model: nn.Module, group: UnitGroup, data: Iterable, examples: int, cancel: Event | None = None
) -> Tensor | None:
    """What the group's first reader receives of each unit, on average over examples, place by place.

    Args:
        model: run and watched; nobody else does meanwhile.
        group: of it, prunable.
        data: inputs, or (inputs, targets), batch by batch.
        examples: how many at least are looked at, in whole batches, where there are so many.
        cancel: set, it ends the work before the next batch.

    Returns:
        (m, height, width), on the CPU: the places of a convolution's input, or (m, 1, length) of a sequence;
        None where a unit is one number an example, or the places differ from batch to batch.

    Raises:
        Cancelled: `cancel` was set.
    """
    reader, shape = group.readers[0], _Shape()
    total, seen = None, 0

    def look(_module: nn.Module, args: tuple, kwargs: dict) -> None:
        nonlocal total
        found = placed(group, received(args, kwargs).detach())
        total = found if total is None else total + found if total.shape == found.shape else total * torch.nan

    handles = [model.get_submodule(reader.module).register_forward_pre_hook(look, with_kwargs=True)]
    handles.append(hook_after(model.get_submodule(group.writers[-1].module), shape))
    intake, count = Intake(model), 0
    try:
        with evaluating(model), torch.no_grad():
            for index, batch in enumerate(each_of(as_batches(data, "calibration"), "calibration")):
                if cancel is not None and cancel.is_set():
                    raise Cancelled(f"looking at units was cancelled after {index} batches")
                inputs, _ = split_batch(batch, index, "calibration")
                seen += batch_length(inputs)
                call(model, intake(inputs))
                count += 1
                if seen >= examples:
                    break
    finally:
        for handle in handles:
            handle.remove()
    if total is None or not seen or not bool(torch.isfinite(total).all()) or total[0].numel() == 1:
        return None
    return shape.laid(total.cpu() / seen)


def placed(group: UnitGroup, inputs: Tensor) -> Tensor:
    """The sum over a batch of what the first reader receives of each unit, (m, *places)."""
    reader = group.readers[0]
    features = reader.features(inputs)  # (n, *places, m·positions)
    positions = reader.positions
    laid = features.reshape(*features.shape[:-1], group.width, positions).double()
    laid = laid.sum(0) if laid.dim() > 2 else laid[:, None].sum(0)  # (*places, m, positions)
    if SPATIAL[reader.kind] == 3:
        laid = laid.mean(0)  # slices of a volume
    laid = laid.movedim(-2, 0)
    return laid[..., 0] if positions == 1 and laid.dim() > 2 else laid.flatten(1)


class _Shape:
    """Notes the height and width that a writer gives, by which flattened places are laid out again."""

    def __init__(self) -> None:
        self.sides = (0, 0)

    def __call__(self, _module: nn.Module, _args: Any, _kwargs: Any, output: Tensor) -> None:
        if output.dim() == 4:
            self.sides = (output.shape[-2], output.shape[-1])

    def laid(self, maps: Tensor) -> Tensor:
        """(m, *places) as (m, height, width)."""
        if maps.dim() == 3:
            return maps
        count = maps.shape[1]
        if not all(self.sides):
            return maps[:, None]
        height, width = self.sides
        fits = [side for side in range(1, count + 1) if count % side == 0]
        # The sides that come nearest to those of what was pooled and flattened.
        rows = min(
            fits, key=lambda side: (abs(side / (count // side) - height / width), abs(side - isqrt(count)))
        )
        return maps.reshape(len(maps), rows, count // rows)
