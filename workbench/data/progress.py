"""How long work tells how far it is, how that is shown on a stream, and how the work is stopped."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

Progress = Callable[[int, int | None, str], Any]
PATIENCE = 30.0  # seconds without a line, where progress goes to a log
STEPS_KNOWN, SECONDS_KNOWN = 2, 3.0  # by which the pace of work is known


class Cancelled(RuntimeError):  # noqa: N818 (it says what happened, not that something is wrong)
    """The work was cancelled by the person who started it; nothing was changed."""


def of_step(progress: Progress | None, number: int, steps: int, what: str) -> Progress | None:
    """`progress`, told that `what` has come to a step, and from then on of which step all is."""
    if progress is None:
        return None
    progress(number - 1, steps, what)
    return lambda done, total, what: progress(done, total, f"step {number} of {steps}: {what}")


def after_each(progress: Progress | None, count: Callable[[], int], tell: Callable[[], Any]) -> Progress:
    """`progress`, which also tells where `count()` has risen since it last did."""
    before = count()

    def heard(done: int, total: int | None, what: str) -> None:
        nonlocal before
        now = count()
        if now > before:
            before = now
            tell()
        if progress is not None:
            progress(done, total, what)

    return heard


class Pace:
    """How long the present piece of work still takes, by how long it took so far.

    Another piece begins where the total is another one, or less is done than before.
    """

    def __init__(self) -> None:
        self._total: int | None = None
        self._last = 0
        self._from = 0, 0.0  # what was done where the piece began, and when

    def left(self, done: int, total: int | None) -> float | None:
        """Seconds; None where that is not known well enough: by two steps at least, and a few seconds."""
        now = time.monotonic()
        if total != self._total or done < self._last:
            self._total, self._from = total, (done, now)
        self._last = done
        steps, seconds = done - self._from[0], now - self._from[1]
        if not total or steps < STEPS_KNOWN or seconds < SECONDS_KNOWN:
            return None
        return max(0.0, seconds / steps * (total - done))


def said_left(seconds: float | None) -> str:
    """ ", about 40 s left", or nothing where it is not known."""
    if seconds is None:
        return ""
    return f", about {seconds:.0f} s left" if seconds < 90 else f", about {seconds / 60:.0f} min left"


@contextmanager
def progress_on(stream: TextIO) -> Iterator[Stages]:
    """Within: a `Progress` that writes to `stream`, which is left at the beginning of a line."""
    stages = Stages(stream)
    try:
        yield stages
    finally:
        stages.close()


class Stages:
    """One piece of work after another: a bar each on a terminal; in a log, a line when it is done.

    Where a piece takes long, a log gets a line every half a minute too.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.bar: Any = None
        self.done, self.what = 0, ""
        self.total: int | None = None
        self.told, self.last = time.monotonic(), ""
        self._pace, self._left = Pace(), ""

    def __call__(self, done: int, total: int | None, what: str) -> None:
        """Tell that `done` of `total` (None: nobody knows) are done of `what`."""
        over = self.done == self.total and what.partition(",")[0] != self.what.partition(",")[0]
        if total != self.total or done < self.done or over:
            self.close()
        self.done, self.total, self.what = done, total, what
        self._left = said_left(self._pace.left(done, total)) if done != total else ""
        if self.stream.isatty():
            self._draw()
        elif time.monotonic() - self.told > PATIENCE:
            self._write()

    def close(self) -> None:
        """End the present piece."""
        if self.bar is not None:
            self.bar.close()
        elif self.what:
            self._write()
        self.bar, self.what, self.last, self.done, self.total = None, "", "", 0, None

    def _draw(self) -> None:
        if self.bar is None:
            from tqdm import tqdm  # not needed to print help

            width, height = shutil.get_terminal_size()  # 80, 24 where the terminal does not tell
            self.bar = tqdm(total=self.total, file=self.stream, unit="", ncols=width, nrows=height)
        self.bar.set_description(self.what, refresh=False)
        self.bar.update(self.done - self.bar.n)

    def _write(self) -> None:
        of = "" if self.total is None else f" of {self.total}"
        line = f"{self.what} ({self.done}{of}{self._left})"
        if line != self.last:
            print(line, file=self.stream, flush=True)
        self.told, self.last = time.monotonic(), line
