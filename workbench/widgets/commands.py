"""What the page may ask for: commands, each a job for the one worker that changes the session."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.measure import Cancelled
from workbench.session import Session
from workbench.widgets.jobs import Delivery, Reporter, Worker
from workbench.widgets.snapshot import preview_of, with_procedure

COMMANDS = {
    "load": ("name",),
    "measure": (),
    "set_procedure": ("name",),
    "commit": ("request",),
    "try_choice": ("request",),
    "goto": ("position",),
    "undo": (),
    "redo": (),
    "reset": (),
    "save": (),
    "remeasure": (),
    "cancel": (),
}
BESIDE_THE_CHOICE = ("commit", "try_choice", "preview")


class Commands:
    """The commands of the shared state, and how they run: in order, in the background, errors in words."""

    session: Session | None
    procedure: Any
    revision: Any
    request: Callable[[], dict]
    set_trait: Callable[[str, Any], None]
    _deliver: Delivery
    _set: Callable[[dict], None]
    _ask: Callable[[], None]
    _take: Callable[[Session], None]
    _choice: tuple[dict, Any] | None

    def _begin(self) -> None:
        self._jobs = Worker("workbench-jobs")
        self._cancels: list[threading.Event] = []

    def load(self, name: str) -> None:
        """Another built-in example in place of the present session, and measure it."""

        def work(progress: Reporter, cancel: threading.Event) -> None:
            session = Session.example(name, procedure=self.procedure, progress=progress)
            check(cancel)
            session.measure(progress, cancel)
            self._take(session)

        self._start("load", f"loading {name}", work)

    def measure(self) -> None:
        self._start("measure", "measuring", lambda progress, cancel: self._current.measure(progress, cancel))

    def remeasure(self) -> None:
        """Measure the stale groups again."""
        self._start(
            "measure", "measuring again", lambda progress, cancel: self._current.remeasure(progress, cancel)
        )

    def set_procedure(self, name: str) -> None:
        """The same network under the other procedure, with the moments measured so far."""

        def work(progress: Reporter, cancel: threading.Event) -> None:
            self._take(with_procedure(self._current, name))

        self._start("set_procedure", f"switching to the {name} procedure", work)

    def try_choice(self, request: dict | None = None) -> None:
        """The score with the choice of `request` (by default the present one); nothing is kept."""
        request = self.request() if request is None else request

        def work(progress: Reporter, cancel: threading.Event) -> None:
            session = self._current
            score = session.try_choice(self._choose(session, request), progress=progress, cancel=cancel)
            now = session.history[session.position].score
            change = None if score is None or now is None else score - now
            answer = {"request": request, "score": score, "change": change}
            self._deliver(lambda: self.set_trait("tried", answer))

        self._start("try_choice", "scoring the choice", work)

    def commit(self, request: dict | None = None) -> None:
        """Carry out the choice of `request`, by default the present one."""
        request = self.request() if request is None else request

        def work(progress: Reporter, cancel: threading.Event) -> None:
            session = self._current
            session.commit(self._choose(session, request), progress=progress, cancel=cancel)

        self._start("commit", f"committing {request['group']}", work)

    def undo(self) -> None:
        self._start("undo", "undoing", lambda progress, cancel: self._current.undo())

    def redo(self) -> None:
        self._start("redo", "redoing", lambda progress, cancel: self._current.redo())

    def reset(self) -> None:
        self._start("reset", "back to the original", lambda progress, cancel: self._current.reset())

    def goto(self, position: int) -> None:
        self._start("goto", "going back", lambda progress, cancel: self._current.goto(position))

    def save(self, folder: str | Path | None = None) -> None:
        """Save the session, by default into ./<name>-pruned, and say where it went."""

        def work(progress: Reporter, cancel: threading.Event) -> None:
            where = Path(folder or f"{self._current.name}-pruned").resolve()
            self._current.save(where)
            self._deliver(lambda: self.set_trait("notice", f"Saved in {where}"))

        self._start("save", "saving", work)

    def cancel(self) -> None:
        """Ask what runs or waits to stop; it ends between two batches and changes nothing."""
        for event in list(self._cancels):
            event.set()

    # How they run

    def _choose(self, session: Session, request: dict) -> Any:
        if (request["position"], request["revision"]) != (session.position, self.revision):
            raise ValueError("the network has changed since this choice was shown; look again and repeat")
        if self._choice is not None and self._choice[0] == request:
            return self._choice[1]
        return preview_of(session, request)

    @property
    def _current(self) -> Session:
        if self.session is None:
            raise RuntimeError("no model is loaded: choose one of the examples")
        return self.session

    def _start(self, command: str, what: str, work: Callable[[Reporter, threading.Event], None]) -> None:
        cancel = threading.Event()

        def job() -> None:
            try:
                check(cancel)
                progress = Reporter(
                    lambda values: self._deliver(lambda: self.set_trait("progress", values)), what, cancel
                )
                work(progress, cancel)
            except Cancelled:
                self._deliver(lambda: self.set_trait("notice", f"Cancelled: {what}"))
            except Exception as error:
                self._fail(command, error)
            finally:
                self._cancels.remove(cancel)
                self._deliver(self._finished)

        self._set({"error": "", "notice": ""})
        self._cancels.append(cancel)
        self._jobs.submit(job)

    def _finished(self) -> None:
        # What could not be loaded must not look chosen, or it cannot be chosen again.
        self._set({"progress": {}} | ({} if self.session else {"name": ""}))
        self._ask()

    def _fail(self, command: str, error: Exception) -> None:
        """Put the error's own words where the hand is."""
        expected = isinstance(error, (ValueError, RuntimeError, OSError))
        words = str(error) if expected and str(error) else f"{type(error).__name__}: {error}"
        place = "choice" if command in BESIDE_THE_CHOICE else "header"
        self._deliver(lambda: self._set({"error": words, "error_at": place}))

    def _on_message(self, _widget: Any, content: dict, _buffers: Any) -> None:
        command = content.get("command") if isinstance(content, dict) else None
        if command not in COMMANDS or any(key not in content for key in COMMANDS[command]):
            self._fail("page", ValueError(f"the page sent a command that is not known: {content!r}"))
        elif command != "cancel" and self._jobs.busy:
            self._fail(command, RuntimeError("something else is still running: wait for it, or cancel it"))
        else:
            getattr(self, command)(**{key: content[key] for key in COMMANDS[command]})


def check(cancel: threading.Event) -> None:
    """Raises Cancelled if that was asked for."""
    if cancel.is_set():
        raise Cancelled("cancelled")
