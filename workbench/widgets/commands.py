"""What the page may ask for: commands, each a job for the one worker that changes the session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

from workbench.data.durable import OpenElsewhereError
from workbench.data.progress import Cancelled
from workbench.session.session import Session
from workbench.widgets.flips import CHOICE
from workbench.widgets.folders import folder_for, in_the_way, said_of
from workbench.widgets.interrupting import cancel_at_interrupt, let_be
from workbench.widgets.jobs import Delivery, KeptPartError, Reporter, Worker, in_words
from workbench.widgets.load_form import own_session
from workbench.widgets.page_values import preview_of, with_procedure

Work = Callable[[Reporter, threading.Event], None]
BUSY = "something else is still running: wait for it, or cancel it"
LOOK_EVERY = 0.02  # seconds between two looks at what workers have brought


class Commands:
    """The commands of the shared state, and how they run: in order, in the background, errors in words.

    `COMMANDS` names what a message of the page may ask for, with what it must carry; `PLACES` where errors of
    a command are shown, the header where it is not named; `AT_ONCE` what is heard while a job runs. The
    tables of the other parts of the state (budget_tab.py, …) count too.
    """

    COMMANDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "load": ("name",),
        "load_own": ("form",),
        "measure": (),
        "set_procedure": ("name",),
        "commit": ("request",),
        "try_choice": ("request",),
        "goto": ("position",),
        "undo": (),
        "redo": (),
        "reset": (),
        "export": ("folder", "formats", "replace"),
        "save": ("folder", "replace", "take_over"),
        "remeasure": (),
        "cancel": (),
    }
    PLACES: ClassVar[dict[str, str]] = {
        "commit": "choice",
        "try_choice": "choice",
        "preview": "choice",
        "load_own": "load",
        "export": "export",
        "save": "export",
    }
    AT_ONCE: ClassVar[tuple[str, ...]] = ("cancel", "save")

    session: Session | None
    procedure: Any
    revision: Any
    ended: Any
    request: Callable[[], dict]
    set_trait: Callable[[str, Any], None]
    _deliver: Delivery
    _set: Callable[[dict], None]
    _ask: Callable[[], None]
    _take: Callable[..., None]
    _how: dict[str, Any]
    _doing: Callable[[str, str], None]
    _choice: tuple[dict, Any] | None
    _go_on_to_the_end: Callable[[], None]
    _score_next: Callable[[Session], None]
    _tried_with: Callable[..., tuple[float | None, dict[str, Any]]]

    def _begin(self) -> None:
        self._cancels: list[threading.Event] = []
        self._commands: list[str] = []  # that run or wait, in turn
        self._jobs = Worker("workbench-jobs", cancels=self._cancels)
        self._aside = Worker("workbench-saving")

    def load(self, name: str) -> None:
        """Another built-in example in place of the present session, and measure it."""

        def work(progress: Reporter, cancel: threading.Event) -> None:
            session = Session.example(name, procedure=self.procedure, progress=progress, cancel=cancel)
            check(cancel)
            session.measure(progress, cancel, scored=False)
            self._take(session, {"example": name})
            self._score_next(session)

        self._start("load", f"loading {name}", work)

    def load_own(self, form: dict) -> None:
        """A model and data of one's own (load_form.py) in place of the present session, once measured."""

        def work(progress: Reporter, cancel: threading.Event) -> None:
            session = own_session(form, self.procedure, progress)
            session.measure(progress, cancel, scored=False)
            self._take(session, {"form": form})
            self._deliver(lambda: self.set_trait("own", form))
            self._score_next(session)

        self._start("load_own", f"loading {form.get('model') or 'a model'}", work)

    def measure(self) -> None:
        """Measure the groups, and show them; the score follows by itself."""

        def work(progress: Reporter, cancel: threading.Event) -> None:
            session = self._current
            session.measure(progress, cancel, scored=False)
            self._score_next(session)

        self._start("measure", "measuring", work)

    def remeasure(self) -> None:
        """Measure the stale groups again."""
        self._start(
            "measure", "measuring again", lambda progress, cancel: self._current.remeasure(progress, cancel)
        )

    def set_procedure(self, name: str) -> None:
        """The same network under the other procedure, with the moments measured so far."""

        def work(progress: Reporter, cancel: threading.Event) -> None:
            self._take(with_procedure(self._current, name), self._how)

        self._start("set_procedure", f"switching to the {name} procedure", work)

    def try_choice(self, request: dict | None = None) -> None:
        """Score, and which answers change, with the choice of `request`, by default the present one.

        Nothing is kept.
        """
        request = self.request() if request is None else request

        def work(progress: Reporter, cancel: threading.Event) -> None:
            session = self._current
            model = session.pruned(self._choose(session, request), progress, cancel)
            title = f"{request['group']} at {request['width']} units, tried"
            score, flips = self._tried_with(session, CHOICE, title, model, progress, cancel)
            now = session.history[session.position].score
            change = None if score is None or now is None else score - now
            answer = {"request": request, "score": score, "change": change, "flips": flips}
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

    def save(self, folder: str | Path | None = None, replace: bool = False, take_over: bool = False) -> None:
        """Save the session, to be opened again; by default in ./<name>-pruned.

        Without `replace`, files that are there already are asked about; without `take_over`, a folder that
        another notebook has open. It waits for nothing that runs: the session before it is saved.
        """

        session = self._current  # whatever is loaded until it is written

        def work() -> None:
            how = "failed"
            try:
                with said_of(folder):
                    where = folder_for(session.name, folder)
                    if not take_over:  # asked before what is there, which its answer answers too
                        session.check_free(where)
                    if self._may_write(where, replace or take_over, "save"):
                        self._note(f"Saving in {where} …")
                        session.save(where, take_over=take_over)
                        self._note(f"Session saved in {where}")
                how = "done"
            except OpenElsewhereError as error:
                self._ask_to_take_over(error.brief)
                how = "done"
            except BaseException as error:
                self._note("")
                self._fail("save", error)
            finally:
                self._deliver(lambda: self._set(self._ended("save", how)))

        self._set({"error": "", "question": {}})
        self._aside.submit(work)

    def export(
        self,
        folder: str | Path | None = None,
        formats: Iterable[str] = ("safetensors",),
        replace: bool = False,
    ) -> None:
        """Export the pruned network, to be used without this package; else as `save`."""

        def work(progress: Reporter, cancel: threading.Event) -> None:
            session, kinds = self._current, tuple(formats)
            with said_of(folder):
                where = folder_for(session.name, folder)
                if self._may_write(where, replace, "export", kinds):
                    written = session.export(
                        where, formats=kinds, progress=progress, cancel=cancel, replace=True
                    )
                    self._note(f"Exported to {where}: {', '.join(Path(file).name for file in written)}")

        self._start("export", "exporting", work)

    def cancel(self) -> None:
        """Ask what runs or waits to stop; it ends between two batches and changes nothing."""
        for event in list(self._cancels):
            event.set()
        self._go_on_to_the_end()

    # How they run

    def _note(self, words: str) -> None:
        self._deliver(lambda: self.set_trait("notice", words))

    def _may_write(self, folder: Path, replace: bool, command: str, formats: tuple[str, ...] = ()) -> bool:
        """Whether nothing would be replaced, or that is said; else the page asks and sends it again."""
        there = in_the_way(folder, command, formats)
        if replace or not there:
            return True
        words = f"{folder} already holds {', '.join(there)}. Replace {'it' if len(there) == 1 else 'them'}?"
        self._deliver(lambda: self.set_trait("question", {"command": command, "words": words}))
        return False

    def _ask_to_take_over(self, brief: str) -> None:
        """Put a button beside the words that say who has a folder; what saves there next is told."""
        words = f"{brief}. Taking over puts this session in the place of the one that is saved there."
        answers = {"yes": "Take over", "no": "Leave it", "take_over": True}
        question = {"command": "save", "words": words} | answers
        self._deliver(lambda: self._set({"notice": "", "question": question}))

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

    @property
    def _workers(self) -> tuple[Worker, ...]:
        names = "jobs aside previews losses lines theories looks networks pictures"
        return tuple(getattr(self, f"_{name}") for name in names.split())

    def wait(self, timeout: float | None = None) -> bool:
        """Until the workers are idle; False if that took longer than `timeout` seconds. For scripts: where an
        event loop runs, the results reach the traits only when it gets its turn."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._idle:
            for worker in self._workers:
                if not worker.wait(None if end is None else max(0.0, end - time.monotonic())):
                    return False
        return True

    def settle(self, timeout: float) -> bool:
        """Until all that was asked for is done and shown; False if that took longer than `timeout` seconds.

        For a cell whose output must be whole when it ends: it holds the event loop, and does its part.
        """
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            idle = self._idle
            if not self._deliver.empty:
                self._deliver.apply_next()
            elif idle:
                return True
            else:
                time.sleep(LOOK_EVERY)
        return False

    @property
    def _idle(self) -> bool:
        """Whether no worker has anything to do, and none has handed on to another since it was asked."""
        asked = sum(worker.asked for worker in self._workers)
        busy = any(worker.busy for worker in self._workers)
        return not busy and asked == sum(worker.asked for worker in self._workers)

    def _start(self, command: str, what: str, work: Work) -> None:
        self._set({"error": "", "notice": "", "question": {}})
        self._queue(command, what, work)

    def _queue(self, command: str, what: str, work: Work, follows: bool = False) -> None:
        """Have `work` done in its turn. What is told of the work before it stays; `ended` too, where it
        `follows` from that work."""
        cancel = threading.Event()

        def job() -> None:
            how = "failed"
            self._doing(command, what)
            try:
                check(cancel)
                progress = Reporter(lambda values: self._tell(command, values), what, cancel)
                work(progress, cancel)
                how = "done"
            except Cancelled as stopped:
                how = "cancelled"
                self._note(str(stopped) if isinstance(stopped, KeptPartError) else f"Cancelled: {what}")
            except BaseException as error:  # SystemExit too, which a user's code may raise
                self._fail(command, error)
            finally:
                self._cancels.remove(cancel)
                self._commands.remove(command)
                self._doing(command, "")
                self._deliver(lambda: self._finished({} if follows else self._ended(command, how)))

        self._cancels.append(cancel)
        self._commands.append(command)
        self._deliver(lambda: cancel_at_interrupt(self))
        self._jobs.submit(job)

    def _tell(self, command: str, values: dict) -> None:
        """Show how far `command` is."""
        self._deliver(lambda: self.set_trait("progress", values | {"command": command}))

    def _finished(self, ended: dict) -> None:
        # What could not be loaded must not look chosen, or it cannot be chosen again.
        if not self._commands:
            let_be(self)
        following = {"what": "going on", "command": self._commands[0]} if self._commands else {}
        self._set({"progress": following} | ended | ({} if self.session else {"name": ""}))
        self._ask()

    def _ended(self, command: str, how: str) -> dict:
        return {"ended": {"command": command, "how": how, "count": self.ended.get("count", 0) + 1}}

    def _fail(self, command: str, error: BaseException) -> None:
        """Put the error's own words where the hand is."""
        words = in_words(error)
        place = self._table("PLACES").get(command, "header")
        self._deliver(lambda: self._set({"error": words, "error_at": place}))

    def _on_message(self, _widget: Any, content: dict, _buffers: Any) -> None:
        with self._deliver.turn:
            self._obey(content)

    def _obey(self, content: dict) -> None:
        command = str(content.get("command")) if isinstance(content, dict) else ""
        commands = self._table("COMMANDS")
        if command not in commands or any(key not in content for key in commands[command]):
            self._fail("page", ValueError(f"the page sent a command that is not known: {content!r}"))
        elif command not in self._at_once and self._jobs.busy:
            self._fail(command, RuntimeError(BUSY))
        else:
            try:
                getattr(self, command)(**{key: content[key] for key in commands[command]})
            except Exception as error:
                self._fail(command, error)

    def _table(self, name: str) -> dict:
        """The tables `name` of this class and of all the state's other parts, as one."""
        return {key: value for part in type(self).__mro__ for key, value in vars(part).get(name, {}).items()}

    @property
    def _at_once(self) -> set[str]:
        return {command for part in type(self).__mro__ for command in vars(part).get("AT_ONCE", ())}


def check(cancel: threading.Event) -> None:
    """Raises Cancelled if that was asked for."""
    if cancel.is_set():
        raise Cancelled("cancelled")
