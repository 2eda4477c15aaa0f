"""Files put into a folder together: all of the new or all of the old, whatever becomes of the process.

They are made in a folder beside, put onto the disk, and that folder gets the name `.incoming-export` in one
go: from then on they count, wherever they lie. Then each is moved to its place, `architecture.json` last.
Where a process ends in between, whoever opens the folder next goes on with the moving; until then what is in
there goes before what lies in the folder: `path_of` says where a file is.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workbench.data.bounds import check_within
from workbench.data.durable import FolderInUseError, locked, sync
from workbench.export.kinds import ARCHITECTURE, INCOMING, files_listed

_ASIDE = ".exporting-"
_ABOVE = 3  # folders above that one that was killed may have begun in, since they were missing below
_OURS = re.compile(rf"{re.escape(_ASIDE)}[0-9a-f]{{16}}")


@contextmanager
def aside(folder: Path) -> Iterator[Path]:
    """An empty folder on the same disk as `folder` to make the files in; gone afterwards."""
    home = folder if folder.exists() else next(parent for parent in folder.parents if parent.exists())
    for above in {home, *folder.parents[:_ABOVE]}:
        _sweep(above)
    temporary = home / f"{_ASIDE}{secrets.token_hex(8)}"
    temporary.mkdir()
    try:
        with locked(temporary):  # as long as it is, nobody sweeps it away
            # As deep as the folders that are missing, so that one renaming puts them all in place.
            made = temporary.joinpath("made", *folder.relative_to(home).parts[1:])
            made.mkdir(parents=True)
            yield made
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep(home: Path) -> None:
    """Take away what processes that were killed made in `home` and did not put in place."""
    for path in home.iterdir() if home.is_dir() else ():
        if _OURS.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            with suppress(FolderInUseError, OSError), locked(path, patience=0):
                shutil.rmtree(path, ignore_errors=True)


def put_in_place(made: Path, folder: Path, going: Callable[[], Iterable[str]]) -> None:
    """Move the files in `made`, on the disk by then, to `folder`.

    `going()`: names of files there that are to go, those that are replaced apart; asked for once nobody else
    writes into the folder. It may raise.

    Raises FolderInUseError, OSError; then the folder is as it was.
    """
    for path in made.iterdir():
        sync(path)
    sync(made)
    if not folder.exists():
        above, top = made, folder
        while not top.parent.exists():
            above, top = above.parent, top.parent
            sync(above)
        os.rename(above, top)
        sync(top.parent)
        return
    with locked(folder):
        _settle(folder)
        gone = set(going())
        sync(made.parent)
        os.rename(made, folder / INCOMING)
        _move(folder, gone, made.with_name("old"))


def _move(folder: Path, gone: Iterable[str], old: Path) -> None:
    """Move what is in `.incoming-export` to its place; on an error all is as it was before that was there."""
    incoming = folder / INCOMING
    files = _in_order(incoming)
    try:
        sync(folder)
        old.mkdir()
        for file in (*sorted(gone), *files):
            if (folder / file).exists():
                os.replace(folder / file, old / file)
            if file in files:
                os.replace(incoming / file, folder / file)
        sync(folder)
    except BaseException:
        for file in files:
            if not (incoming / file).exists():
                os.replace(folder / file, incoming / file)
        if old.is_dir():
            for saved in old.iterdir():
                os.replace(saved, folder / saved.name)
        os.rename(incoming, old.with_name("made"))
        raise
    with suppress(OSError):  # else it goes with the next opening
        incoming.rmdir()


def _in_order(incoming: Path) -> list[str]:
    """The files in `.incoming-export`; the one that says what there is comes last."""
    return sorted((path.name for path in incoming.iterdir()), key=lambda name: (name == ARCHITECTURE, name))


def settle(folder: Path) -> None:
    """Go on with what a process that was killed left in `folder`, as far as that may be written.

    Raises FileError where that is a link to another place, whose files are not to be moved here.
    """
    check_within(folder / INCOMING, folder)
    if not (folder / INCOMING).is_dir() and not any(_OURS.fullmatch(path.name) for path in folder.iterdir()):
        return
    with suppress(FolderInUseError, OSError), locked(folder, patience=0):
        _settle(folder)
        _sweep(folder)


def path_of(folder: Path, file: str) -> Path:
    """Where a file of the export in `folder` is, or should be."""
    incoming = folder / INCOMING / file
    return incoming if incoming.is_file() else folder / file


def _settle(folder: Path) -> None:
    """For whoever holds the lock. Raises OSError."""
    incoming = folder / INCOMING
    if not incoming.is_dir():
        return
    if (incoming / ARCHITECTURE).is_file():
        replaced = files_listed(folder / ARCHITECTURE) - files_listed(incoming / ARCHITECTURE)
        sync(folder)
        for file in _in_order(incoming):
            if file == ARCHITECTURE:
                for name in replaced:
                    (folder / name).unlink(missing_ok=True)
            os.replace(incoming / file, folder / file)
        sync(folder)
    incoming.rmdir()
