"""Running a model, whatever it takes and returns, without leaving traces."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

Inputs: TypeAlias = Tensor | tuple[Any, ...] | dict[str, Any]
"""One batch as a model takes it: a tensor, several in a tuple, or arguments by name in a dictionary."""


def call(model: nn.Module, inputs: Inputs) -> Any:
    """model(inputs), a tuple spread as positions, a dictionary as names."""
    if isinstance(inputs, tuple):
        return model(*inputs)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(inputs)


def mapped(inputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with every tensor changed; what is not a tensor stays."""
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, Mapping):
        return {key: mapped(value, change) for key, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(mapped(value, change) for value in inputs)
    return inputs


def moved(inputs: Any, device: torch.device) -> Any:
    """`inputs` on `device`."""
    return mapped(inputs, lambda tensor: tensor.to(device))


def batch_length(inputs: Inputs) -> int:
    """Examples in a batch: the length of its first tensor; 0 where there is none."""
    first = next((t for t in tensors_of(inputs) if t.dim()), None)
    return 0 if first is None else len(first)


def first_examples(inputs: Inputs, count: int) -> Inputs:
    """The first `count` examples of a batch: every tensor with one row an example is cut."""
    length = batch_length(inputs)
    return mapped(inputs, lambda t: t[:count] if t.dim() and len(t) == length else t)


def joined(parts: Sequence[Inputs]) -> Inputs | None:
    """One batch of several; None where they do not go together.

    They do where every tensor has a row an example and the same shape and type otherwise, and all else in
    the parts is equal.
    """
    trees, lengths = [tree_flatten(part) for part in parts], [batch_length(part) for part in parts]
    if any(spec != trees[0][1] for _, spec in trees):
        return None
    whole = []
    for column in zip(*(leaves for leaves, _ in trees), strict=True):
        if all(isinstance(leaf, Tensor) for leaf in column):
            rows = all(t.dim() and len(t) == length for t, length in zip(column, lengths, strict=True))
            if not rows or len({(t.shape[1:], t.dtype) for t in column}) > 1:
                return None
            whole.append(torch.cat(column))
        elif any(isinstance(leaf, Tensor) or leaf != column[0] for leaf in column):
            return None
        else:
            whole.append(column[0])
    return tree_unflatten(whole, trees[0][1])


def shape_of(inputs: Inputs) -> str:
    """Shapes and types of a batch in words, for an error."""
    if isinstance(inputs, Mapping):
        return ", ".join(f"{key} {shape_of(value)}" for key, value in inputs.items())
    if isinstance(inputs, (tuple, list)):
        return " and ".join(shape_of(value) for value in inputs)
    if isinstance(inputs, Tensor):
        return f"{tuple(inputs.shape)} {str(inputs.dtype).removeprefix('torch.')}"
    return repr(inputs)


def tensors_of(output: Any) -> list[Tensor]:
    """Every tensor in what a model takes or returns, in tuples, dictionaries and dataclasses too."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        output = [getattr(output, field.name) for field in dataclasses.fields(output)]
    if isinstance(output, (list, tuple)):
        return [tensor for part in output for tensor in tensors_of(part)]
    return []


def main_output(output: Any) -> Tensor:
    """The tensor that is scored: the output itself, its `logits`, or the first tensor in it.

    Raises TypeError where there is no tensor at all.
    """
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    found = tensors_of(output)
    if not found:
        raise TypeError(f"the model returns a {type(output).__name__} without a tensor in it")
    return found[0]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within: the model is in evaluation mode. Every module gets back the mode it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def received(args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """What a layer was called with, by position or by name."""
    return args[0] if args else next(iter(kwargs.values()))


def device_of(model: nn.Module) -> torch.device:
    """The one device on which the model's parameters and buffers lie.

    Raises ValueError where there are several, or where the weights hold no data ('meta').
    """
    devices = {t.device for t in (*model.parameters(), *model.buffers())} or {torch.device("cpu")}
    if len(devices) > 1:
        found = ", ".join(sorted(str(d) for d in devices))
        raise ValueError(f"the model lies on several devices ({found}); move it to one with model.to(device)")
    device = devices.pop()
    if device.type == "meta":
        raise ValueError(
            "the model lies on the 'meta' device and has no weights; build it on a real device instead"
        )
    return device


def call_order(model: nn.Module, example_input: Inputs) -> tuple[str, ...]:
    """Names of the modules in the order in which `example_input` calls them, as often as it does.

    Raises ValueError where the example does not go through the model.
    """
    order: list[str] = []
    handles: list[Any] = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(lambda _m, _i, name=name: order.append(name)))
        with torch.no_grad():
            call(model, example_input)
    except Exception as error:
        raise ValueError(
            f"an input of shape {shape_of(example_input)} does not go through the model: {one_line(error)}. "
            "Give an example of the shape the model was trained on."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return tuple(order)


def first_calls(order: Sequence[str]) -> dict[str, int]:
    """Where each module is called first in `order`, as `call_order` gives it."""
    first: dict[str, int] = {}
    for index, name in enumerate(order):
        first.setdefault(name, index)
    return first


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "…"
