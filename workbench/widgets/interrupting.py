"""Jupyter's ■ ends what runs in the background too, as Cancel does; a cell that runs is interrupted as ever.

A kernel gets SIGINT. While it handles a message its handler raises KeyboardInterrupt in the cell; between two
messages the signal is ignored, so that nothing would hear of it there. In the place of ignoring it stands a
handler, but only while something runs. A cell's KeyboardInterrupt is told by IPython when the cell has ended.
"""

from __future__ import annotations

import signal
import sys
import threading
import weakref
from typing import Any, Protocol


class Cancels(Protocol):
    """Something with work in the background."""

    def cancel(self) -> None: ...


_running: weakref.WeakSet[Cancels] = weakref.WeakSet()
_told: weakref.WeakSet[Any] = weakref.WeakSet()  # shells that tell of their cells


def cancel_at_interrupt(owner: Cancels) -> None:
    """From now on an interrupt of the kernel cancels what `owner` runs; it is not held. See `let_be`.

    To be called in the kernel's main thread, where signals are heard; elsewhere, as outside a notebook,
    nothing is changed.
    """
    shell = _shell()
    if shell is None or threading.current_thread() is not threading.main_thread():
        return
    _running.add(owner)
    _listen(getattr(shell, "kernel", None))
    if shell not in _told:
        _told.add(shell)
        shell.events.register("post_run_cell", _after_cell)


def let_be(owner: Cancels) -> None:
    """Nothing of `owner` runs any more; where nothing runs at all, the signal is ignored again."""
    _running.discard(owner)
    shell = _shell()
    if shell is None or _running or threading.current_thread() is not threading.main_thread():
        return
    kernel = getattr(shell, "kernel", None)
    if signal.getsignal(signal.SIGINT) is _between_messages:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if kernel is not None and getattr(kernel, "saved_sigint_handler", None) is _between_messages:
        kernel.saved_sigint_handler = signal.SIG_IGN


def _shell() -> Any:
    """IPython's shell; None outside it, where it is not loaded either."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def _listen(kernel: Any) -> None:
    """Hear the signal where it is ignored: now, or once the message has ended that is being handled."""
    if kernel is None:
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, _between_messages)
    elif getattr(kernel, "saved_sigint_handler", None) is signal.SIG_IGN:
        kernel.saved_sigint_handler = _between_messages


def _between_messages(_signal: int, _frame: Any) -> None:
    _cancel_all()


def _after_cell(result: Any) -> None:
    if isinstance(getattr(result, "error_in_exec", None), KeyboardInterrupt):
        _cancel_all()


def _cancel_all() -> None:
    for owner in list(_running):
        owner.cancel()
