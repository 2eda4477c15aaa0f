"""Whose a folder is while somebody has it open: the next one is told, may take it over, or finds it free.

Who has a folder open says so in `.owner`, and holds the lock of a file of its own beside it. A process that
was killed holds nothing any more.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
from filelock import FileLock, Timeout

from workbench.data.durable import FolderInUseError, is_held, read_sealed, sealed, write_whole

OWNER = ".owner"
OPEN = ".open-"
_OPENED = re.compile(rf"{re.escape(OPEN)}([0-9a-f]{{16}})")
_TRIES = 5  # at a claim, while others look at what is made for it
_CANNOT = (OSError, NotImplementedError)  # a folder that is not to be written in, a disk without locks


class Owner(msgspec.Struct, frozen=True):
    """Who has a folder open: `name` is one of the process's sessions, `since` seconds since 1970."""

    name: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
    process: int
    host: Annotated[str, msgspec.Meta(max_length=255)]
    since: Annotated[float, msgspec.Meta(ge=0, le=1e11)]

    def __str__(self) -> str:
        since = time.strftime("%H:%M", time.localtime(self.since))
        return f"process {self.process}{self._elsewhere}, since {since}"

    @property
    def _elsewhere(self) -> str:
        return "" if self.host == socket.gethostname() else f" on {self.host}"


class Claim:
    """A folder that this process has open; free again by as many `release` as `claim`, or when that ends."""

    def __init__(self, folder: Path, owner: Owner, lock: FileLock):
        self.folder, self.owner = folder, owner
        self._lock, self.users = lock, 1
        _held[owner.name] = self

    @property
    def is_mine(self) -> bool:
        """Whether nobody has taken the folder over."""
        return _owner_in(self.folder) == self.owner

    def release(self) -> None:
        """Leave the folder to others, where nobody else of this process has it."""
        if self.owner.process != os.getpid():
            return  # a fork of who has it
        with _turn:
            self.users -= 1
            if self.users:
                return
            _held.pop(self.owner.name, None)
            with suppress(*_CANNOT):
                if _owner_in(self.folder) == self.owner:
                    os.unlink(self.folder / OWNER)
            with suppress(*_CANNOT):
                _free(self._lock)


_held: weakref.WeakValueDictionary[str, Claim] = weakref.WeakValueDictionary()  # by this process
_turn = threading.RLock()


def _is_a_fork() -> None:
    """A fork has nothing open of what the process has from which it came."""
    global _turn
    _turn = threading.RLock()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_is_a_fork)


def claim(folder: Path, take_over: bool = False) -> Claim | None:
    """Have `folder` open from now on, together with whoever in this process has it.

    Args:
        folder: one that is there.
        take_over: also where another process has it open; that one is told when it next writes.

    Returns:
        The claim; None where the disk cannot hold one, as where nothing may be written.

    Raises:
        FolderInUseError: another process has it open, and it was not to be taken over.
    """
    folder = Path(os.path.abspath(folder))  # wherever the process goes
    other = in_use(folder)
    if other is not None and not take_over:
        raise FolderInUseError(f"{folder} is open elsewhere ({other})")
    with _turn:
        mine = _held_in(folder)
        if mine is not None:
            mine.users += 1
            return mine
        return _claimed(folder)


def _claimed(folder: Path) -> Claim | None:
    for _ in range(_TRIES):
        owner = Owner(secrets.token_hex(8), os.getpid(), socket.gethostname()[:255], time.time())
        lock = FileLock(folder / f"{OPEN}{owner.name}")
        try:
            _clear(folder)
            lock.acquire(timeout=0)
            if not Path(lock.lock_file).exists():  # another one took it for a file that was left
                lock.release()
                continue
            write_whole(folder / OWNER, sealed(msgspec.to_builtins(owner)))
        except Timeout:  # another one looks at it
            continue
        except _CANNOT:
            with suppress(*_CANNOT):
                _free(lock)
            return None
        return Claim(folder, owner, lock)
    return None


def in_use(folder: Path) -> Owner | None:
    """The other process that has `folder` open, if one has."""
    owner = _owner_in(folder)
    if owner is None or owner.name in _held or not _is_held(folder / f"{OPEN}{owner.name}"):
        return None
    return owner


def is_open(folder: Path) -> bool:
    """Whether anybody has `folder` open, this process too."""
    owner = _owner_in(folder)
    return owner is not None and (owner.name in _held or _is_held(folder / f"{OPEN}{owner.name}"))


def _held_in(folder: Path) -> Claim | None:
    owner = _owner_in(folder)
    return None if owner is None else _held.get(owner.name)


def _owner_in(folder: Path) -> Owner | None:
    try:
        found: Any = read_sealed(folder / OWNER)
        return msgspec.convert(found, Owner)
    except (OSError, ValueError):
        return None


def _is_held(path: Path) -> bool:
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        return is_held(lock)
    except OSError:
        return False
    finally:
        lock.release()


def _clear(folder: Path) -> None:
    """Take away what processes that were killed left: each file while its lock is held here, so that nobody
    who is just making it believes that he has it."""
    for path in folder.iterdir():
        found = _OPENED.fullmatch(path.name)
        if found is None or found[1] in _held or not path.is_file() or path.is_symlink():
            continue
        lock = FileLock(path)
        with suppress(Timeout):
            lock.acquire(timeout=0)
            _free(lock)


def _free(lock: FileLock) -> None:
    if os.name != "nt":  # where a file that is open cannot go
        with suppress(OSError):
            os.unlink(lock.lock_file)
    lock.release()
