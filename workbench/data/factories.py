"""Things of the user's own, by name: 'package.module:factory' or 'path/to/file.py:factory'."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from workbench.data.bounds import check_file
from workbench.data.durable import expanded
from workbench.network.running import one_line

LARGEST_CODE = 16 << 20  # bytes of a file of Python


def is_factory(name: str) -> bool:
    """Whether `name` has the form of PLACE:FACTORY."""
    place, _, factory = name.rpartition(":")
    return bool(place) and all(part.isidentifier() for part in factory.split("."))


def made_by(name: str, options: Mapping[str, Any] | None = None) -> Any:
    """What a function or class returns when it is called.

    A module is looked for in the current folder too; a file's own folder is searched by its imports. A
    variable that is no function or class is taken as it is.

    Args:
        name: 'package.module:factory' or 'path/to/file.py:factory'.
        options: its keyword arguments.

    Returns:
        Whatever it returns.

    Raises:
        ValueError: there is no such module, file or factory, it needs other arguments, or it fails; the
            message names it.
    """
    with importable(name):
        return call_factory(name, find_factory(name), options)


def find_factory(name: str) -> Any:
    """What a name stands for.

    Args:
        name: 'package.module:factory' or 'path/to/file.py:factory'.

    Returns:
        The function, class or variable.

    Raises:
        ValueError: there is none, or importing its module fails; the message names it.
    """
    if not isinstance(name, str) or not is_factory(name):
        raise ValueError(
            f"{name!r} does not name a factory: give MODULE:FACTORY or FILE.py:FACTORY, such as mynet:make"
        )
    place, _, factory = name.rpartition(":")
    with importable(name):
        try:
            if place.endswith(".py"):
                module = _file_module(expanded(place))
            else:
                module = importlib.import_module(place)
        except (Exception, SystemExit) as error:  # the code of a stranger runs here, a script's exit included
            raise ValueError(
                f"{name}: cannot import {place}: {type(error).__name__}: {one_line(error)}"
            ) from error
    try:
        return functools.reduce(getattr, factory.split("."), module)
    except AttributeError:
        raise ValueError(f"{name}: {place} has no function or class {factory}") from None


def call_factory(name: str, factory: Any, options: Mapping[str, Any] | None = None) -> Any:
    """What a factory gives; what cannot be called, and a module that is there already, as it is.

    Args:
        name: for messages.
        factory: the function, class or variable.
        options: its keyword arguments.

    Returns:
        ``factory(**options)``.

    Raises:
        ValueError: it takes no options, needs other arguments, or fails; the message names it.
    """
    options = dict(options or {})
    if not callable(factory) or isinstance(factory, nn.Module):
        if options:
            raise ValueError(f"{name} is a {type(factory).__name__}, which takes no options")
        return factory
    lacking = needed_arguments(factory) - options.keys()
    if lacking:
        raise ValueError(
            f"{name} needs arguments that were not given: {', '.join(sorted(lacking))}; give them as "
            "options, or write a function without arguments that calls it"
        )
    try:
        return factory(**options)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} failed: {type(error).__name__}: {one_line(error)}") from error


def needed_arguments(factory: Any) -> set[str]:
    """The arguments without a default; none where they cannot be told."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return set()
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {p.name for p in parameters if p.default is p.empty and p.kind not in optional}


def _file_module(path: Path) -> ModuleType:
    check_file(path, LARGEST_CODE)
    # A name of its own, so that a file called torch.py or json.py hides nothing.
    name = f"_workbench_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is made
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def importable(name: str) -> Iterator[None]:
    """Within: the current folder, or the folder of a file, is searched first; afterwards last.

    It stays, because functions import when they are called, too; last, so that it hides no package.

    Args:
        name: 'package.module:factory', or 'path/to/file.py:factory' for the folder of that file.
    """
    place = name.rpartition(":")[0]
    folder = str(expanded(place).resolve().parent) if place.endswith(".py") else ""
    if folder in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        sys.path.append(folder)
