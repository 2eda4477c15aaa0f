"""Work off the kernel's main thread: a worker thread, and the way back onto the event loop."""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from workbench.data.progress import Cancelled, Pace
from workbench.widgets.wording import field_for, in_fields

Job = Callable[[], None]
PAINTS_A_SECOND = 20  # progress is told no more often: each telling is a message to the page
IDLE_SECONDS = 5.0  # without a job, after which a worker's thread ends
LAST_SECONDS = 5.0  # what a running job may take when the process ends

_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


@atexit.register
def _stop_workers() -> None:
    """End the threads before the interpreter does: one inside torch would take the process down with it."""
    for worker in list(_workers):
        worker.stop()


class Worker:
    """Runs jobs one after another in one thread. With `newest_only`, a new job replaces those that wait.

    A job handles its own errors; one that does not is shown as threads show theirs, and the next one runs.
    The thread does not keep the process alive, and ends where nothing comes for a while. `cancels`, which may
    change while jobs run, are set when the worker stops, for jobs that look at them.
    """

    def __init__(self, name: str, newest_only: bool = False, cancels: list[threading.Event] | None = None):
        self.name, self.newest_only = name, newest_only
        self._cancels = [] if cancels is None else cancels
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._running = self._stopped = False
        self.asked = 0  # jobs that were ever submitted
        self._thread: threading.Thread | None = None
        _workers.add(self)

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        with self._changed:
            return self._running or bool(self._waiting)

    def submit(self, job: Job) -> None:
        with self._changed:
            if self._stopped:
                return
            if self.newest_only:
                self._waiting.clear()
            self._waiting.append(job)
            self.asked += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Until nothing runs or waits; False if that took longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._running or self._waiting), timeout)

    def stop(self, timeout: float = LAST_SECONDS) -> None:
        """Drop what waits, cancel what runs, give it `timeout` seconds. Jobs submitted later do not run."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify_all()
        for cancel in list(self._cancels):
            cancel.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped, IDLE_SECONDS)
                if self._stopped:
                    return
                if not self._waiting:
                    self._thread = None
                    return
                job, self._running = self._waiting.popleft(), True
            try:
                job()
            except BaseException as error:  # SystemExit too: a job's code may say it, the thread goes on
                shown = (type(error), error, error.__traceback__, threading.current_thread())
                threading.excepthook(threading.ExceptHookArgs(shown))
            finally:
                with self._changed:
                    self._running = False
                    self._changed.notify_all()


def in_words(error: BaseException) -> str:
    """What a job failed with, as the page says it."""
    if not isinstance(error, Exception):
        what = type(error).__name__
        said = f" with {error}" if str(error) else ""
        return (
            f"the model's, the data's or the score's own code ended with {what}{said} instead of a result: "
            "take sys.exit() and the like out of it"
        )
    expected = isinstance(error, (ValueError, RuntimeError, OSError))
    words = str(error) if expected and str(error) else f"{type(error).__name__}: {error}"
    return f"{in_fields(words)} (on the Load card)" if field_for(words) else in_fields(words)


def waited_for(work: Callable[[], Any], check: Callable[[], Any], every: float = 0.05) -> Any:
    """What `work` gives, which tells no progress: a network that does not answer, a person's own code.

    It runs in a thread of its own. What `check`, called every so many seconds, raises ends the waiting at
    once: the thread is then left behind, and what it brings is dropped.
    """
    ended = threading.Event()
    found: dict[str, Any] = {}

    def run() -> None:
        try:
            found["value"] = work()
        except BaseException as error:  # SystemExit too, which a person's code may raise
            found["error"] = error
        finally:
            ended.set()

    threading.Thread(target=run, name="workbench-waited-for", daemon=True).start()
    while not ended.wait(every):
        check()
    if "error" in found:
        raise found["error"]
    return found["value"]


class KeptPartError(Cancelled):
    """Cancelled, and what was done by then is kept; the message says what, as a sentence."""


@contextmanager
def keeping(kept: Callable[[], str | None]) -> Iterator[None]:
    """Where the work within is cancelled, it is told what of it stays: "4 of 9 ways are compared"."""
    try:
        yield
    except Cancelled as error:
        words = kept()
        if not words:
            raise
        raise KeptPartError(f"Stopped: {words}") from error


class Delivery:
    """Brings results from worker threads onto the event loop that ran where this was made.

    Without a loop, as in a script, they are applied at once in the worker's thread. JupyterLab has the page's
    messages heard in a thread of their own (a subshell), so whoever takes one holds `turn`: no message then
    finds the state with half of a result applied.
    """

    def __init__(self) -> None:
        self.turn = threading.RLock()
        self._arrived: deque[Job] = deque()
        self._loop: asyncio.AbstractEventLoop | None
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def __call__(self, apply: Job) -> None:
        if self._loop is None:
            self._apply(apply)
        elif not self._loop.is_closed():  # else the kernel is ending, and nobody looks any more
            self._arrived.append(apply)
            self._loop.call_soon_threadsafe(self.apply_next)

    @property
    def empty(self) -> bool:
        """Whether nothing has arrived that is not applied yet."""
        return not self._arrived

    def apply_next(self) -> None:
        """Apply the first of what has arrived; on the loop's own thread, also by who makes it wait."""
        if self._arrived:
            self._apply(self._arrived.popleft())

    def _apply(self, apply: Job) -> None:
        with self.turn:
            apply()


class Reporter:
    """The `progress` callback of a job: tells what, done, total, the seconds since the job began, and in
    "left" those that the present piece of it takes still, None while that is not known.

    Where `cancel` is set it raises Cancelled, so that whatever reports its progress can be cancelled.
    """

    def __init__(self, tell: Callable[[dict], None], what: str, cancel: threading.Event | None = None):
        self._tell, self._start, self._last = tell, time.monotonic(), 0.0
        self._cancel, self._what, self._pace = cancel, "", Pace()
        self(0, None, what)

    def __call__(self, done: int, total: int | None, what: str) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled(f"cancelled while {what}")
        now, left = time.monotonic(), self._pace.left(done, total)
        if now - self._last < 1 / PAINTS_A_SECOND and done != total and what == self._what:
            return
        self._last, self._what = now, what
        spent = now - self._start
        self._tell({"what": what, "done": done, "total": total or 0, "elapsed": spent, "left": left})
