"""The workbench with the button that writes a page: the face that `wb.Workbench` is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import traitlets as t

from workbench.page.writing import checked_path, write_page
from workbench.session.session import Session
from workbench.widgets import app
from workbench.widgets.folders import folder_for, plain
from workbench.widgets.jobs import Delivery, Reporter
from workbench.widgets.traits import synced


class Pages(t.HasTraits):
    """The part of the shared state that writes the session as a page without Python.

    `pages`: whether the screen offers it, which it does where this part is there.
    """

    COMMANDS: ClassVar[dict[str, tuple[str, ...]]] = {"page": ("folder", "replace")}
    PLACES: ClassVar[dict[str, str]] = {"page": "export"}

    pages = synced(t.Bool, True)

    _current: Session
    _deliver: Delivery
    _note: Callable[[str], None]
    _start: Callable[..., None]

    def page(self, folder: str | Path | None = None, replace: bool = False) -> None:
        """Write the session as one HTML file into `folder`, by default ./<name>-pruned. Without `replace`, a
        file that is there already is asked about."""

        def work(progress: Reporter, cancel: threading.Event) -> None:
            session = self._current
            where = folder_for(session.name, folder)
            file = where / f"{plain(session.name)}.html"
            if file.is_file() and not replace:
                words = f"{file} is there already. Replace it?"
                self._deliver(lambda: self.set_trait("question", {"command": "page", "words": words}))
                return
            if where.exists() and not where.is_dir():
                raise ValueError(f"{where} is a file: name a folder")
            where.mkdir(parents=True, exist_ok=True)
            write_page(session, checked_path(file, replace), replace)
            self._note(f"Page written: {file}")

        self._start("page", "writing a page", work)


class Workbench(Pages, app.Workbench):
    __doc__ = app.Workbench.__doc__
