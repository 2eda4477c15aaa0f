"""Where a session or an export goes: its folder, what would be replaced there, what cannot be written."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from workbench.export.kinds import ALWAYS, PROGRAMS, RECIPE, holds_export, holds_session

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def folder_for(name: str, folder: str | Path | None = None) -> Path:
    """`folder`, or by default `<name>-pruned` in the current one; absolute."""
    if folder is None or not str(folder).strip():
        folder = usual_folder(name)
    return Path(str(folder).strip()).expanduser().resolve()


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
