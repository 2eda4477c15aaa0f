"""What a network's outputs are, found by trying: along which axis its classes lie, and whether they are
probabilities."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves

from workbench.network.groups import features_last
from workbench.network.layers import is_linear_layer, kind_of
from workbench.network.modes import Watching
from workbench.network.running import Inputs, call, evaluating, hook_after, main_output

LAYERS = 4  # that are tried, from the last that runs backwards
AXES = (1, -1)
CLEARLY = 2.0  # how many times more the class's own place must rise than any other
_aten = torch.ops.aten
_SQUASHING = {_aten.sigmoid, _aten.sigmoid_, _aten._softmax, _aten.hardsigmoid, _aten.hardsigmoid_}
_LOGARITHMS = {_aten._log_softmax, _aten.log_sigmoid_forward}
_EXPONENTIALS = {_aten.exp, _aten.exp_}
# Of probabilities alone these make probabilities, each with the meaning that it had.
_KEEPING = {
    _aten.clone, _aten._to_copy, _aten.copy_, _aten._reshape_alias, _aten._unsafe_view, _aten.cat,
    _aten.stack, _aten.clamp, _aten.clamp_, _aten.clamp_min, _aten.clamp_max, _aten.index,
    _aten.index_select, _aten.gather, _aten.mean, _aten.flip, _aten.nan_to_num,
}  # fmt: skip


def class_axis(model: nn.Module, inputs: Inputs, outputs: Tensor) -> int | None:
    """The axis of the outputs, 1 or −1, along which the units of the last layer lie; None where none shows.

    One unit after another of a layer with as many units as there are classes is raised: along the right axis,
    and no other, the outputs rise at its own place each time. A softmax behind it, a transpose or a view are
    no matter. `outputs` (n, …): of the shape that the network gives for `inputs`, if in training mode; axes 1
    and −1 are as long as each other.
    """
    count = outputs.shape[1]
    with evaluating(model), torch.no_grad():
        before = main_output(call(model, inputs)).cpu().double()
    layers = _called(model, inputs, lambda output, kind: _units(output, kind) == count)
    for layer in list(reversed(layers))[:LAYERS]:
        profiles = [_rises(model, inputs, before, layer, unit) for unit in sorted({0, count // 2, count - 1})]
        for axis in AXES:
            if all(_stands_out(profile[axis], unit) for unit, profile in profiles):
                return axis
    return None


def ends_in_probabilities(model: nn.Module, inputs: Inputs) -> bool:
    """Whether the outputs are what a sigmoid or softmax gave, or the exponential of a logarithm of one.

    It is followed through views, copies, other types, limits and means, with nothing else after it.
    """
    watch = _Squashed()
    with evaluating(model), torch.no_grad(), watch:
        outputs = main_output(call(model, inputs))
    return _memory(outputs) in watch.made


class _Squashed(Watching):
    """Notes where sigmoids and softmaxes write, and what keeps their numbers as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.made: set[StorageWeakRef] = set()  # by which a tensor is known, and not kept
        self.logarithms: set[StorageWeakRef] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [_memory(t) for t in tree_leaves(args) if isinstance(t, Tensor) and t.is_floating_point()]
        found = func(*args, **(kwargs or {}))
        kind = getattr(func, "overloadpacket", None)
        result = found[0] if isinstance(found, tuple) and found else found
        if not isinstance(result, Tensor):
            return found
        if kind is _aten.copy_:
            given = given[1:]  # what was there before is gone
        if kind in _LOGARITHMS:
            self.logarithms.add(_memory(result))
        elif (
            kind in _SQUASHING
            or (kind in _EXPONENTIALS and given[0] in self.logarithms)
            or (kind in _KEEPING and given and self.made.issuperset(given))
        ):
            self.made.add(_memory(result))
        elif func._schema.is_mutable:  # written over by something else
            self.made.discard(_memory(result))
        return found


def _memory(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def _units(output: Any, kind: str) -> int:
    return features_last(output, kind).shape[-1] if isinstance(output, Tensor) and output.dim() else 0


def _called(model: nn.Module, inputs: Inputs, wanted: Callable[[Tensor, str], bool]) -> list[nn.Module]:
    """The linear layers whose output is `wanted`, in the order of their last calls."""
    order: dict[nn.Module, None] = {}

    def note(module: nn.Module, _args: tuple, _kwargs: dict[str, Any], output: Tensor) -> None:
        if wanted(output, kind_of(module)):
            order.pop(module, None)
            order[module] = None

    with ExitStack() as stack:
        for module in model.modules():
            if is_linear_layer(module):
                stack.callback(hook_after(module, note).remove)
        stack.enter_context(evaluating(model))
        with torch.no_grad():
            call(model, inputs)
    return list(order)


def _rises(
    model: nn.Module, inputs: Inputs, before: Tensor, layer: nn.Module, unit: int
) -> tuple[int, dict[int, Tensor]]:
    """The unit, and how much the outputs rise at every place of each axis where the layer's unit does."""

    def raised(_module: nn.Module, _args: tuple, _kwargs: dict[str, Any], output: Tensor) -> Tensor:
        output = output.clone()
        features_last(output, kind_of(layer))[..., unit] += 1 + output.abs().max()
        return output

    handle = hook_after(layer, raised)
    try:
        with evaluating(model), torch.no_grad():
            change = main_output(call(model, inputs)).cpu().double() - before
    finally:
        handle.remove()
    return unit, {axis: change.movedim(axis, 0).flatten(1).sum(1) for axis in AXES}


def _stands_out(profile: Tensor, unit: int) -> bool:
    others = torch.cat([profile[:unit], profile[unit + 1 :]]).clamp(min=0)
    return bool(profile[unit] > 0) and bool(profile[unit] >= CLEARLY * others.max())
