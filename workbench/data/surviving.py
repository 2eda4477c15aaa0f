"""What work leaves where it is cut short: the process as it was after Ctrl+C, words where memory ends."""

from __future__ import annotations

import functools
import gc
import random
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from errno import ENOMEM
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch.utils._python_dispatch import _len_torch_dispatch_stack, _pop_mode

from workbench.data.durable import said_bytes

Method = TypeVar("Method", bound=Callable[..., Any])
_WORDS = re.compile(r"can't allocate memory|cannot allocate memory|out of memory|bad_alloc", re.IGNORECASE)
_SIZE = re.compile(r"allocate (\d[\d.,]*) ?((?:[KMGT]i?)?B\b|bytes)", re.IGNORECASE)


class OutOfMemoryError(MemoryError, RuntimeError):
    """There was not memory enough; the message says what for, how much was asked for, and what to do."""


def surviving(what: str, advice: str) -> Callable[[Method], Method]:
    """A decorator of work that changes nothing where it fails.

    Where memory ends the error says so in words. Where Ctrl+C arrives, the process is as it was before:
    torch's modes and the global random numbers. Contexts take back by themselves what they set, but Ctrl+C
    may arrive at the very line that does so; here it is done again.

    Args:
        what: is done, as in "measuring".
        advice: what a person can do who has too little memory for it, a sentence without its full stop.

    Raises:
        OutOfMemoryError: in place of any error that comes of one of memory.
    """

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def run(*args: Any, **kwargs: Any) -> Any:
            before = _Process() if threading.current_thread() is threading.main_thread() else None
            try:
                return method(*args, **kwargs)
            except KeyboardInterrupt:
                if before is not None:
                    before.restore()
                raise
            except Exception as error:
                told = _told(error, what, advice)
                if not told:
                    raise
            # Out here the error is gone, and with it what the failed calls had in memory, rings of it too.
            gc.collect()
            raise OutOfMemoryError(told)

        return cast(Method, run)

    return decorate


def _told(error: Exception, what: str, advice: str) -> str:
    """What a person is told of an error that came of too little memory; '' of others, and when told."""
    if isinstance(error, OutOfMemoryError):
        return ""
    found = memory_error(error)
    if found is None:
        return ""
    words, size = str(found), size_in(str(found))
    for one in _chain(error):
        traceback.clear_frames(one.__traceback__)
    asked = f": {size} were asked for, more than there is" if size else f" ({words})" * bool(words)
    return f"out of memory while {what}{asked}. Nothing was changed. What helps: {advice}"


class _Process:
    """What work sets for itself in this thread and takes back, as it is now."""

    def __init__(self) -> None:
        self._gradients = torch.is_grad_enabled()
        self._attention = torch.backends.mha.get_fastpath_enabled()
        self._kernels = _attention_kernels()
        self._modes = _len_torch_dispatch_stack()
        self._numbers = torch.get_rng_state(), np.random.get_state(), random.getstate()

    def restore(self) -> None:
        """Ctrl+C arrives at most once: what it cut short before is done here."""
        while _len_torch_dispatch_stack() > self._modes:
            _pop_mode()
        torch.set_grad_enabled(self._gradients)
        if torch.backends.mha.get_fastpath_enabled() != self._attention:
            torch.backends.mha.set_fastpath_enabled(self._attention)
        for kernel, on in self._kernels.items():
            getattr(torch.backends.cuda, f"enable_{kernel}")(on)
        plain, arrays, python = self._numbers
        torch.set_rng_state(plain)
        np.random.set_state(arrays)
        random.setstate(python)


def _attention_kernels() -> dict[str, bool]:
    names = ("flash_sdp", "mem_efficient_sdp", "math_sdp", "cudnn_sdp")
    return {name: getattr(torch.backends.cuda, f"{name}_enabled")() for name in names}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came of."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def memory_error(error: BaseException) -> BaseException | None:
    """The error of memory that `error` is, or came of: of Python, NumPy, torch or the system."""
    for one in _chain(error):
        if isinstance(one, (MemoryError, torch.OutOfMemoryError)):
            return one
        if isinstance(one, RuntimeError) and _WORDS.search(str(one)):
            return one
        if isinstance(one, OSError) and one.errno == ENOMEM:
            return one
    return None


def size_in(words: str) -> str:
    """How much memory was asked for, as '1.2 GB'; '' where an error's words do not say."""
    found = _SIZE.search(words)
    if found is None:
        return ""
    number, unit = found[1].replace(",", "").rstrip("."), found[2]
    return said_bytes(int(number)) if unit.lower() in ("b", "bytes") else f"{number} {unit}"
