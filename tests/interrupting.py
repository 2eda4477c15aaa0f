"""Ctrl+C at a certain line: the signal arrives where Python itself would hear it first behind that line."""

import _thread
import signal
import sys
import threading
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import workbench

PACKAGE = str(Path(workbench.__file__).parent)


class Lines:
    """Counts the lines of the package that run in this thread, and has Ctrl+C arrive at one of them."""

    def __init__(self, at=-1):
        self.at, self.count, self.place = at, 0, ""
        self.seen = defaultdict(list)  # of each place, when it ran
        # Asked for a key it does not have, it calls that function from C. Called from here, the signal would
        # be heard in the watching function itself, where no real one arrives.
        self._press = defaultdict(_thread.interrupt_main)

    def __call__(self, frame, event, _arg):
        return self._line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def _line(self, frame, event, _arg):
        if event == "line":
            place = (frame.f_code.co_filename, frame.f_lineno)
            if self.at < 0:
                self.seen[place].append(self.count)
            self.count += 1
            if self.count == self.at + 1:
                self.place = f"{place[0].removeprefix(PACKAGE)}:{place[1]}"
                self._press[self.at]
        return self._line


@contextmanager
def watched(lines):
    """Within: `lines` sees what runs, and Ctrl+C is KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals reach the main thread alone")
    handler, tracer = signal.signal(signal.SIGINT, signal.default_int_handler), sys.gettrace()
    sys.settrace(lines)
    try:
        yield lines
    finally:
        sys.settrace(tracer)
        signal.signal(signal.SIGINT, handler)


def interrupted(work, at):
    """Run `work()` with Ctrl+C at line `at`. Returns the place, and whether it was heard."""
    lines = Lines(at)
    try:
        with watched(lines):
            work()
            for _ in range(3):  # where it is heard at the latest
                pass
    except KeyboardInterrupt:
        return lines.place, True
    return lines.place, False


def moments_of(work, draw):
    """One moment of each line of the package that `work()` runs in this thread, in the order of `draw`."""
    with watched(Lines()) as lines:
        work()
    moments = [draw.choice(times) for times in lines.seen.values()]
    draw.shuffle(moments)
    return moments
