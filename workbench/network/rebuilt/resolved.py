"""Layers whose weight is computed at every call made plain ones, with the weight that they compute.

Weight norm, spectral norm and every other parametrization of torch; convolutions that standardise their
weight in a forward of their own; and linear layers and convolutions that someone wrote without torch's. What
a layer computes is found by running it on random inputs, never by its name, and a plain layer takes its place
only where both give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from workbench.network.duplicating import duplicate
from workbench.network.layers import CONVOLUTIONS, is_linear_layer, linear_around
from workbench.network.modes import Watching
from workbench.network.rebuilt.own_convolutions import as_convolution, looks_convolutional
from workbench.network.rebuilt.probing import (
    Known,
    agree,
    can_stand_for,
    found_once,
    has_weights_inside,
    in_place_of,
    is_wrapped,
    randomly,
    with_random_parameters,
)

PLAIN = (*CONVOLUTIONS, nn.Linear)
SIZES = ((2, 3), (3, 6), (2, 7))  # examples of a probe, and pixels a side beyond the kernel
HOOKS = (WeightNorm, SpectralNorm, prune.BasePruningMethod)


class SamePadded(nn.Conv2d):
    """A convolution that pads as much as its input asks for, so that outputs are ⌈size / stride⌉ a side."""

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of x (batch, channels, height, width), padded at its ends."""
        pads: list[int] = []
        for size, kernel, step, apart in zip(
            x.shape[-2:], self.kernel_size, self.stride, self.dilation, strict=True
        ):
            lack = max((-(-size // step) - 1) * step + (kernel - 1) * apart + 1 - size, 0)
            pads = [lack // 2, lack - lack // 2, *pads]
        return super().forward(functional.pad(x, pads) if any(pads) else x)


def is_resolvable(module: nn.Module) -> bool:
    """Whether `resolved` may have something to do: cheap, and true of a few layers that it leaves."""
    return bool(
        parametrize.is_parametrized(module)
        or any(isinstance(hook, HOOKS) for hook in module._forward_pre_hooks.values())
        or _computes_its_weight(module)
        or _looks_linear(module)
        or looks_convolutional(module)
    )


@torch.no_grad()
def resolved(
    module: nn.Module, asked: Collection[str] = (), tied: bool = False, known: Known | None = None
) -> nn.Module:
    """A plain layer that computes what `module` does, with the same parameters where it computes with those.

    Args:
        module: one that nobody else uses; weights that torch's own utilities make anew at every call are
            fixed in place.
        asked: names of attributes and classes that the code of the modules around it mentions.
        tied: whether another module has one of its parameters, so that no others may take their places.
        known: what was found of other layers; those of one form are tried once.

    Returns:
        The plain layer, or `module` where there is nothing to resolve, or no plain layer does the same.
    """
    if not (tied and is_linear_layer(module)):
        _fixed(module)
    if is_wrapped(module):
        return module
    known = {} if known is None else known
    with suppress(Exception):  # whatever someone's layer does on numbers that it never saw: it is left
        if _computes_its_weight(module) and not tied and "weight" not in asked:
            return _with_its_weight(cast(Any, module), asked, known) or module
        if _looks_linear(module):
            return _as_linear(module, asked, tied, known) or module
        if looks_convolutional(module):
            return as_convolution(module, asked, known) or module
    return module


def _fixed(module: nn.Module) -> None:
    """What torch's utilities compute at every call is computed once, and stays a parameter."""
    if parametrize.is_parametrized(module):
        # torch's own removal takes the weight off the class too, which the given model has as well.
        made = {
            name: (getattr(module, name).detach().clone(), how)
            for name, how in cast(nn.ModuleDict, module.parametrizations).items()
        }
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module._modules["parametrizations"]
        for name, (tensor, how) in made.items():
            if "original" in how._buffers:
                module.register_buffer(name, tensor)
            else:
                learns = any(p.requires_grad for p in how.parameters())
                module.register_parameter(name, nn.Parameter(tensor, learns))
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, (WeightNorm, SpectralNorm)):
            sources = [module._parameters.get(f"{hook.name}_{end}") for end in ("g", "v", "orig")]
            remove = remove_weight_norm if isinstance(hook, WeightNorm) else remove_spectral_norm
            remove(module, hook.name)
            learns = any(source is not None and source.requires_grad for source in sources)
            module.get_parameter(hook.name).requires_grad_(learns)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)


def _computes_its_weight(module: nn.Module) -> bool:
    """A layer of torch with a forward of its own, and nothing inside that has weights."""
    kind = next((kind for kind in (SamePadded, *PLAIN) if isinstance(module, kind)), None)
    return kind is not None and type(module).forward is not kind.forward and not has_weights_inside(module)


def _looks_linear(module: nn.Module) -> bool:
    """A module of someone's own with the parameters of a linear layer and no others."""
    matrix, vector = _matrix_and_vector(module)
    return (
        not is_linear_layer(module)
        and not type(module).__module__.startswith("torch.")
        and matrix is not None
        and (vector is None or len(vector) in matrix.shape)
        and not has_weights_inside(module)
    )


def _matrix_and_vector(module: nn.Module) -> tuple[nn.Parameter | None, nn.Parameter | None]:
    """The only matrix and the only vector among a module's parameters; no matrix where there are others."""
    own = [parameter for parameter in module._parameters.values() if parameter is not None]
    matrices, vectors = ([p for p in own if p.dim() == dim and p.is_floating_point()] for dim in (2, 1))
    if len(matrices) != 1 or len(vectors) > 1 or len(own) > len(matrices) + len(vectors):
        return None, None
    return matrices[0], vectors[0] if vectors else None


def _with_its_weight(module: Any, asked: Collection[str], known: Known) -> nn.Module | None:
    """The plain layer with the weight that a layer computes; None where it computes with its own.

    Nor where a mask holds entries at zero: a plain weight would not, once it is fitted or trained anew.
    Which plain layer is found out with random parameters: those of a network that is not trained may hide it.
    """
    padded = found_once(known, module, _pads_as_asked)
    own = None if padded is None else _used_weight(duplicate(module).eval())
    if padded is None or own is None:
        return None
    new = _plain(module, own, padded)
    return new if can_stand_for(module, new, asked, (_probes(module)[0],)) else None


def _pads_as_asked(module: Any) -> bool | None:
    """Whether the plain layer is a `SamePadded`; None where there is none."""
    mixed = with_random_parameters(module)
    for padded in (False, True) if isinstance(module, nn.Conv2d) else (False,):
        weight = _used_weight(mixed)
        if weight is None or not weight.all():
            return None
        if agree(mixed, _plain(mixed, weight, padded), _probes(mixed)):
            return padded
    return None


def _plain(module: Any, weight: Tensor, padded: bool) -> nn.Module:
    options: dict[str, Any] = {"bias": module.bias is not None, "device": "meta"}
    kind = next(kind for kind in PLAIN if isinstance(module, kind))
    if kind is nn.Linear:
        new: Any = nn.Linear(module.in_features, module.out_features, **options)
    else:
        options |= {key: getattr(module, key) for key in ("stride", "dilation", "groups", "padding_mode")}
        made_of: Any = SamePadded if padded else kind
        sizes = (module.in_channels, module.out_channels, module.kernel_size)
        new = made_of(*sizes, padding=0 if padded else module.padding, **options)
    learns = all(parameter.requires_grad for parameter in module.parameters())
    new.weight = nn.Parameter(weight.detach().clone(), requires_grad=learns)
    if module.bias is not None:
        new.bias = module.bias
    return in_place_of(module, new)


def _as_linear(module: nn.Module, asked: Collection[str], tied: bool, known: Known) -> nn.Module | None:
    """A Linear around the weight of a module that multiplies by it, (outputs, inputs) or turned.

    Not where code around asks for what the Linear lacks or has otherwise.
    """
    turned = found_once(known, module, _is_turned)
    if turned is None or (turned and (tied or "weight" in asked)):
        return None
    new = _around(module, turned)
    probe = _of_features(module, turned)[0]
    return new if can_stand_for(module, new, asked, (probe,)) else None


def _is_turned(module: nn.Module) -> bool | None:
    """Whether a module multiplies by its matrix turned; None where it does neither."""
    mixed = with_random_parameters(module)
    for turned in (False, True):
        matrix, vector = _matrix_and_vector(mixed)
        outputs = cast(Tensor, matrix).shape[1 if turned else 0]
        if vector is not None and len(vector) != outputs:
            continue
        if agree(mixed, _around(mixed, turned), _of_features(mixed, turned)):
            return turned
    return None


def _of_features(module: nn.Module, turned: bool) -> list[Tensor]:
    """Probes with the features that the matrix of a module takes."""
    matrix = cast(Tensor, _matrix_and_vector(module)[0])
    inputs = matrix.shape[0 if turned else 1]
    return [randomly(shape, matrix, 3) for shape in ((3, inputs), (2, 5, inputs))]


def _around(old: nn.Module, turned: bool) -> nn.Module:
    """A Linear with the parameters of `old`; `turned`: these are (inputs, outputs)."""
    matrix, vector = _matrix_and_vector(old)
    weight = cast(nn.Parameter, matrix)
    if turned:
        weight = nn.Parameter(weight.detach().t().contiguous(), requires_grad=weight.requires_grad)
    return in_place_of(old, linear_around(weight, vector))


def _probes(module: Any) -> list[Tensor]:
    if isinstance(module, nn.Linear):
        return [randomly(shape, module.weight, 5) for shape in ((3, module.in_features),)]
    spans = [(k - 1) * apart + 1 for k, apart in zip(module.kernel_size, module.dilation, strict=True)]
    shapes = [(n, module.in_channels, *(span + beyond for span in spans)) for n, beyond in SIZES]
    return [randomly(shape, module.weight, 5 + index) for index, shape in enumerate(shapes)]


def _used_weight(module: Any) -> Tensor | None:
    """The weight of the one product that a layer's forward runs; None where it is the layer's own."""
    seen = _Products()
    with seen:
        module(_probes(module)[0])
    if len(seen.weights) != 1 or seen.weights[0].shape != module.weight.shape:
        return None
    same = seen.weights[0].untyped_storage()._cdata == module.weight.untyped_storage()._cdata
    return None if same else seen.weights[0]


class _Products(Watching):
    """Notes the weights of products that run, as (outputs, inputs, *kernel)."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__  # type: ignore[attr-defined]
        if name == "convolution":
            self.weights.append(args[1])
        elif name in ("mm", "addmm"):
            self.weights.append(args[-1].t())
        return func(*args, **(kwargs or {}))
