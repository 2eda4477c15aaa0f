"""What the code of a network names: attributes and globals, in a forward and in all that it calls."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any

from torch import nn


def names_in_forward(module: nn.Module) -> frozenset[str]:
    """Attributes and globals that a module's `forward` names where it is not torch's, with what it calls."""
    kind: Any = type(module)
    return _names_in_class(kind)


def functions_of_forward(kind: type) -> list[Any]:
    """A class's forward and the methods that it calls, where they are not torch's, as functions."""
    named, methods = _names_in_class(kind), _methods(kind)
    return [function for name, functions in methods.items() if name in named for function in functions]


def _methods(kind: type) -> dict[str, list[Any]]:
    """Functions by the name of the method: those of bases too that a method calls by `super`."""
    methods: dict[str, list[Any]] = {}
    for one in kind.__mro__:
        if not one.__module__.startswith("torch."):
            for name, value in vars(one).items():
                known = methods.get(name)
                if code_of(value) is not None and (known is None or "super" in known[-1].__code__.co_names):
                    methods.setdefault(name, []).append(_function(value))
    return methods


@lru_cache(maxsize=1024)
def _names_in_class(kind: type) -> frozenset[str]:
    methods = _methods(kind)
    seen: set[str] = set()
    waiting = ["forward"]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            for function in methods.get(name, ()):
                waiting += _names(function.__code__)
    return frozenset(seen)


def code_of(value: Any) -> CodeType | None:
    """The code of a method, static or of a class too; None of what is none."""
    return getattr(_function(value), "__code__", None)


def _function(value: Any) -> Any:
    function: Any = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    return inspect.unwrap(function) if callable(function) else function


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _names(const)
