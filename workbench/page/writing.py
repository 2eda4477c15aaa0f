"""A session as one HTML file: what it holds, its words, and how it is written."""

from __future__ import annotations

import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from workbench.course.glossary import page_glossary
from workbench.data.batches import Batches
from workbench.data.durable import expanded, write_together
from workbench.page.document import document
from workbench.page.packing import packed
from workbench.page.paths import group_paths
from workbench.page.values import left_units
from workbench.pruning.choice import DEFAULT_THETA
from workbench.pruning.problem import NotMeasuredError
from workbench.session.session import Session
from workbench.widgets.constants import START_LAM
from workbench.widgets.page_values import read_session

OF_THE_PAGE = (  # what the live workbench shows of a session, and a page too
    "name", "metric", "measured", "layers", "budget", "history", "branch", "branches", "position",
)  # fmt: skip
TERMS = (  # of the glossary, which the page explains: each of its numbers, and what they are made of
    "moment", "spectrum", "lambda", "degrees of freedom", "share of the width", "suggested width",
    "guaranteed width", "residual moment", "input loss", "output loss", "combined loss", "predicted error",
    "parameters", "MACs", "rank", "unit view",
)  # fmt: skip
INSTALL = "pip install spectral-pruning-workbench"


def write_page(session: Session, file: str | Path, replace: bool = False) -> Path:
    """Write a session as a page that computes: one file, opened from a disk by any browser, offline.

    Args:
        session: which has measured.
        file: its path, ending in .html.
        replace: whether a file that is there may be replaced.

    Returns:
        The path.

    Raises:
        ValueError: a path that is a folder, has another ending or no folder to lie in; nothing to show.
        FileExistsError: there is a file already, and `replace` is False.
        NotMeasuredError: nothing is measured yet.
        OSError: the disk is full, say; what was there is as it was.
    """
    file = checked_path(file, replace)
    text = page_text(session)
    write_together({file: text.encode()})
    return file


def checked_path(file: str | Path, replace: bool = False) -> Path:
    """Where a page can be written; raises as `write_page` does, before anything is computed for it."""
    file = expanded(file)
    if file.is_dir():
        raise ValueError(
            f"{file} is a folder; name the file that the page is to be, such as {file / 'page.html'}"
        )
    if file.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"a page is an HTML file; name it {file.name}.html, or otherwise with .html at the end"
        )
    if not file.parent.is_dir():
        raise ValueError(f"there is no folder {file.parent} to write {file.name} into; make it first")
    if file.exists() and not replace:
        raise FileExistsError(
            f"{file} is there already: name another file, or say --replace (in Python: replace=True)"
        )
    return file


def page_text(session: Session, date: datetime.date | None = None) -> str:
    """The page of a session as HTML.

    Args:
        session: which has measured.
        date: that it says it was written on; None: today.

    Returns:
        The text of the file.

    Raises:
        NotMeasuredError: nothing is measured yet.
        ValueError: no group can be pruned.
    """
    values = session_values(session)
    explained = page_glossary()
    words = {
        "glossary": {name: explained[name] for name in TERMS},
        "title": session.name,
        "about": about(session, date or datetime.date.today()),
        "how": how(session),
    }
    return document(f"{session.name}: spectral pruning", values | words, "stillpage.js", "showPage")


def session_values(session: Session) -> dict[str, Any]:
    """What a page holds of a session, ready for JSON, but for its words; raises as `page_text` does."""
    if not session.measured:
        raise NotMeasuredError("nothing is measured yet: call session.measure() first")
    read = read_session(session)
    layers = read["layers"]
    usable = [layer for layer in layers if layer["prunable"]]
    if not usable:
        raise ValueError("no group of this network can be pruned, so a page has nothing to show")
    for layer in usable:
        if not layer["stale"]:  # its losses would be those of another network
            layer |= {"paths": group_paths(session, layer["name"])} | left_units(session, layer)
    fresh = [layer for layer in usable if not layer["stale"]] or usable
    return {name: read[name] for name in OF_THE_PAGE} | {
        "spectra": packed(np.frombuffer(read["spectra"]), "f8"),
        "selected": fresh[0]["name"],
        "theta": DEFAULT_THETA,
        "lam": START_LAM,
        "width": fresh[0]["width"],
    }


def about(session: Session, date: datetime.date) -> str:
    """What the page is, in a sentence for its head."""
    data = session.calibration
    size = (
        f"{data.examples:,} examples"
        if isinstance(data, Batches) and data.examples
        else "its calibration data"
    )
    of = f" of {session.data_name}" if session.data_name else ""
    return (
        f"A picture that computes: measured on {size}{of}, written on {date.isoformat()} by Spectral Pruning "
        f"Workbench {version()}. Drag λ, or the width."
    )


def how(session: Session) -> str:
    """What the page cannot do, and how it is had."""
    call = (
        f'wb.Session.example("{session.example_name}")' if session.example_name else "wb.Session(model, data)"
    )
    return (
        f"Units and losses are known at some λ of a grid, at θ = {DEFAULT_THETA:g}; everything else is "
        "computed here. "
        f"To prune the network takes Python: {INSTALL}, then wb.Workbench({call})."
    )


def version() -> str:
    try:
        return metadata.version("spectral-pruning-workbench")
    except metadata.PackageNotFoundError:
        return "of a source folder"
