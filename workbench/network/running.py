"""Running a model, whatever it takes and returns, without leaving traces."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_flatten, tree_unflatten

Inputs: TypeAlias = Tensor | tuple[Any, ...] | dict[str, Any]
"""One batch as a model takes it: a tensor, several in a tuple, or arguments by name in a dictionary."""


SCORED = ("logits", "out", "output", "prediction", "predictions", "pred", "preds")  # in this order


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
    if isinstance(inputs, PackedSequence):  # its sizes stay on the CPU, as torch asks for
        return inputs._replace(data=change(inputs.data))
    if isinstance(inputs, tuple) and hasattr(inputs, "_make"):
        return inputs._make(mapped(value, change) for value in inputs)
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(mapped(value, change) for value in inputs)
    if not tensors_of(inputs):
        return inputs
    new = copy.copy(inputs)
    for name, part in parts_of(inputs):
        object.__setattr__(new, name, mapped(part, change))
    return new


def moved(inputs: Any, device: torch.device) -> Any:
    """`inputs` on `device`."""
    return mapped(inputs, lambda tensor: tensor.to(device))


def batch_length(inputs: Inputs) -> int:
    """Examples in a batch: the length of its first tensor; 0 where there is none.

    A list that holds an example a tensor counts its tensors. Square matrices, masks or edges between all,
    are passed over where there is another tensor.
    """
    units = units_of(inputs)
    plain = [unit for unit in units if not is_square(unit)]
    return next((length_of(unit) for unit in (*plain, *units) if length_of(unit)), 0)


def cut(inputs: Any, count: int, chosen: Sequence[bool]) -> Any:
    """`inputs` with the first `count` rows, or parts of a list, of the units that are `chosen`, in order."""
    left = iter(chosen)

    def visit(value: Any) -> Any:
        if isinstance(value, Tensor) or is_list_of_examples(value):
            return value[:count] if next(left) else value
        if isinstance(value, Mapping):
            return {key: visit(part) for key, part in value.items()}
        if type(value) in (tuple, list):
            return type(value)(visit(part) for part in value)
        whole = [next(left) for _ in units_of(value)]  # a structure of the user's own is cut whole or not
        return mapped(value, lambda t: t[:count]) if whole and all(whole) else value

    return visit(inputs)


def units_of(inputs: Any) -> list[Any]:
    """What a batch is cut in: its tensors, and lists that hold an example a tensor."""
    if isinstance(inputs, Tensor) or is_list_of_examples(inputs):
        return [inputs]
    if isinstance(inputs, Mapping):
        return [unit for part in inputs.values() for unit in units_of(part)]
    if type(inputs) in (tuple, list):
        return [unit for part in inputs for unit in units_of(part)]
    return tensors_of(inputs)


def is_list_of_examples(value: Any) -> bool:
    """A list with an example in each place: images, sequences of different lengths, dictionaries."""
    if not isinstance(value, list) or not value:
        return False
    if all(isinstance(part, Mapping) for part in value):
        return bool(tensors_of(value))
    if not all(isinstance(part, Tensor) and part.dim() for part in value):
        return False
    lengths = {len(part) for part in value}
    images = {part.dim() for part in value} == {3} and lengths <= {1, 3, 4}
    return images or len(lengths) > 1


def length_of(unit: Any) -> int:
    """Rows of a tensor, parts of a list."""
    return len(unit) if not isinstance(unit, Tensor) or unit.dim() else 0


def is_square(unit: Any) -> bool:
    return isinstance(unit, Tensor) and unit.dim() == 2 and unit.shape[0] == unit.shape[1]


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
    if tensors_of(inputs):
        return f"{type(inputs).__name__} of {' and '.join(shape_of(t) for t in tensors_of(inputs))}"
    return repr(inputs)


def tensors_of(output: Any) -> list[Tensor]:
    """Every tensor in what a model takes or returns, in whatever object it stands.

    Not those that transformers keeps for the network's own next call, its caches.

    Raises:
        TypeError: a generator, whose tensors nobody could see twice.
    """
    return [tensor for _, tensor in placed_tensors(output)]


def placed_tensors(output: Any) -> list[tuple[tuple[Any, ...], Tensor]]:
    """`tensors_of` with the place of each: the keys, fields, positions or attributes that lead to it."""
    found: list[tuple[tuple[Any, ...], Tensor]] = []
    above: set[int] = set()  # objects that hold themselves end there

    def visit(value: Any, path: tuple[Any, ...]) -> None:
        if isinstance(value, Tensor):
            found.append((path, value))
        elif id(value) not in above:
            above.add(id(value))
            for key, part in parts_of(value):
                visit(part, (*path, key))
            above.discard(id(value))

    visit(output, ())
    return found


def parts_of(value: Any) -> list[tuple[Any, Any]]:
    """What stands in a structure, by key, field, position or attribute; nothing in numbers, text and modules.

    Raises:
        TypeError: an iterator, which can be read only once.
    """
    if isinstance(value, Iterator):
        raise TypeError(
            f"a {type(value).__name__} stands among what the network takes or returns, and can be read only "
            "once: use a list or a tuple"
        )
    if isinstance(value, (Tensor, nn.Module, type, str, bytes, np.ndarray, Enum)) or is_cache(value):
        return []
    if isinstance(value, Mapping):
        return list(value.items())
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, Collection):
        return list(enumerate(value))
    if inspect.isroutine(value) or inspect.ismodule(value):
        return []
    slots = [name for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name)]
    return [*((name, getattr(value, name)) for name in slots), *getattr(value, "__dict__", {}).items()]


def _slots(kind: type) -> tuple[str, ...]:
    names = kind.__dict__.get("__slots__", ())
    names = (names,) if isinstance(names, str) else tuple(names)
    return tuple(
        f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
        for name in names
        if name not in ("__dict__", "__weakref__")
    )


def is_cache(value: Any) -> bool:
    """Keys and values that transformers hands to the next call: they follow the network's widths."""
    kinds = type(value).__mro__
    return any(kind.__name__ == "Cache" and kind.__module__.startswith("transformers.") for kind in kinds)


