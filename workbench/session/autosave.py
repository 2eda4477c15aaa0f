"""The journal of a session: after each change it is written into a folder of its own, in the background.

A session writes into one folder, a run, below one of its model and data; nobody else writes there. What a run
holds is what `Session.save` writes, and `about.json`, which says what it is of and what was being done.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from torch.utils.weak import WeakIdKeyDictionary

from workbench.data.claims import Claim, claim
from workbench.data.durable import make_folder, sealed, write_whole
from workbench.session import store
from workbench.session.ending import wait_at_end
from workbench.session.of_what import examples_of, key_of
from workbench.session.runs import ABOUT, FORMAT, About, Run, clear, made_beside
from workbench.session.session import Session

PAUSE = 1.0  # seconds between two writings of what the screen has


class Autosave:
    """Writes `session` into a run of its own below `root` after each change, and says what is being done.

    `how`, `screen`: as `About`. `trouble(words)` is called, in the writer's thread, where a run cannot be
    written, and with "" where it can again. `after`: a run that this one goes on from, and replaces once it
    is written, unless somebody wrote there since.
    """

    def __init__(
        self,
        session: Session,
        root: Path,
        how: Mapping[str, Any] | None = None,
        trouble: Callable[[str], Any] = lambda words: None,
        after: Run | None = None,
        screen: Mapping[str, Any] | None = None,
    ):
        self.root, self.folder = Path(os.path.abspath(root)), Path()
        self._how, self._after, self._process = dict(how or {}), after, os.getpid()
        self._troubles = [trouble]
        self._about: About | None = None
        self._claim: Claim | None = None
        self._leave_run: Callable[[], Any] = lambda: None
        self._leave_session: Callable[[], Any] | None = None
        self._known = WeakIdKeyDictionary()
        self._writer = ThreadPoolExecutor(1, "workbench-autosave")
        self._turn = threading.Lock()
        self._waiting = False
        self._doing, self._failed = "", ""
        self._screen: dict[str, Any] = dict(screen or {})
        self._whose: object = None  # of those who show the session, who said that
        self._later: threading.Timer | None = None
        self._last: Future | None = None
        self.closed = False
        mine = weakref.ref(session)
        me = weakref.WeakMethod(self._changed)
        self._leave = session.subscribe(lambda event: _tell(me, mine))
        wait_at_end(self)
        if session.measured:
            self._changed(session)

    def doing(self, what: str) -> None:
        """Say what is being done now; "": nothing. What is written by then stays what is offered."""
        self._doing = what
        self._submit(self._say)

    def join(self, trouble: Callable[[str], Any]) -> None:
        """One more who shows the session; `close` is then to be called once more."""
        if trouble not in self._troubles:
            self._troubles.append(trouble)
        trouble(self._failed)

    def stay(self, session: Session) -> None:
        """Have the session hold this, which else only those hold who show it."""
        if self._leave_session is None and not self.closed:
            self._leave_session = session.subscribe(self._hear)

    def _hear(self, event: str) -> None:
        """Whoever listens is held; what has changed is heard by another way, which holds nobody."""

    def keep(self, screen: Mapping[str, Any], whose: object = None) -> None:
        """Have `screen` kept with the session, at most once in `PAUSE`; plain values.

        `whose`: of several who show the session; one who has nothing planned leaves what another has.
        """
        if whose != self._whose and self._screen and made_beside(self._screen) and not made_beside(screen):
            return
        self._screen, self._whose = dict(screen), whose
        with self._turn:
            if self._later is None:
                self._later = threading.Timer(PAUSE, self._keep)
                self._later.daemon = True
                self._later.start()

    def _keep(self) -> None:
        with self._turn:
            self._later = None
        self._submit(self._say)

    @property
    def is_whole(self) -> bool:
        """Whether all that has changed so far is on the disk, or about to be."""
        return self._about is not None and not self._failed

    def wait(self, timeout: float | None = None) -> None:
        """Until all is written that has changed so far. Raises TimeoutError."""
        if self._last is not None:
            self._last.result(timeout)

    def close(self, trouble: Callable[[str], Any] | None = None) -> None:
        """Write no more, once all who show the session have closed it with their `trouble`; the run stays."""
        with _sharing:
            left = [one for one in self._troubles if trouble is not None and one != trouble]
            self._troubles = left
            if left or self.closed:
                return
            self.closed = True
        self._leave()
        if self._leave_session is not None:
            self._leave_session()
        self._submit(self._say)
        self._submit(lambda: self._leave_run())
        self._writer.shutdown(wait=False)

    # In the writer's thread, but for the first two

    def _changed(self, session: Session) -> None:
        if os.getpid() != self._process:
            return  # a fork: its writer is not there, and the run is not its own
        with self._turn:
            if self._waiting:
                return
            self._waiting = True
        self._submit(self._write, session)  # which is kept until then

    def _submit(self, work: Callable, *given: Any) -> None:
        if os.getpid() != self._process:
            return
        with suppress(RuntimeError):  # the process ends
            self._last = self._writer.submit(work, *given)

    def _write(self, session: Session) -> None:
        with self._turn:
            self._waiting = False
        try:
            saved = session.saved(undone=True)
            if not saved.moments and not any(branch.recipe["steps"] for branch in saved.branches):
                return
            if self._about is None or not (self.folder / ABOUT).is_file():  # or somebody took it away
                self._begin(session)
            store.write(saved, self.folder, self._known)
        except Exception as error:
            self._tell_trouble(_in_words(error))
            return
        self._tell_trouble("")
        self._say()
        clear(self.folder.parent, self.folder, self._after, self._claim is not None)

    def _tell_trouble(self, words: str) -> None:
        if words != self._failed:
            self._failed = words
            for trouble in list(self._troubles):
                trouble(words)

    def _begin(self, session: Session) -> None:
        self._leave_run()
        about = About(
            FORMAT, key_of(session), session.name, session.data_name,
            examples_of(session), self._how, self._doing, _plain(self._screen), self._measuring(session),
        )  # fmt: skip
        plain = re.sub(r"[^\w.]+", "-", session.name).strip("-.")[:40] or "model"
        folder = (
            self.root / f"{plain}-{about.key}" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
        )
        if not self.root.exists():
            make_folder(self.root.parent)
            with suppress(FileExistsError):
                self.root.mkdir(mode=0o700)
        make_folder(folder)
        write_whole(folder / ABOUT, sealed(msgspec.to_builtins(about)))
        self.folder, self._claim, self._about = folder, claim(folder), about
        if self._claim is not None:
            self._leave_run = weakref.finalize(self, self._claim.release)

    def _measuring(self, session: Session) -> float:
        """What the moments cost: where they were not measured here, as the run says that they came from."""
        before = 0.0 if self._after is None else self._after.about.measuring
        return session.history[0].seconds or before

    def _say(self) -> None:
        if self._about is None:
            return
        about = msgspec.structs.replace(self._about, doing=self._doing, screen=_plain(self._screen))
        if about != self._about:
            with suppress(OSError, TypeError, ValueError):  # not told then; what is there is as it was
                write_whole(self.folder / ABOUT, sealed(msgspec.to_builtins(about)))
                self._about = about


def _plain(screen: Mapping[str, Any]) -> dict[str, Any]:
    """`screen`, or nothing where it would make what says what a run is unreadable."""
    try:
        json.dumps(screen, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return {}
    return dict(screen)


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    return str(error) or type(error).__name__


def autosave_of(
    session: Session,
    root: Path,
    how: Mapping[str, Any],
    trouble: Callable[[str], Any],
    after: Run | None = None,
    screen: Mapping[str, Any] | None = None,
) -> Autosave:
    """What keeps `session` below `root`: one for all who show it. Arguments as for `Autosave`."""
    with _sharing:
        found = kept_by(session)
        if found is not None and found.root == Path(os.path.abspath(root)):
            found.join(trouble)
            return found
        made = Autosave(session, root, how, trouble, after, screen)
        _kept[session] = weakref.ref(made)
        return made


def kept_by(session: Session) -> Autosave | None:
    """What keeps `session`, if anything does."""
    found = _kept.get(session, lambda: None)()
    return None if found is None or found.closed else found


_sharing = threading.RLock()
_kept: weakref.WeakKeyDictionary[Session, weakref.ref[Autosave]] = weakref.WeakKeyDictionary()


def _tell(autosave: weakref.WeakMethod, session: weakref.ref[Session]) -> None:
    changed, found = autosave(), session()
    if changed is not None and found is not None:
        changed(found)
