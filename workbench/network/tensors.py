"""The tensors of a network by name, and copies of a network that share them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import suppress

import torch
from torch import Tensor, nn

from workbench.network.cached import refresh
from workbench.network.copying import copied

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}  # by the bytes of an element


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer under every name that it has."""
    for name, module in model.named_modules(remove_duplicate=False):
        for key, tensor in own_tensors(module).items():
            yield f"{name}.{key}" if name else key, tensor


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a module without its children's."""
    both = {**module._parameters, **module._buffers}
    return {key: tensor for key, tensor in both.items() if tensor is not None}


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether both hold the same numbers of one type on one device, bit for bit: NaN is NaN, −0 is not 0."""
    if (a.shape, a.dtype, a.device) != (b.shape, b.dtype, b.device):
        return False
    if a.data_ptr() == b.data_ptr() and a.stride() == b.stride():
        return True
    bits = _BITS.get(a.element_size(), torch.uint8)
    return torch.equal(*(one.detach().flatten().view(bits) for one in (a, b)))


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

    A tensor under several names becomes one parameter, or one buffer. Returns the model.
    """
    made: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        owner, _, key = name.rpartition(".")
        module = model.get_submodule(owner)
        is_buffer = key in module._buffers
        if id(tensor) not in made:
            plain = tensor.detach()
            made[id(tensor)] = plain.clone() if is_buffer else nn.Parameter(plain, tensor.requires_grad)
        setattr(module, key, made[id(tensor)])
    refresh(model)
    return model


def with_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of `model` with these tensors, read from a file say, in place of its own.

    A bias that a layer lacks, but may have, is added. Raises ValueError where a tensor does not fit.
    """
    model = sharing_copy(model)
    named = dict(named_tensors(model))
    made: dict[int, Tensor] = {}
    added: set[tuple[nn.Module, str]] = set()  # biases of layers, which may stand under several names
    for name, value in weights.items():
        owner, _, key = name.rpartition(".")
        old = named.get(name)
        if added and (_within(model, owner), key) in added:
            continue
        if old is None and not _lacks_bias(model, owner, key):
            raise ValueError(f"the saved weights do not fit the recipe: there is no place for {name}")
        if old is not None and old.shape != value.shape:
            raise ValueError(
                f"the saved weights do not fit the recipe: {name} is {tuple(value.shape)} there, and "
                f"{tuple(old.shape)} after its steps"
            )
        module = model.get_submodule(owner)
        like = next(module.parameters(recurse=False)) if old is None else old
        if old is None or id(old) not in made:
            new = value.to(like.device, like.dtype, copy=True)
            made[id(old)] = new if key in module._buffers else nn.Parameter(new, like.requires_grad)
        setattr(module, key, made[id(old)])
        if old is None:
            added.add((module, key))
    refresh(model)
    return model


def _within(model: nn.Module, name: str) -> nn.Module | None:
    with suppress(AttributeError):
        return model.get_submodule(name)
    return None


def _lacks_bias(model: nn.Module, owner: str, key: str) -> bool:
    module = _within(model, owner)
    places = {} if module is None else module._parameters
    return key == "bias" and key in places and places[key] is None and places.get("weight") is not None


def sizes_beside(tensor: Tensor) -> Tensor:
    """Of every number the largest one in its column, by absolute value; the tensor's shape.

    Along whichever axis but the first that is the smallest: large numbers in other columns, a mask say, tell
    nothing of how this one was rounded.
    """
    sizes = tensor.abs()
    if not sizes.numel():
        return sizes
    found = sizes.amax().expand_as(sizes)
    for axis in range(1, sizes.dim()):
        others = [other for other in range(sizes.dim()) if other != axis]
        found = torch.minimum(found, sizes.amax(others, keepdim=True))
    return found