def main_output(output: Any) -> Tensor:
    """The tensor that is scored: the output itself, what it has under one of `SCORED`, or its first tensor.

    A lone number before others, a loss, is passed over. Raises TypeError where there is no tensor at all.
    """
    if isinstance(output, Tensor):
        return output
    for name in SCORED:
        named = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(named, Tensor):
            return named
    found = tensors_of(output)
    if not found:
        raise TypeError(f"the model returns a {type(output).__name__} without a tensor in it")
    return next((tensor for tensor in found if tensor.dim()), found[0])


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


def given_back(output: Any) -> Tensor | None:
    """The tensor that a layer gives, where it gives one: by itself, or in a tuple or list beside Nones."""
    if isinstance(output, (tuple, list)):
        there = [one for one in output if one is not None]
        output = there[0] if len(there) == 1 else None
    return output if isinstance(output, Tensor) else None


def hook_after(layer: nn.Module, hook: Callable[..., Tensor | None], prepend: bool = False) -> Any:
    """`hook(layer, args, kwargs, tensor)` at each call that gives one tensor; what it returns stands in the
    tensor's place from then on. The handle, by which it is taken off again."""

    def seen(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        given = given_back(output)
        other = None if given is None else hook(module, args, kwargs, given)
        if other is None or given is output:
            return other
        places = [None if one is None else other for one in output]
        return type(output)(*places) if hasattr(output, "_fields") else type(output)(places)

    return layer.register_forward_hook(seen, with_kwargs=True, prepend=prepend)


def device_of(model: nn.Module) -> torch.device:
    """The one device on which the model's parameters and buffers lie.

    Raises ValueError where there are several, or where the weights hold no data: those of lazy layers before
    their first call, or on 'meta'.
    """
    refuse_lazy(model)
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


def refuse_lazy(model: nn.Module) -> None:
    """Raises ValueError, naming them, where lazy layers have no weights yet: any run makes random ones."""
    lazy = [
        f"{name or 'the model'} ({type(module).__name__})"
        for name, module in model.named_modules()
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))
        if is_lazy(tensor)
    ]
    if lazy:
        verb = "have" if len(set(lazy)) > 1 else "has"
        raise ValueError(
            f"{' and '.join(dict.fromkeys(lazy))} {verb} no weights yet. Run the model once on a batch, "
            "model(inputs), and train it or load its weights; then give it here"
        )


def call_order(model: nn.Module, example_input: Inputs) -> tuple[str, ...]:
    """Names of the modules in the order in which `example_input` calls them, as often as it does.

    Raises ValueError where the example does not go through the model.
    """
    order: list[str] = []
    handles: list[Any] = []
    try:
        for name, module in model.named_modules():
            handles.append(
                module.register_forward_pre_hook(
                    lambda _m, args, name=name: None if is_call_for_nothing(args) else order.append(name)
                )
            )
        with torch.no_grad():
            call(model, example_input)
    except Exception as error:
        raise ValueError(
            f"an input of shape {shape_of(example_input)} does not go through the model: {one_line(error)}. "
            f"{_what_to_give(model, example_input)}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return tuple(order)


def is_call_for_nothing(args: tuple) -> bool:
    """Whether a module is called with no example at all, as an expert is that gets no token."""
    return bool(args) and isinstance(args[0], Tensor) and not args[0].numel()


def _what_to_give(model: nn.Module, inputs: Inputs) -> str:
    """What to do about inputs that do not go through: found by trying them as floating numbers."""
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    floating = mapped(inputs, lambda t: t if t.is_floating_point() or t.is_complex() else t.to(kind))
    if any(not t.is_floating_point() for t in tensors_of(inputs)):
        with suppress(Exception), torch.no_grad():
            call(model, floating)
            return (
                "It runs on floating numbers: convert these, scaled as in training (images of bytes are "
                "often divided by 255)."
            )
    return "Give an example of the shape the model was trained on."


def first_calls(order: Sequence[str]) -> dict[str, int]:
    """Where each module is called first in `order`, as `call_order` gives it."""
    first: dict[str, int] = {}
    for index, name in enumerate(order):
        first.setdefault(name, index)
    return first


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "…"
