"""What a network's readers give without their biases, and what it gives itself, in the order of running.

A bias is added after the product, not taken off again: beside a large one the product's last digits are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.layers import (
    CONVOLUTIONS,
    SPATIAL,
    TRANSPOSED,
    is_conv1d_of_transformers,
    is_linear_layer,
)
from workbench.network.rebuilt.probing import is_wrapped
from workbench.network.running import Inputs, call, hook_after, received, tensors_of

Seen = list[tuple[str, Tensor]]  # a reader's name ('' for the network's own outputs) and what it gave
Look = Callable[[str, Tensor, Tensor], object]  # of a reader's name, what it receives, and what it gives
OWN = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)


def unseen(name: str, given: Tensor, output: Tensor) -> None:
    """Nobody looks."""


@torch.no_grad()
def seen_at(
    model: nn.Module,
    example: Inputs,
    kinds: Mapping[str, str],
    undigested: bool = False,
    instead: Iterable[tuple[str, Tensor]] = (),
    look: Look = unseen,
) -> Seen:
    """One pass: outputs of the readers less their biases, then the network's own.

    Args:
        model: the network; hooks on it are taken off again.
        example: a batch as it takes it.
        kinds: the readers' kinds by their names, as `SPATIAL` lists them.
        undigested: NaN where a bias that had to be taken off again, or the type, left no digit of a product.
        instead: what the readers pass on in place of what they give, as long as names and shapes are these.
        look: is shown each reader's name, what it receives, and what it gives less its bias.
    """
    seen, others = Seen(), iter(instead)

    def note(name: str, weight: Tensor, x: Tensor, output: Tensor) -> Tensor | None:
        if undigested and not output.any() and x.any() and weight.any():
            output = output + torch.nan
        look(name, x, output)
        seen.append((name, output))
        other, tensor = next(others, ("", output))
        return tensor if other == name and tensor.shape == output.shape else None

    with _watched(model, kinds, note):
        own = tensors_of(call(model, example))
    return seen + [("", tensor) for tensor in own]


def shifts(model: nn.Module) -> dict[str, float]:
    """The largest |b| of layers from whose outputs a bias can only be taken off again."""
    layers = {name: module for name, module in model.named_modules() if is_linear_layer(module)}
    biases = {n: m.bias for n, m in layers.items() if isinstance(m.bias, Tensor) and not _adds(m)}
    return {name: float(b.detach().abs().max()) for name, b in biases.items() if b.numel()}


def _adds(module: nn.Module) -> bool:
    """Whether a layer's bias is a parameter that torch's own code, and no other, adds at its end."""
    return module._parameters.get("bias") is not None and _runs_own_code(module)


def is_plain_product(module: nn.Module) -> bool:
    """Whether a layer multiplies by the parameter that is its weight, and neither it nor a hook does more."""
    return module._parameters.get("weight") is not None and _runs_own_code(module) and not is_wrapped(module)


def _runs_own_code(module: nn.Module) -> bool:
    if is_conv1d_of_transformers(module):
        return True
    kind: Any = type(module)
    base: Any = next(base for base in OWN if isinstance(module, base))
    same = kind.forward is base.forward
    return same and getattr(kind, "_conv_forward", None) is getattr(base, "_conv_forward", None)


@contextmanager
def _watched(model: nn.Module, kinds: Mapping[str, str], note: Any) -> Iterator[None]:
    """Within: each reader's output less its bias is noted with what it received."""
    held: dict[str, list[Any]] = {name: [] for name in kinds}

    def before(name: str, module: Any) -> None:
        held[name].append(module.bias)
        if module.bias is not None:  # code that takes the weight alone calls the layer without its bias
            module._parameters["bias"] = torch.zeros_like(module.bias)

    def after(name: str, module: Any, args: tuple, kwargs: dict, output: Tensor) -> Tensor:
        other = note(name, module.weight, received(args, kwargs), output)
        bias = module._parameters["bias"] = held[name].pop()
        output = output if other is None else other
        return output if bias is None else output + _beside(bias, kinds[name])

    def less(name: str, module: Any, args: tuple, kwargs: dict, output: Tensor) -> Tensor | None:
        bias = 0 if module.bias is None else _beside(module.bias, kinds[name])
        other = note(name, module.weight, received(args, kwargs), output - bias)
        return None if other is None else other + bias

    handles: list[Any] = []
    for name in kinds:
        module = model.get_submodule(name)
        adds = _adds(module)
        if adds:
            handles.append(module.register_forward_pre_hook(lambda m, _args, name=name: before(name, m)))
        handles.append(
            hook_after(
                module,
                lambda m, args, kwargs, output, name=name, of=after if adds else less: of(
                    name, m, args, kwargs, output
                ),
                prepend=adds,  # other hooks see the output whole
            )
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for name, biases in held.items():  # of layers in which the network broke
            for bias in biases[:1]:
                model.get_submodule(name)._parameters["bias"] = bias


def _beside(bias: Tensor, kind: str) -> Tensor:
    """(outputs,) → (outputs, 1, …), as a layer's own code adds it."""
    return bias.reshape(-1, *[1] * SPATIAL[kind])


def of_groups(groups: Iterable[Any], kinds: Mapping[str, str]) -> dict[str, str]:
    """The kinds of the readers of some groups, by their names, in the order of `kinds`."""
    names = {reader.module for group in groups for reader in group.readers}
    return {name: kind for name, kind in kinds.items() if name in names}
