"""Copies of networks, those that keep tensors of their last call too; errors name what is in the way."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

from torch import Tensor, nn

from workbench.network.duplicating import UNCHANGING, duplicate
from workbench.network.running import one_line, refuse_lazy

Network = TypeVar("Network", bound=nn.Module)
DEPTH = 3  # attributes of attributes of a module: how far the culprit is looked for


def copied(model: Network, sharing: Mapping[int, Any] | None = None) -> Network:
    """A deep copy that shares nothing with `model`, unless that is asked for.

    Activations that a module keeps, and weights that a hook makes anew at every call, are copied as plain
    tensors: PyTorch itself refuses tensors with a history. `sharing`: what stands in the copy for a part of
    the model, by the part's id, as for `copy.deepcopy`.

    Raises:
        ValueError: something in the model cannot be copied, a lock, an open file; the attribute is named. Or
            lazy layers have no weights yet.
    """
    refuse_lazy(model)
    with suppress(Exception):
        return duplicate(model, dict(sharing or {}))
    made = _plain_copies(model) | dict(sharing or {})
    try:
        return duplicate(model, dict(made))
    except Exception as error:
        found = _culprit(model, made)
        if found is None:
            raise ValueError(f"the model cannot be copied: {one_line(error)}") from error
        path, value = found
        raise ValueError(
            f"the model cannot be copied: its attribute {path!r} is a {_kind(value)}, which cannot be "
            f"({one_line(error)}). Set it to None before opening and make it where it is used, or leave it "
            "out of the copy with __deepcopy__ or __getstate__"
        ) from error


def _plain_copies(model: nn.Module) -> dict[int, Any]:
    """What `copy.deepcopy` takes as already copied: tensors that are no leaves, by their id."""
    made: dict[int, Any] = {}
    seen: set[int] = set()

    def visit(value: Any) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Tensor):
            if not value.is_leaf and type(value) is Tensor:
                made[id(value)] = value.detach().clone()
        elif isinstance(value, dict):
            for part in list(value.values()):
                if type(part) not in UNCHANGING:
                    visit(part)
        elif isinstance(value, (list, tuple, set)):
            for part in value:
                if type(part) not in UNCHANGING:
                    visit(part)
        elif not isinstance(value, type) and hasattr(value, "__dict__"):
            visit(vars(value))

    for module in model.modules():
        visit(vars(module))
    return made


def _culprit(model: nn.Module, made: dict[int, Any]) -> tuple[str, Any] | None:
    """The attribute that cannot be copied, by its path, as far down as it can be followed."""
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key in ("_modules", "_parameters", "_buffers") or _can_be_copied(value, made):
                continue
            return _inside(f"{name}.{key}".lstrip("."), value, made, DEPTH)
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            if not _can_be_copied(tensor, made):
                return f"{name}.{key}".lstrip("."), tensor
    return None


def _inside(path: str, value: Any, made: dict[int, Any], depth: int) -> tuple[str, Any]:
    """The part of `value` that is to blame, or the value itself."""
    parts: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        parts = [(f"{path}[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [(f"{path}[{index}]", part) for index, part in enumerate(value)]
    elif hasattr(value, "__dict__"):
        parts = [(f"{path}.{key}", part) for key, part in vars(value).items()]
    for name, part in parts if depth else ():
        if not _can_be_copied(part, made):
            return _inside(name, part, made, depth - 1)
    return path, value


def _can_be_copied(value: Any, made: dict[int, Any]) -> bool:
    try:
        copy.deepcopy(value, dict(made))
    except Exception:
        return False
    return True


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ in ("builtins", "torch") else f"{kind.__module__}.{kind.__name__}"
