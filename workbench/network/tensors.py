"""The tensors of a network by name, and copies of a network that share them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import suppress

from torch import Tensor, nn

from workbench.network.copying import copied


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer under every name that it has."""
    for name, module in model.named_modules(remove_duplicate=False):
        for key, tensor in own_tensors(module).items():
            yield f"{name}.{key}" if name else key, tensor


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a module without its children's."""
    both = {**module._parameters, **module._buffers}
    return {key: tensor for key, tensor in both.items() if tensor is not None}


def sharing_copy(model: nn.Module) -> nn.Module:
    """A copy whose parameters are others, but lie in the same memory: replace them, never write into them.

    Buffers, which a forward pass may write into, are copied, and so is all else.
    """
    memo: dict[int, object] = {
        id(parameter): nn.Parameter(parameter.data, parameter.requires_grad)
        for parameter in model.parameters()
        if type(parameter) is nn.Parameter
    }
    return copied(model, memo)


def give_back_memory() -> None:
    """Hand memory that is free back to the system, which glibc does not by itself below the last one used."""
    with suppress(OSError, AttributeError, TypeError):  # where there is no glibc
        ctypes.CDLL(None).malloc_trim(0)


def put_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Put each of `tensors` in the place of its name; a parameter shares the memory of the given one.

    A tensor under several names becomes one parameter. Returns the model.
    """
    made: dict[int, nn.Parameter] = {}
    for name, tensor in tensors.items():
        owner, _, key = name.rpartition(".")
        module = model.get_submodule(owner)
        if key in module._buffers:
            module._buffers[key] = tensor.detach().clone()
        else:
            if id(tensor) not in made:
                made[id(tensor)] = nn.Parameter(tensor.detach(), tensor.requires_grad)
            setattr(module, key, made[id(tensor)])
    return model


def with_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of `model` with these tensors, read from a file say, in place of its own.

    A bias that a layer lacks, but may have, is added. Raises ValueError where a tensor does not fit.
    """
    model = sharing_copy(model)
    named = dict(named_tensors(model))
    made: dict[int, nn.Parameter] = {}
    for name, value in weights.items():
        owner, _, key = name.rpartition(".")
        old = named.get(name)
        if old is None and not _lacks_bias(model, owner, key):
            raise ValueError(f"the saved weights do not fit the recipe: there is no place for {name}")
        if old is not None and old.shape != value.shape:
            raise ValueError(
                f"the saved weights do not fit the recipe: {name} is {tuple(value.shape)} there, and "
                f"{tuple(old.shape)} after its steps"
            )
        module = model.get_submodule(owner)
        like = next(module.parameters(recurse=False)) if old is None else old
        new = value.to(like.device, like.dtype, copy=True)
        if key in module._buffers:
            module._buffers[key] = new
        elif id(old) not in made or old is None:
            made[id(old)] = nn.Parameter(new, like.requires_grad)
            setattr(module, key, made[id(old)])
        else:
            setattr(module, key, made[id(old)])
    return model


def _lacks_bias(model: nn.Module, owner: str, key: str) -> bool:
    try:
        places = model.get_submodule(owner)._parameters
    except AttributeError:
        return False
    return key == "bias" and key in places and places[key] is None and places.get("weight") is not None
