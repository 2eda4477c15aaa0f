"""What targets are by themselves: which count, zeros and ones, whole numbers; to which outputs they fit."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from workbench.data.batches import IGNORED

VOID = 255  # the mark of a mask of bytes


def is_ignored(targets: Tensor, classes: int) -> Tensor:
    """Which targets do not count, of as many `classes`."""
    # In a type of its own torch would compare with −100 as that type has it: in bytes that is 156.
    numbers = targets if targets.is_floating_point() else targets.long()
    ignored = numbers == IGNORED
    if _may_be_mask(targets, classes):
        ignored = ignored | (numbers == VOID)
    return ignored


def _may_be_mask(targets: Tensor, classes: int) -> bool:
    """Several targets an example, and none can be class 255."""
    return targets.numel() > len(targets) and classes <= VOID


def are_marks(targets: Tensor) -> bool:
    """All are 0 or 1."""
    return bool(((targets == 0) | (targets == 1)).all())


def are_whole(targets: Tensor) -> bool:
    """No target has a fraction, or is NaN."""
    return not targets.is_floating_point() or bool((targets == targets.trunc()).all())


def has_void_for_yes(parts: Iterable[Tensor], classes: int) -> bool:
    """Whether 255 is there and 1 is not, so that a mask of 0 and 255 may have it for yes."""
    masks = [part for part in parts if _may_be_mask(part, classes)]
    if any(bool((part == 1).any()) for part in masks):
        return False
    return any(bool((part.to(torch.float32) == VOID).any()) for part in masks)


def squeezed(tensor: Tensor) -> tuple[int, ...]:
    """The shape without axes of length 1, the first kept."""
    return (*tensor.shape[:1], *(size for size in tensor.shape[1:] if size != 1))


def fitting_axes(outputs: Tensor, targets: Tensor) -> list[int]:
    """Axes of the outputs, 1 and −1, without which they have the shape of the targets."""
    if outputs.dim() < 2:
        return []
    found = [axis for axis in (1, -1) if squeezed(outputs.select(axis, 0)) == squeezed(targets)]
    return found[:1] if outputs.dim() == 2 or outputs[:1].numel() == 1 else found
