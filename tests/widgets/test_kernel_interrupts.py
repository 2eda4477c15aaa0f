"""The kernel's interrupt cancels what runs in the background; the browser's tests press Jupyter's button."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest
from IPython.core.interactiveshell import InteractiveShell

from workbench.widgets import interrupting
from workbench.widgets.interrupting import cancel_at_interrupt, let_be


class Kernel:
    """Handles messages as ipykernel's does: a handler of its own meanwhile, what was there after it."""

    saved_sigint_handler = None

    def handle(self, work):
        self.saved_sigint_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            work()
        finally:
            signal.signal(signal.SIGINT, self.saved_sigint_handler)


class Owner:
    cancelled = 0

    def cancel(self):
        self.cancelled += 1


@pytest.fixture
def kernel(monkeypatch):
    """A kernel between two messages."""
    shell = InteractiveShell()
    shell.kernel = Kernel()
    monkeypatch.setattr(interrupting, "_shell", lambda: shell)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield shell.kernel
    signal.signal(signal.SIGINT, before)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("begun", ["between messages", "in a message"])
def test_between_messages_it_is_heard_only_while_something_runs(kernel, begun):
    interrupt()
    owner, other = Owner(), Owner()
    for one in (owner, other):
        if begun == "in a message":
            kernel.handle(lambda one=one: cancel_at_interrupt(one))
        else:
            cancel_at_interrupt(one)
    interrupt()
    assert (owner.cancelled, other.cancelled) == (1, 1)
    let_be(owner)
    interrupt()
    assert (owner.cancelled, other.cancelled) == (1, 2)
    kernel.handle(lambda: let_be(other))
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    interrupt()
    assert (owner.cancelled, other.cancelled) == (1, 2)


def test_a_message_is_interrupted_as_ever(kernel):
    owner = Owner()
    cancel_at_interrupt(owner)
    with pytest.raises(KeyboardInterrupt):
        kernel.handle(interrupt)
    assert owner.cancelled == 0  # the cell tells of it when it has ended
    shell = interrupting._shell()
    for error, cancelled in ((None, 0), (ValueError("its own"), 0), (KeyboardInterrupt(), 1)):
        shell.events.trigger("post_run_cell", SimpleNamespace(error_in_exec=error))
        assert owner.cancelled == cancelled
    let_be(owner)
    shell.events.trigger("post_run_cell", SimpleNamespace(error_in_exec=KeyboardInterrupt()))
    assert owner.cancelled == 1


def test_who_is_gone_is_not_held(kernel):
    cancel_at_interrupt(Owner())
    assert list(interrupting._running) == []
