"""Where in the code of a module a call of torch stands, told so that comments and spaces do not count."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

import torch
from torch import nn

from workbench.network.rebuilt.code_names import code_of

Method = TypeVar("Method", bound=Callable[..., Any])
PASSED_OVER = tuple(f"{Path(at).parent}/" for at in (torch.__file__, __file__))
COMPREHENSIONS = ("<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>")
UNIT = 2  # bytes of an instruction, or of what Python keeps behind one
_RUNNING = {id(nn.Module._call_impl.__code__)}  # what runs a module's forward


@dataclass(frozen=True)
class _Lines:
    """A function's lines that hold code, each with which one it is; of what it runs, the line and which call.

    `is_inner`: of a comprehension, which has no frame of its own in later versions of Python.
    """

    code: CodeType
    passed_over: bool
    is_inner: bool
    ranks: dict[int, int]
    calls: dict[int, tuple[int, int]]

    @classmethod
    def of(cls, code: CodeType) -> _Lines:
        found = _LINES.get(id(code))
        if found is None:
            # Modes of torch may stand between.
            passed = code.co_name == "__torch_function__" or code.co_filename.startswith(PASSED_OVER)
            ranks = {line: rank for rank, line in enumerate(sorted({code.co_firstlineno, *_all_lines(code)}))}
            calls = {} if passed else _calls(code)
            found = _LINES[id(code)] = cls(code, passed, code.co_name in COMPREHENSIONS, ranks, calls)
        return found


def _calls(code: CodeType) -> dict[int, tuple[int, int]]:
    """By the offset of each unit of code: its line, and which of the calls and calculations there it is of.

    Python is at one of several units of a call, as it knows what is called or does not: all tell the same.
    """
    units = [(line, (last or 0, end or 0)) for line, last, _, end in code.co_positions()]
    on_line: dict[int | None, set[tuple[int, int]]] = {}
    for one in dis.get_instructions(code):
        if one.opname.startswith(("CALL", "BINARY")):
            line, end = units[one.offset // UNIT]
            on_line.setdefault(line, set()).add(end)
    ranks = {line: {end: rank for rank, end in enumerate(sorted(found))} for line, found in on_line.items()}
    return {
        at * UNIT: (line, ranks.get(line, {}).get(end, 0))
        for at, (line, end) in enumerate(units)
        if line is not None
    }


_LINES: dict[int, _Lines] = {}  # by the id of a code, which is kept


def runs_forward(method: Method) -> Method:
    """Mark a method of something with a `module` as one that runs the module's forward."""
    _RUNNING.add(id(method.__code__))
    return method


def place_of_call() -> tuple[nn.Module | None, str]:
    """The module whose forward runs, and where in its code: functions, lines, and calls in a line.

    The outermost function is the last. To be asked by the `__torch_function__` of a mode itself.
    """
    frame: FrameType | None = sys._getframe(2)  # what called torch
    lines: list[tuple[CodeType, str]] = []
    inside: tuple[int, int] | None = None  # a comprehension that belongs to the next function
    while frame is not None and id(frame.f_code) not in _RUNNING:
        known = _Lines.of(frame.f_code)
        if not known.passed_over:
            line, which = inside or known.calls.get(frame.f_lasti) or (frame.f_lineno, 0)
            if known.is_inner:
                inside = line, which
            else:
                inside = None
                lines.append((known.code, f"{known.code.co_name}:{known.ranks.get(line, 0)}.{which}"))
        frame = frame.f_back
    if frame is None:
        return None, ""
    running = frame.f_locals["self"]
    module = running if isinstance(running, nn.Module) else running.module
    own = code_of(type(module).forward)
    ends = [index for index, (code, _) in enumerate(lines) if code is own]  # what wraps it is passed over
    return module, " ".join(line for _, line in (lines[: ends[-1] + 1] if ends else lines))


def _all_lines(code: CodeType) -> Iterator[int]:
    for *_, line in code.co_lines():
        if line is not None:
            yield line
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _all_lines(inner)
