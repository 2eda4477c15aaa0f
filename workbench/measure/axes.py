"""Along which axis of the outputs the classes lie, and whether outputs and targets fit at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from workbench.measure.asking import CLASSES, AmbiguousError
from workbench.measure.probing import class_axis
from workbench.measure.targets import squeezed


class MisfitError(ValueError):
    """The targets do not fit the outputs; the message is complete as it is."""


def chosen_axis(
    outputs: Tensor,
    targets: Tensor,
    axes: list[int],
    classes: str | None,
    model: nn.Module | None,
    inputs: Any,
) -> int:
    """The one of `axes`, those that fit, along which the classes lie: as `classes` says, or the network.

    Raises ValueError where that one does not fit; AmbiguousError where nothing tells.
    """
    if classes is not None and outputs.dim() > 2:
        if CLASSES[classes] not in axes:
            raise MisfitError(f"classes={classes!r}, but {misfit(outputs, targets)}")
        return CLASSES[classes]
    return axes[0] if len(axes) == 1 else _asked_axis(outputs, targets, axes, model, inputs)


def _asked_axis(
    outputs: Tensor, targets: Tensor, axes: list[int], model: nn.Module | None, inputs: Any
) -> int:
    """The one of several `axes` along which the network has its classes. Raises AmbiguousError."""
    same = outputs.shape[1] == outputs.shape[-1]
    found = class_axis(model, inputs, outputs) if same and model is not None else None
    if found is None:
        rest = ", …" if outputs.dim() > 3 else ""
        raise AmbiguousError(
            f"outputs {tuple(outputs.shape)} for targets {tuple(targets.shape)} can be read as (n, classes, "
            f"length{rest}) or as (n, length{rest}, classes)",
            "classes='second' or classes='last'",
        )
    return found


def one_hot_axis(
    outputs: Tensor, targets: Iterable[Tensor], classes: str | None, model: nn.Module | None, inputs: Any
) -> int | None:
    """The axis along which exactly one target is 1 everywhere; None where there is none.

    Where it is so along both, the network is asked. Raises AmbiguousError where that does not tell.
    """
    axes = [1, -1] if outputs.dim() > 2 else [1]
    if classes is not None and outputs.dim() > 2:
        axes = [CLASSES[classes]]
    whole = [
        part.reshape(len(part), *outputs.shape[1:])
        for part in targets
        if squeezed(part)[1:] == squeezed(outputs)[1:]
    ]
    found = [
        axis
        for axis in axes
        if outputs.shape[axis] > 1 and all(bool((part.sum(axis) == 1).all()) for part in whole)
    ]
    return _asked_axis(outputs, whole[0], found, model, inputs) if len(found) > 1 else next(iter(found), None)


def like(outputs: Tensor, targets: Tensor) -> Tensor:
    """The targets in the shape of the outputs. Raises ValueError where they are not one for each."""
    if squeezed(outputs) != squeezed(targets):
        raise MisfitError(misfit(outputs, targets))
    return targets.reshape(outputs.shape)


def misfit(outputs: Tensor, targets: Tensor) -> str:
    kind = str(targets.dtype).removeprefix("torch.")
    return (
        f"outputs {tuple(outputs.shape)} do not go with targets {tuple(targets.shape)} of {kind}: expected "
        "classes as whole numbers, one where the outputs have a number a class, along the second or the last "
        "axis; or 0 and 1, or values (floats, or metric='R²'), one for each output"
    )
