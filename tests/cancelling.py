"""Cancel at a certain moment: the event is set while a certain line of the package runs."""

import sys
import threading

from interrupting import PACKAGE
from surviving import OPERATIONS, about_process, held_by, made_for, other_than, told_of

from workbench.data.progress import Cancelled

CANCELLED = [name for name, operation in OPERATIONS.items() if operation.cancels]


class _Setting:
    """Sets `event` at line `at` of the package; counts lines."""

    def __init__(self, event, at):
        self.event, self.at, self.count = event, at, 0

    def __call__(self, frame, event, _arg):
        return self._line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def _line(self, _frame, event, _arg):
        self.count += event == "line"
        if self.count == self.at + 1:
            self.event.set()
        return self._line


def _run(name, session, folder, at):
    cancel, tracer = threading.Event(), sys.gettrace()
    setting = _Setting(cancel, at)
    sys.settrace(setting)
    try:
        OPERATIONS[name].run(session, folder, cancel=cancel)
    finally:
        sys.settrace(tracer)
    return setting.count


def moments_to_cancel(name, folder):
    """Lines that an operation runs, at each of which it may be cancelled."""
    return _run(name, made_for(OPERATIONS[name], folder), folder, -2)


def cancelled_once(name, moment, after, folder):
    """An operation that is cancelled at `moment`: how it ended, and what is wrong then, in words."""
    operation = OPERATIONS[name]
    session = made_for(operation, folder)
    given, process, how = session.model, about_process(), "done"
    try:
        _run(name, session, folder, moment)
    except Cancelled:
        how = "cancelled"
    now = about_process()
    wrong = [f"the process has other {what}" for what in now if now[what] != process[what]]
    # Fine-tuning that is stopped keeps what it has reached.
    stopped = name == "finetune" and how == "done"
    wrong += held_by(session) + ([] if stopped else other_than(session, after, given, operation, folder))
    if how == "cancelled" and told_of(session) != after.before:
        wrong.append("it was cancelled, and the session is another")
    return how, wrong
