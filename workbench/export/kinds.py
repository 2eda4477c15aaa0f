"""What a folder holds, a session or an export: both have a recipe, and neither is ever put upon the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.data.plain_json import read_json

RECIPE, MOMENTS, WEIGHTS = "recipe.json", "moments.safetensors", "model.safetensors"
ARCHITECTURE, README = "architecture.json", "README.md"
ALWAYS = (WEIGHTS, ARCHITECTURE, RECIPE, README)  # of every export
PROGRAMS = {"pt2": "model.pt2", "onnx": "model.onnx"}
FORMAT = "spectral-pruning-architecture"
INCOMING = ".incoming-export"  # the folder of files that are just being put in place (placing.py)
STORE = "store"  # in a session's recipe: which files its tensors are in
TENSORS = "tensors"  # the folder of these


def holds_session(folder: Path) -> bool:
    """Whether a session was saved there, by this version or an earlier one, or what is left of one."""
    if not (folder / RECIPE).is_file():
        return False
    if (folder / MOMENTS).is_file():
        return True
    found = _json(folder / RECIPE)
    return (folder / TENSORS).is_dir() if found is None else STORE in found


def holds_export(folder: Path) -> bool:
    """Whether an export was written there."""
    whole = (folder / RECIPE).is_file() and (folder / ARCHITECTURE).is_file()
    return whole or (folder / INCOMING / ARCHITECTURE).is_file()


def files_listed(architecture: Path) -> set[str]:
    """The names of the files that an export consists of, as its `architecture.json` says; none where it is
    another's, damaged or missing."""
    found = _json(architecture) if architecture.is_file() else None
    if not found or found.get("format") != FORMAT or not isinstance(found.get("files"), list):
        return set()
    return {name for name in (*ALWAYS, *PROGRAMS.values()) if name in found["files"]}


def _json(path: Path) -> dict[str, Any] | None:
    """What a file of JSON holds; None where that is nothing with names."""
    try:
        found = read_json(path)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
