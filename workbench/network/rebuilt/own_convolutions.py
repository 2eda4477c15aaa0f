"""Convolutions that someone wrote without torch's modules: found by running them, made plain ones."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor, nn

from workbench.network.layers import CONVOLUTIONS, is_linear_layer
from workbench.network.modes import Watching
from workbench.network.rebuilt.probing import (
    Known,
    agree,
    can_stand_for,
    found_once,
    has_weights_inside,
    in_place_of,
    randomly,
    with_random_parameters,
)

SIDES = (24, 27, 31)  # pixels a side of a probe: no two alike by a stride


def looks_convolutional(module: nn.Module) -> bool:
    """A module of someone's own with a kernel, perhaps a bias, and no other parameters."""
    kernel, bias = _kernel_and_bias(module)
    return (
        kernel is not None
        and (bias is None or len(bias) == len(kernel))
        and not is_linear_layer(module)
        and not type(module).__module__.startswith("torch.")
        and not has_weights_inside(module)
    )


def as_convolution(module: nn.Module, asked: Collection[str], known: Known) -> nn.Module | None:
    """The plain convolution that computes what `module` does, None where there is none.

    Not where code around asks for what the plain one lacks. `known`: what was found of other layers.
    """
    found = found_once(known, module, _options_and_probe)
    if found is None:
        return None
    options, probe = found
    new = _plain(module, options)
    return new if can_stand_for(module, new, asked, (probe,)) else None


def _options_and_probe(module: nn.Module) -> tuple[dict[str, Any], Tensor] | None:
    """The options of the plain convolution, and an input that both take; None where there is none."""
    mixed = with_random_parameters(module)
    kernel = cast(Tensor, _kernel_and_bias(mixed)[0])
    dims = kernel.dim() - 2
    given = getattr(module, "in_channels", None)
    for channels in dict.fromkeys((given, kernel.shape[1], kernel.shape[0])):
        if not isinstance(channels, int):
            continue
        with suppress(Exception):  # it takes another number of channels
            probes = [randomly((2, channels, *[side] * dims), kernel, side) for side in SIDES]
            options = _options(mixed, probes[0])
            if agree(mixed, _plain(mixed, options), probes):
                return options, probes[0]
    return None


def _kernel_and_bias(module: nn.Module) -> tuple[nn.Parameter | None, nn.Parameter | None]:
    own = [p for p in module._parameters.values() if p is not None and p.is_floating_point()]
    kernels, biases = [p for p in own if 3 <= p.dim() <= 5], [p for p in own if p.dim() == 1]
    if len(kernels) != 1 or len(biases) > 1 or len(own) != len(kernels) + len(biases):
        return None, None
    return kernels[0], biases[0] if biases else None


def _options(module: nn.Module, probe: Tensor) -> dict[str, Any]:
    """The options with which a module convolves the probe. Raises where it does not."""
    own = cast(nn.Parameter, _kernel_and_bias(module)[0])
    seen = _Convolutions()
    with torch.no_grad(), seen:
        module(probe)
    ((_, used, _, stride, padding, dilation, turned, _, groups),) = seen.calls
    if turned or used.shape != own.shape or used.untyped_storage()._cdata != own.untyped_storage()._cdata:
        raise ValueError("it does not convolve with its own weight")
    found = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return {key: tuple(value) if isinstance(value, (list, tuple)) else value for key, value in found.items()}


def _plain(module: nn.Module, options: dict[str, Any]) -> nn.Module:
    """A convolution with the kernel of `module`."""
    kernel, bias = _kernel_and_bias(module)
    own = cast(nn.Parameter, kernel)
    kind: Any = CONVOLUTIONS[own.dim() - 3]
    sizes = (own.shape[1] * options["groups"], own.shape[0], tuple(own.shape[2:]))
    new: Any = kind(*sizes, bias=bias is not None, device="meta", **options)
    new.weight = own
    if bias is not None:
        new.bias = bias
    return in_place_of(module, new)


class _Convolutions(Watching):
    """Notes the arguments of convolutions that run."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.calls.append(args)
        return func(*args, **(kwargs or {}))
