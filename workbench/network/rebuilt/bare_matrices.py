"""Matrices that a module keeps as bare parameters and multiplies by made layers inside of it.

Which parameters these are is read off the module's code: `x @ self.w`, `torch.einsum("ti,oi->to", x, self.w)`
and the like. The code goes on reading `self.w`, which is then a view of the layer's weight; that its products
are calls of the layer is up to `calls.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor, nn

from workbench.network.deriving import derived
from workbench.network.duplicating import is_ordinary
from workbench.network.layers import is_linear_layer
from workbench.network.rebuilt.code_names import names_in_forward
from workbench.network.rebuilt.code_products import Order, multiplied

ENDING = "_layer"
BY_NAME = {"named_parameters", "get_parameter", "_parameters", "state_dict", "__dict__"}  # code that asks so
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class Blocks(nn.Conv1d):
    """A weight of blocks, each for its own part of the features: a convolution in groups, one place wide."""


def bare_matrices(module: nn.Module) -> dict[str, Order]:
    """Parameters of a module's own, by name, by which its code multiplies in one way, and in which."""
    kind: Any = type(module)
    if kind.__module__.startswith("torch.") or is_linear_layer(module) or "forward" in vars(module):
        return {}
    if not is_ordinary(module):  # a way of its own to be copied would know nothing of the layers
        return {}
    own = {
        name: parameter
        for name, parameter in module._parameters.items()
        if parameter is not None
        and parameter.dim() > 1
        and parameter.dtype in FLOATS
        and parameter.numel() > 1
    }
    if not own or names_in_forward(module) & BY_NAME:
        return {}
    shapes = tuple((name, parameter.dim()) for name, parameter in own.items())
    found = multiplied(kind, shapes)
    return {
        name: order
        for name, order in found.items()
        if not hasattr(module, name + ENDING) and _is_matrix(own[name], order)
    }


def _is_matrix(parameter: Tensor, order: Order) -> bool:
    """Neither a vector nor a single block, which is there for all parts of the features."""
    blocks, outputs, inputs = (math.prod(parameter.shape[axis] for axis in part) for part in order)
    return (outputs > 1 or inputs > 1) and (blocks > 1 or not order[0])


def with_layers(module: nn.Module, matrices: dict[str, Order]) -> None:
    """Put layers in the places of bare parameters, in place; the module has them as views of the weights.

    Not where the module's class has something against a class that is made of it.
    """
    own = {name: cast(nn.Parameter, module._parameters[name]) for name in matrices}
    shown = {name: (order, tuple(own[name].shape)) for name, order in matrices.items()}
    with suppress(Exception):
        module.__class__ = _showing(type(module), shown)
    for name, order in matrices.items() if bare_layers(module) else ():
        del module._parameters[name]
        module._modules[name + ENDING] = _layer(own[name], order)


def bare_layers(module: nn.Module) -> dict[str, str]:
    """Names of the layers that stand for bare parameters of a module itself, and of these."""
    return {name + ENDING: name for name in getattr(type(module), "_shown", ())}


def bare_layers_within(model: nn.Module) -> dict[str, str]:
    """The same of all modules inside, with the whole names of the layers."""
    return {
        f"{key}.{layer}" if key else layer: attribute
        for key, module in model.named_modules()
        for layer, attribute in bare_layers(module).items()
    }


@torch.no_grad()
def _layer(parameter: nn.Parameter, order: Order) -> nn.Module:
    blocks, outputs, inputs = (math.prod(parameter.shape[axis] for axis in part) for part in order)
    laid = parameter.permute(*(axis for part in order for axis in part)).reshape(blocks * outputs, inputs)
    if order[0]:
        layer: Any = Blocks(blocks * inputs, blocks * outputs, 1, groups=blocks, bias=False, device="meta")
        laid = laid.unsqueeze(-1)
    else:
        layer = nn.Linear(inputs, outputs, bias=False, device="meta")
    plain = order == ((), (0,), (1,))
    layer.weight = (
        parameter
        if plain
        else nn.Parameter(laid.clone(memory_format=torch.contiguous_format), parameter.requires_grad)
    )
    return layer


def _view(name: str, order: Order, shape: tuple[int, ...]) -> property:
    """The parameter as it was, as a view of the layer's weight.

    Where one side has several axes, heads and their dimension say, the first has become shorter.
    """
    blocks, outputs, inputs = order
    axes = [*blocks, *outputs, *inputs]
    back = [axes.index(axis) for axis in range(len(axes))]

    def sizes(part: tuple[int, ...]) -> tuple[int, ...]:
        return (-1, *(shape[axis] for axis in part[1:]))

    def view(self: nn.Module) -> Tensor:
        weight: Any = self._modules[name + ENDING].weight  # type: ignore[union-attr]
        weight = weight.squeeze(-1) if blocks else weight
        if len(blocks + outputs) > 1:
            weight = weight.unflatten(0, sizes(blocks + outputs))
        if len(inputs) > 1:
            weight = weight.unflatten(-1, sizes(inputs))
        return weight if back == sorted(back) else weight.permute(back)

    return property(view)


def _showing(kind: type, shown: dict[str, tuple[Order, tuple[int, ...]]]) -> type:
    """A class that is called and does as `kind`, with the parameters in `shown` as views of layers."""

    def reduced(self: nn.Module) -> tuple[Callable, tuple, dict]:
        return _empty, (kind, shown), self.__getstate__()

    views = {name: _view(name, *how) for name, how in shown.items()}
    return derived(kind, {"_shown": shown, "__reduce__": reduced} | views)


def _empty(kind: type, shown: dict) -> nn.Module:
    """An instance without attributes, for what unpickles it."""
    made: Any = _showing(kind, shown)
    return made.__new__(made)
