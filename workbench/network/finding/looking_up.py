"""Whole numbers of its modules that a network looks up while it runs: no other can stand in the way."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from workbench.network.deriving import derived
from workbench.network.duplicating import duplicate
from workbench.network.running import Inputs, call, one_line

LookedUp = frozenset[tuple[str, str]]  # (a module's name, an attribute's)


@torch.no_grad()
def looked_up(model: nn.Module, example: Inputs, until: str = "") -> LookedUp | None:
    """Whole numbers of modules that one pass looks up by name; None where that cannot be seen.

    Args:
        model: in evaluation mode; a copy of it, which has the same parameters, runs.
        example: a batch as the model takes it.
        until: the error, in one line, with which the pass is known to end.
    """
    found: set[tuple[str, str]] = set()
    try:
        shared = {id(parameter): parameter for parameter in model.parameters()}
        watched = duplicate(model, dict(shared))
        for name, module in watched.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                module.__class__ = _telling(type(module), name, found)
        call(watched, example)
    except Exception as error:  # a class that cannot be derived from, or code that asks for the very class
        if not until or one_line(error) != until:
            return None
    return frozenset(found)


def _telling(kind: type[nn.Module], name: str, found: set[tuple[str, str]]) -> type[nn.Module]:
    """A class like `kind` that notes which numbers of its one module are asked for."""

    def noting(self: Any, key: str) -> Any:
        value = kind.__getattribute__(self, key)
        if type(value) is int:
            found.add((name, key))
        return value

    return derived(kind, {"__getattribute__": noting})
