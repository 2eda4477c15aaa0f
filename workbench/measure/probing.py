"""What a network's outputs are, found by trying: along which axis its classes lie, and whether they are
probabilities."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from workbench.network.groups import features_last
from workbench.network.layers import is_linear_layer, kind_of
from workbench.network.running import Inputs, call, evaluating, main_output

LAYERS = 4  # that are tried, from the last that runs backwards
AXES = (1, -1)
CLEARLY = 2.0  # how many times more the class's own place must rise than any other
_SQUASHING = (torch.ops.aten.sigmoid, torch.ops.aten._softmax, torch.ops.aten.hardsigmoid)


def class_axis(model: nn.Module, inputs: Inputs, outputs: Tensor) -> int | None:
    """The axis of the outputs, 1 or −1, along which the units of the last layer lie; None where none shows.

    One unit after another of a layer with as many units as there are classes is raised: along the right axis,
    and no other, the outputs rise at its own place each time. A softmax behind it, a transpose or a view are
    no matter. `outputs` (n, …): what the network gives for `inputs`; axes 1 and −1 are as long as each other.
    """
    count = outputs.shape[1]
    layers = _called(model, inputs, lambda output, kind: _units(output, kind) == count)
    for layer in list(reversed(layers))[:LAYERS]:
        profiles = [
            _rises(model, inputs, outputs, layer, unit) for unit in sorted({0, count // 2, count - 1})
        ]
        for axis in AXES:
            if all(_stands_out(profile[axis], unit) for unit, profile in profiles):
                return axis
    return None


def ends_in_probabilities(model: nn.Module, inputs: Inputs) -> bool:
    """Whether the outputs are what a sigmoid or softmax gave, seen through views, with nothing after it."""
    watch = _Squashed()
    with evaluating(model), torch.no_grad(), watch:
        outputs = main_output(call(model, inputs))
    return any(_same_memory(outputs, made) for made in watch.made)


class _Squashed(TorchDispatchMode):
    """Notes what sigmoids and softmaxes give."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if getattr(func, "overloadpacket", None) in _SQUASHING and isinstance(found, Tensor):
            self.made.append(found)
        return found


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _units(output: Any, kind: str) -> int:
    return features_last(output, kind).shape[-1] if isinstance(output, Tensor) and output.dim() else 0


def _called(model: nn.Module, inputs: Inputs, wanted: Callable[[Tensor, str], bool]) -> list[nn.Module]:
    """The linear layers whose output is `wanted`, in the order of their last calls."""
    order: dict[nn.Module, None] = {}

    def note(module: nn.Module, _args: tuple, output: Any) -> None:
        if wanted(output, kind_of(module)):
            order.pop(module, None)
            order[module] = None

    with ExitStack() as stack:
        for module in model.modules():
            if is_linear_layer(module):
                stack.callback(module.register_forward_hook(note).remove)
        stack.enter_context(evaluating(model))
        with torch.no_grad():
            call(model, inputs)
    return list(order)


def _rises(
    model: nn.Module, inputs: Inputs, outputs: Tensor, layer: nn.Module, unit: int
) -> tuple[int, dict[int, Tensor]]:
    """The unit, and how much the outputs rise at every place of each axis where the layer's unit does."""

    def raised(_module: nn.Module, _args: tuple, output: Tensor) -> Tensor:
        output = output.clone()
        features_last(output, kind_of(layer))[..., unit] += 1 + output.abs().max()
        return output

    handle = layer.register_forward_hook(raised)
    try:
        with evaluating(model), torch.no_grad():
            change = main_output(call(model, inputs)).cpu().double() - outputs.cpu().double()
    finally:
        handle.remove()
    return unit, {axis: change.movedim(axis, 0).flatten(1).sum(1) for axis in AXES}


def _stands_out(profile: Tensor, unit: int) -> bool:
    others = torch.cat([profile[:unit], profile[unit + 1 :]]).clamp(min=0)
    return bool(profile[unit] > 0) and bool(profile[unit] >= CLEARLY * others.max())
