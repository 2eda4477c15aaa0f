"""A session without widgets keeps itself too: where it is asked for, in runs like those of the screen.

These are functions beside `Session`, not arguments of it: what keeps a session knows `Session`, which cannot
know it in turn; and they take sessions from anywhere: an example, a folder, a recipe, an earlier run.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from workbench.session.autosave import Autosave, autosave_of, kept_by
from workbench.session.kept_in import root_folder
from workbench.session.of_what import key_of, way_of
from workbench.session.runs import Run, runs
from workbench.session.session import Session


def autosave(session: Session, folder: bool | str | Path = True, after: Run | None = None) -> Autosave | None:
    """Keep `session` after each change from now on, in the background, as the screen does.

    A process that is killed loses at most the step in flight: `earlier_runs` finds what was kept, and
    `taken_up` goes on with it, as the screen offers it too. The session holds what keeps it.

    Args:
        session: of this package, from anywhere; one that is on the screen already is kept once.
        folder: where runs are kept, each in a folder of its own; True: the platform's folder for state, or
            what WORKBENCH_AUTOSAVE says ("off": nowhere).
        after: the run that the session was taken up from, which this one replaces, unless somebody wrote
            there since.

    Returns:
        What keeps it: its `folder`, `wait()` until all is written, `close()` to end it, for views of the
        session as well. None where it is switched off.

    Raises:
        TypeError: anything but a Session. What cannot be written is a RuntimeWarning, and tried again after
            the next change.
    """
    _check(session)
    root = root_folder(folder)
    if root is None:
        return None
    saves = autosave_of(session, root, way_of(session), _warn, after)
    saves.stay(session)
    return saves


def earlier_runs(session: Session, folder: bool | str | Path = True) -> list[Run]:
    """What earlier sessions on the same network and data kept, the newest first; `str(run)` says what it is.

    Args:
        session: need not be measured; its own run is not among them.
        folder: as for `autosave`.

    Returns:
        Runs with work in them, for `taken_up`; `open` is True where somebody works on it now. What is
        damaged is passed over.

    Raises:
        TypeError: anything but a Session.
    """
    _check(session)
    root = root_folder(folder)
    if root is None:
        return []
    mine = kept_by(session)
    return [run for run in runs(root, key_of(session)) if mine is None or run.folder != mine.folder]


def _check(session: Session) -> None:
    if not isinstance(session, Session):
        raise TypeError(f"give a Session; got a {type(session).__name__}")


def _warn(words: str) -> None:
    if words:
        warnings.warn(
            f"the session is not kept by itself, so save it now and then: {words}",
            RuntimeWarning,
            stacklevel=2,
        )
