"""Where a session or an export goes: its folder, what would be replaced there, what cannot be written."""

from __future__ import annotations

import errno
import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from workbench.export.kinds import ALWAYS, PROGRAMS, RECIPE, holds_export, holds_session

CANNOT = {
    errno.EACCES: "since this account may not",
    errno.EPERM: "since this account may not",
    errno.EROFS: "since its disk is read-only",
    errno.ENOENT: "since a folder above it is not there and cannot be made",
    errno.ENOTDIR: "since a file stands where a folder above it should be",
    errno.EEXIST: "since something else stands there",
    errno.ENAMETOOLONG: "since the name is too long",
    errno.EINVAL: "since the name has a character that no name can have here",
    errno.ELOOP: "since links lead in a circle there",
}
LONGEST = 120  # characters of a path in an error
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def folder_for(name: str, folder: str | Path | None = None) -> Path:
    """`folder`, or by default `<name>-pruned` in the current one; absolute. Raises ValueError."""
    if folder is None or not str(folder).strip():
        folder = usual_folder(name)
    if "\0" in str(folder):
        raise ValueError("the folder's name has a character that no name can have: name another folder")
    return Path(str(folder).strip()).expanduser().resolve()


@contextmanager
def said_of(folder: str | Path | None) -> Iterator[None]:
    """Where the system does not let `folder` be made or written within, that is said in words."""
    try:
        yield
    except OSError as error:
        if error.errno not in CANNOT:
            raise
        name = shortened(str(error.filename or folder or "the folder"))
        why = CANNOT[error.errno]
        raise ValueError(f"{name} cannot be made or written, {why}: name another folder") from error


def shortened(path: str) -> str:
    """A path as an error shows it, its middle left out where it is long."""
    return path if len(path) <= LONGEST else f"{path[: LONGEST // 2]}…{path[-LONGEST // 2 :]}"


def usual_folder(name: str) -> str:
    """The folder that is written to where none is named, as the page offers it."""
    return f"{plain(name)}-pruned"


def plain(name: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^\w.]+", "-", name).strip("-.") or "model"


def in_the_way(folder: Path, command: str, formats: Sequence[str] = ()) -> list[str]:
    """The files in `folder` that `command`, "save" or "export", would replace.

    Raises ValueError where `folder` is a file, or holds what the other command writes: files of two networks
    under the same names would make neither.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder")
    holds, what = (holds_export, "an export") if command == "save" else (holds_session, "a saved session")
    if holds(folder):
        raise ValueError(f"{folder} holds {what}, which has files of the same names: name another folder")
    programs = [PROGRAMS[name] for name in formats if name in PROGRAMS]
    files = (RECIPE,) if command == "save" else (*ALWAYS, *programs)
    return [file for file in files if (folder / file).exists()]


def unavailable_formats() -> dict[str, str]:
    """Formats that cannot be written here, each with the reason and what to do."""
    missing = [package for package in ONNX_PACKAGES if importlib.util.find_spec(package) is None]
    if not missing:
        return {}
    return {"onnx": f'needs {", ".join(missing)}: pip install "spectral-pruning-workbench[onnx]"'}
