"""Classes made of others while the workbench runs, which those others are not told of."""

from __future__ import annotations

from abc import ABCMeta
from typing import Any, cast

from torch import nn


def derived(kind: type[nn.Module], body: dict[str, Any]) -> type[nn.Module]:
    """A class like `kind`, under its name, that has what `body` holds beside.

    `__init_subclass__`, which enters classes in a register say, never runs: the base comes afterwards.

    Raises TypeError where the class of `kind` is someone's own, which would take note of another class.
    """
    how: Any = type(kind)
    if how not in (type, ABCMeta):
        raise TypeError(f"{kind.__name__} is made by a class of its own, {how.__name__}")
    told = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    made: Any = how(kind.__name__, (nn.Module,), told | body)
    made.__bases__ = (kind,)
    return cast(type[nn.Module], made)
