"""Files that are whole or not there: written aside, put on the disk, moved into place; with their hashes.

A file that is *sealed* is JSON whose last entry is the SHA-256 of all the others, as they are written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from workbench.data.bounds import FileError, read_bytes
from workbench.data.plain_json import LARGEST_JSON, parsed

SEAL = "sha256"
LOCK = ".lock"
PATIENCE = 5.0  # seconds that a writer waits for another one before it is told
_POLL = 0.05  # seconds between two tries
READS = 3  # tries, where somebody writes meanwhile
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
_CHUNK = 1 << 20  # bytes
_ASIDE = ".writing-"
_LEFT = re.compile(rf"{re.escape(_ASIDE)}[0-9a-f]{{16}}")
_SEALED = re.compile(rf'"{SEAL}": "([0-9a-f]{{64}})"\n\}}\n\Z')
_BLANK = "0" * 64
Found = TypeVar("Found")


class DamagedError(FileError):
    """A file that is missing, or not as it was written; the message names it."""


class FolderInUseError(OSError):
    """Somebody else writes into the folder at this moment."""


class OpenElsewhereError(FolderInUseError):
    """Somebody else has the folder open, or saved there since: it may be taken over.

    `brief` says so without what to do.
    """

    def __init__(self, brief: str, advice: str):
        super().__init__(f"{brief}: {advice}")
        self.brief, self.advice = brief, advice

    def __reduce__(self) -> tuple[type[OpenElsewhereError], tuple[str, str]]:
        return type(self), (self.brief, self.advice)  # a process that gets it could not make it otherwise


def expanded(path: str | Path) -> Path:
    """The path with `~` as the home folder that it stands for."""
    return Path(path).expanduser()


def digest(content: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a file, which need not fit into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Put a file with this content in the place of `path`, or leave that as it was.

    Raises OSError, which names the file.
    """
    aside = path.with_name(f"{_ASIDE}{secrets.token_hex(8)}")
    try:
        check_space(path, len(content))
        _write_new(aside, content)
        os.replace(aside, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(aside)
        if isinstance(error, OSError) and error.errno is not None:  # of writing, Python names no file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together, all of them or none; those that are there are replaced one by one.

    A link stays, and what it leads to is written; what is no file, such as a pipe, is written into.

    Raises OSError, which names the file.
    """
    made: list[Path] = []
    try:
        for path, content in files.items():
            if path.exists() and not path.is_file():
                path.write_bytes(content)
                continue
            place = path.resolve()
            if not place.exists():
                made.append(place)
            write_whole(place, content)
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise


def check_space(path: Path, count: int) -> None:
    """Raises OSError (ENOSPC) where `count` bytes more do not fit onto the disk on which `path` is to be."""
    place = next((one for one in (path, *path.parents) if one.exists()), path)
    try:
        disk = shutil.disk_usage(place)
    except OSError:
        return  # the writing will tell
    if disk.total and disk.free < count:  # some disks do not tell how large they are
        raise OSError(
            errno.ENOSPC,
            f"no space left on the disk: {said_bytes(count)} are needed, and {said_bytes(disk.free)} are "
            "free. Make room there, or name a folder on another disk",
            str(path),
        )


def said_bytes(count: float) -> str:
    """A number of bytes in words."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def _write_new(path: Path, content: bytes | memoryview) -> None:
    """Write a file that is not there yet, onto the disk itself; its mode follows the umask."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(handle, left[:_CHUNK]) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, onto the disk itself."""
    if os.name == "nt" and path.is_dir():  # Windows has no such thing for folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot do it for folders
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, each onto the disk itself. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def left_in(folder: Path) -> list[Path]:
    """The files that a writer who was killed left in `folder`, not whole."""
    return [path for path in folder.iterdir() if _LEFT.fullmatch(path.name)]


@contextmanager
def locked(folder: Path, patience: float | None = None) -> Iterator[None]:
    """Nobody else writes into `folder` meanwhile; the lock of a process that was killed is free.

    On a disk that knows no locks nobody is kept out: what is written is whole all the same.

    `patience`: seconds to wait for another one. Raises FolderInUseError, OSError.
    """
    path = folder / LOCK
    with suppress(FileNotFoundError):  # looked at once: who leaves takes it away meanwhile
        if not stat.S_ISREG(path.lstat().st_mode):
            raise OSError(f"{path} is no file of a lock, but a link or something else: take it away")
    lock = FileLock(path)
    until = time.monotonic() + (PATIENCE if patience is None else patience)
    while not _acquired(lock, path):
        if time.monotonic() > until:
            raise FolderInUseError(
                f"{folder} is being written to by another process or thread: wait until that is done, or "
                "name another folder"
            )
        time.sleep(_POLL)
    try:
        yield
    finally:
        if os.name != "nt":  # where a file that is open cannot go
            with suppress(OSError):
                os.unlink(path)
        lock.release()


def is_held(lock: FileLock) -> bool:
    """Whether somebody else has the lock; else it is taken, but on a disk that knows none. Raises OSError."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except NotImplementedError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return False


def _acquired(lock: FileLock, path: Path) -> bool:
    """Take the lock where it is free, and where its file is not just being taken away by who had it."""
    for _ in range(2):  # the first time the file may not be there
        before = _inode(path)
        if is_held(lock):
            return False
        if not lock.is_locked:  # on a disk that knows none
            return True
        if before is not None and before == _inode(path):
            return True
        lock.release()
    return False


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def sealed(values: dict[str, Any]) -> bytes:
    """The values as a JSON file that says its own SHA-256."""
    text = json.dumps({**values, SEAL: _BLANK}, indent=2, ensure_ascii=False) + "\n"
    return (text[: -len(_BLANK) - 4] + digest(text.encode()) + text[-4:]).encode()


def is_sealed(content: bytes) -> bool:
    """Whether a file is, byte for byte, as `sealed` made it."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return False
    found = _SEALED.search(text)
    if found is None:
        return False
    return digest((text[: found.start(1)] + _BLANK + text[found.end(1) :]).encode()) == found[1]


def seal_of(path: Path) -> str:
    """The SHA-256 that a sealed file says; "" where there is none, or it is not sealed. Raises OSError."""
    try:
        found = _SEALED.search(read_bytes(path, LARGEST_JSON).decode())
    except (FileNotFoundError, ValueError):  # which is told where it is read or written
        return ""
    return "" if found is None else found[1]


def read_sealed(path: Path, signs: Collection[str] = (), within: Path | None = None) -> Any:
    """What a JSON file holds.

    Args:
        path: of the file.
        signs: names of entries that only a sealed file has.
        within: the folder out of which no link may lead to it.

    Returns:
        Its values, those of the seal with them where it has one.

    Raises:
        DamagedError: it is sealed, and not as `sealed` made it.
        FileError: it is no JSON, or not within the bounds (`plain_json`).
        OSError: it cannot be read.
    """
    content = read_bytes(path, LARGEST_JSON, within)
    found = parsed(content, str(path))
    if isinstance(found, dict) and found.keys() & {SEAL, *signs} and not is_sealed(content):
        raise DamagedError(
            f"{path} is damaged, or was edited after it was written: its content does not have the SHA-256 "
            "that it says. Copy it again from where it is whole"
        )
    return found


def read_again(read: Callable[[], Found], state: Callable[[], Any]) -> Found:
    """What `read` returns of files that somebody may be replacing: tried again where that made it fail.

    `state()`: what tells that they were replaced, by being another than before. Raises as both do.
    """
    for _ in range(READS - 1):
        before = state()
        try:
            return read()
        except (ValueError, FileNotFoundError):
            if state() == before:
                raise
    return read()
