"""What the Load card may be given from the kernel's side: folders, files that load, functions in them.

It begins in the notebook's own folder. Nothing is opened but Python files, which are parsed and never run;
what lies outside that folder is listed too, where the account may, and is said to lie outside.
"""

from __future__ import annotations

import ast
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import traitlets as t

from workbench.data.durable import said_bytes
from workbench.widgets.folders import CANNOT, shortened
from workbench.widgets.traits import synced

NOT_READ = {
    errno.ENOENT: "since it is not there",
    errno.ENOTDIR: "since it is a file that holds nothing to choose from",
}
LISTED_FILES = 400  # of a folder, the rest is counted
LARGEST_CODE = 1 << 20  # bytes of a Python file that is looked into
PYTHON = ".py"
ARRAYS = (".npy", ".npz")
IDX_FILE = re.compile(r"idx\d|ubyte", re.IGNORECASE)
WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
DATA = (*ARRAYS, ".zip", PYTHON)
KINDS: dict[str, tuple[str, ...]] = {  # by field of the form, what its files end with
    "model": (PYTHON,), "checkpoint": WEIGHTS, "calibration": DATA, "evaluation": DATA, "training": DATA,
    "targets": ARRAYS,
}  # fmt: skip
WITH_IDX = ("calibration", "evaluation", "training", "targets")
OF_FOLDERS = ("calibration", "evaluation", "training")  # a folder of images is data


class Browsing(t.HasTraits):
    """The part of the shared state that lists folders for the Load card.

    `listing` is the answer to the last question: "field", for which it is, "place" in words and "path", "up",
    the folder above or "", "outside" of the notebook's folder, "entries" and "more", how many are not listed;
    or "wrong", why nothing is listed. An entry has its "name", "kind" ("folder", "code", "file" or
    "function"), "note", and "value", what goes into the field, or for folders and code where to look next.
    """

    COMMANDS: ClassVar[dict[str, tuple[str, ...]]] = {"browse": ("folder", "field")}
    PLACES: ClassVar[dict[str, str]] = {"browse": "load"}
    AT_ONCE: ClassVar[tuple[str, ...]] = ("browse",)

    listing = synced(t.Dict)

    _set: Callable[[dict], None]

    def browse(self, folder: str = "", field: str = "calibration") -> None:
        """List `folder`, or the functions of a Python file; by default the notebook's folder."""
        count = self.listing.get("count", 0) + 1
        try:
            values = listing_of(str(folder), str(field), Path.cwd())
        except OSError as error:
            why = NOT_READ.get(error.errno or 0) or CANNOT.get(error.errno or 0) or f"since {error}"
            values = {"field": field, "wrong": f"{shortened(str(folder))} cannot be read, {why}"}
        except ValueError as error:
            values = {"field": field, "wrong": str(error)}
        self._set({"listing": values | {"count": count}})


def listing_of(folder: str, field: str, start: Path) -> dict[str, Any]:
    """What `folder` has for `field`, beside what stands in `Browsing.listing`.

    Args:
        folder: absolute or from `start`; "" for `start` itself.
        field: one of KINDS.
        start: the notebook's folder, absolute.

    Raises:
        ValueError: another field, a name that no path can have, or a Python file that is none.
        OSError: it is not there, or cannot be read.
    """
    if field not in KINDS:
        raise ValueError(f"files are chosen for {', '.join(KINDS)}; got {field!r}")
    if "\0" in folder:
        raise ValueError("this name has a character that no name can have")
    start = start.resolve()
    place = (start / Path(folder.strip() or ".").expanduser()).resolve(strict=True)
    entries = list(_functions(place, start) if place.suffix == PYTHON and place.is_file() else [])
    if not (place.suffix == PYTHON and place.is_file()):
        entries = sorted(_within(place, field, start), key=_by_kind_and_name)
    return {
        "field": field,
        "place": "the notebook's folder" if place == start else shortened(_said(place, start)),
        "path": str(place),
        "value": _said(place, start) if field in OF_FOLDERS and place.is_dir() else "",
        "up": "" if place.parent == place else str(place.parent),
        "outside": not place.is_relative_to(start),
        "entries": entries[:LISTED_FILES],
        "more": max(0, len(entries) - LISTED_FILES),
    }


def _within(folder: Path, field: str, start: Path) -> Iterator[dict[str, str]]:
    ends = KINDS[field]
    with os.scandir(folder) as found:
        for one in found:
            if one.name.startswith((".", "__pycache__")):
                continue
            path = folder / one.name
            try:
                is_folder, size = one.is_dir(), one.stat().st_size
            except OSError:  # a link to nothing, or what this account may not see
                continue
            if is_folder:
                yield {"name": one.name, "kind": "folder", "note": "", "value": str(path)}
            elif path.suffix == PYTHON and PYTHON in ends:
                yield {"name": one.name, "kind": "code", "note": "its functions", "value": str(path)}
            elif path.suffix.lower() in ends or (field in WITH_IDX and IDX_FILE.search(one.name)):
                value = _said(path, start)
                yield {"name": one.name, "kind": "file", "note": said_bytes(size), "value": value}


def _functions(file: Path, start: Path) -> Iterator[dict[str, str]]:
    """Functions and classes at the top of a Python file, by its text alone. Raises ValueError, OSError."""
    if file.stat().st_size > LARGEST_CODE:
        raise ValueError(f"{file.name} is too long to look into: type {_said(file, start)}:NAME instead")
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        raise ValueError(f"{file.name} cannot be read as Python{line}: mend it, or choose another") from error
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            note = "class" if isinstance(node, ast.ClassDef) else _arguments(node)
            value = f"{_said(file, start)}:{node.name}"
            yield {"name": node.name, "kind": "function", "note": note, "value": value}


def _arguments(node: ast.FunctionDef) -> str:
    """What a function must be given, in words; the form's options may give it."""
    named = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
    needed = named[: len(named) - len(node.args.defaults)]
    needed += [
        one.arg
        for one, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        if default is None
    ]
    return f"needs {', '.join(needed)}" if needed else "function"


def _said(path: Path, start: Path) -> str:
    """A path as the form takes it: from the notebook's folder where it lies within it."""
    return path.relative_to(start).as_posix() if path.is_relative_to(start) else path.as_posix()


def _by_kind_and_name(entry: dict[str, str]) -> tuple[bool, list[tuple[int, int, str]]]:
    parts = re.split(r"(\d+)", entry["name"].lower())
    return entry["kind"] != "folder", [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts]
