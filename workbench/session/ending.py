"""A process that is told to end (SIGTERM) has first on the disk what it was about to write."""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from contextlib import suppress
from types import FrameType
from typing import Protocol

PATIENCE = 10.0  # seconds; who wants it gone at once sends SIGKILL


class Writer(Protocol):
    """Something that writes in the background."""

    def wait(self, timeout: float | None = None) -> None: ...


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def wait_at_end(writer: Writer) -> None:
    """Wait for `writer` when the process is told to end, unless that is somebody else's to say already."""
    _writers.add(writer)
    if threading.current_thread() is not threading.main_thread():
        return  # signals are the main thread's
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    until = time.monotonic() + PATIENCE
    for writer in list(_writers):
        with suppress(Exception):  # it waits for what this thread holds, say
            writer.wait(max(0.0, until - time.monotonic()))
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
