"""What a file of somebody else's may be, looked at before anything of it is read or built.

A regular file, no pipe and no device that never ends; of a size that fits; not reached by a link that leads
out of the folder that it should lie in. Whatever is wrong with a file is one error, which names it.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.data.progress import Cancelled

# What libraries raise for bytes that they did not expect.
ODD_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, LookupError, MemoryError),
    *(NotImplementedError, RuntimeError, SyntaxError, TypeError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
PACKED_FLOOR = 256 << 20  # bytes: what unpacks to no more than these is unpacked
PACKED_RATIO = 200  # times as many bytes unpacked as packed, above which nothing real is packed


# What the system says of places in a file that cannot be: the file is damaged, not the disk.
_OF_CONTENT = (None, errno.EINVAL, errno.EOVERFLOW, errno.EFBIG)


class FileError(ValueError):
    """A file that is not what its reader takes: of another kind, damaged, or beyond its bounds.

    The message names the file, and the place in it where there is one.
    """


def check_file(path: Path, largest: int | None = None, within: Path | None = None) -> int:
    """Look at a file before it is opened.

    Args:
        path: of the file.
        largest: bytes that it may have; None for any number.
        within: the folder out of which no link may lead to it; None where it may lie anywhere.

    Returns:
        Its bytes.

    Raises:
        FileNotFoundError: there is none.
        FileError: it is a folder, a pipe or a device, too large, or reached by a link out of `within`.
        OSError: it cannot be looked at.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"there is no file {path}") from error
    except ValueError as error:  # a NUL in the name
        raise FileError(f"{str(path)!r} is not the name of a file: {error}") from error
    if not stat.S_ISREG(found.st_mode):
        kind = next((words for test, words in KINDS if test(found.st_mode)), "something else")
        raise FileError(f"{path} is {kind}, not a regular file: give a file")
    check_within(path, within)
    if largest is not None and found.st_size > largest:
        raise FileError(f"{path} has {found.st_size:,} bytes; the limit for such a file is {largest:,}")
    return found.st_size


def check_within(path: Path, within: Path | None) -> None:
    """Refuse a file or folder that links lead to, out of the folder `within`.

    Raises:
        FileError: they do.
    """
    if within is None or not os.path.lexists(path):
        return
    try:
        inside = path.resolve().is_relative_to(within.resolve())
    except (OSError, RuntimeError) as error:  # links in a circle
        raise FileError(f"{path} is a link that leads nowhere: {error}") from error
    if not inside:
        raise FileError(
            f"{path} is, or lies behind, a link that leads out of {within}: put the file itself there"
        )


def read_bytes(path: Path, largest: int, within: Path | None = None) -> bytes:
    """The content of a file, looked at before as `check_file` does. Raises as that does."""
    size = check_file(path, largest, within)
    with path.open("rb") as file:
        content = file.read(size + 1)
    if len(content) > size:  # it grows, or is one of those that the system makes up
        raise FileError(f"{path} has more bytes than the system says: copy it to a plain file")
    return content


def check_unpacked(where: str, unpacked: int, packed: int, largest: int) -> None:
    """Refuse what would unpack to more than anybody wants, before it is unpacked.

    Args:
        where: what it is, for the message.
        unpacked: bytes, as it says itself.
        packed: bytes in the file.
        largest: bytes that may be unpacked.

    Raises:
        FileError: more than `largest`, or so much from so little that it is no data.
    """
    bomb = unpacked > max(PACKED_FLOOR, PACKED_RATIO * packed)
    if unpacked > largest or bomb:
        limit = min(largest, max(PACKED_FLOOR, PACKED_RATIO * packed))
        raise FileError(
            f"{where} would unpack from {packed:,} to {unpacked:,} bytes, the limit is {limit:,}: unpack it "
            "yourself where you trust it, and give the plain file"
        )


def stamp(path: Path) -> Any:
    """What tells that a file was replaced or written to, by being another than before."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def is_of_system(error: BaseException) -> bool:
    """Whether the system could not read a file, whatever is in it."""
    return isinstance(error, OSError) and error.errno not in _OF_CONTENT


@contextmanager
def reading(path: Any) -> Iterator[None]:
    """Within: whatever is wrong with the file `path` is a FileError that names it.

    Raises:
        FileError: as it says.
        OSError, Cancelled: as they are.
    """
    try:
        yield
    except (FileError, FileNotFoundError, Cancelled):
        raise
    except MemoryError as error:
        raise FileError(f"{path} asks for more memory than there is") from error
    except (ValueError, OSError, *ODD_ERRORS) as error:
        if is_of_system(error):
            raise
        words = " ".join(str(error).split())
        words = words if isinstance(error, ValueError) and words else f"{type(error).__name__}: {words}"
        raise FileError(words if str(path) in words else f"{path}: {words}") from error
