"""The kernel's half of the unit view: the order in which units are taken, leverage, and their pictures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import traitlets as t

from workbench.data.progress import Cancelled
from workbench.pruning.choice import Choice
from workbench.session.session import Session
from workbench.widgets.jobs import Delivery, Worker
from workbench.widgets.traits import synced
from workbench.widgets.unit_pictures import pictures_of

MOST_PICTURED = 512


class Units(t.HasTraits):
    """The part of the shared state that shows single units of the chosen group.

    `unit_order` is int32, the units as `preview` takes them, (k,), and `unit_leverage` float32, (m,), at its
    λ; the latter only while units are looked at. `units_shown`: how many a person looks at, 0 for none.
    `unit_pictures`: of the first of them, with the "group" and "revision" that they are of; see
    `unit_pictures.py`.
    """

    unit_order = synced(t.Bytes)
    unit_leverage = synced(t.Bytes)
    units_shown = synced(t.Int, 0)
    unit_pictures = synced(t.Dict)

    session: Session | None
    selected: Any
    revision: Any
    _asked: Any
    _ask: Callable[[], None]
    _deliver: Delivery
    _set: Callable[[dict], None]
    _spectrum: Callable[[str], Any]

    def _begin_units(self) -> None:
        self._unit_cancels: list[threading.Event] = []
        self._pictures = Worker("workbench-units", newest_only=True, cancels=self._unit_cancels)
        self._pictured_of: tuple[Any, ...] = ()

    def _no_units(self) -> dict:
        """Values for another session."""
        self._pictured_of = ()
        return {"unit_order": b"", "unit_leverage": b"", "unit_pictures": {}}

    def _unit_values(self, session: Session, choice: Choice) -> dict[str, Any]:
        """What a preview says of single units."""
        values = {"unit_order": np.asarray(choice.order, dtype="<i4").tobytes()}
        if self.units_shown:
            scores = session.spectrum(choice.group).leverage(choice.lam)
            values["unit_leverage"] = scores.numpy().astype("<f4").tobytes()
        return values

    @t.observe("units_shown")
    def _on_units_shown(self, change: dict) -> None:
        if change["new"] and not change["old"]:
            self._asked = None  # the preview has not said the leverage yet
            self._ask()
        self._ask_pictures()

    @t.observe("selected", "revision")
    def _on_units_of(self, change: dict) -> None:
        self._ask_pictures()

    def _ask_pictures(self) -> None:
        """The pictures of the chosen group's units, in the background, while they are looked at."""
        session, name, revision = self.session, self.selected, self.revision
        count = min(self.units_shown, MOST_PICTURED)
        wanted = (session, name, revision, count)
        if session is None or not count or wanted == self._pictured_of or self._spectrum(name) is None:
            return
        self._pictured_of = wanted
        for event in self._unit_cancels:
            event.set()
        cancel = threading.Event()
        self._unit_cancels[:] = [cancel]
        self._pictures.submit(lambda: self._find_pictures(session, name, revision, count, cancel))

    def _find_pictures(
        self, session: Session, name: str, revision: int, count: int, cancel: threading.Event
    ) -> None:
        said = {"group": name, "revision": revision, "count": count, "most": MOST_PICTURED}
        with suppress(Cancelled):
            try:
                values = pictures_of(session, name, count, cancel) | said
            except Cancelled:
                raise
            except BaseException as error:  # a network that fails on its data says so where it is measured
                values = {"weights": [], "maps": [], "why_not": str(error) or type(error).__name__} | said
            self._deliver(lambda: self._show_pictures(session, values))

    def _show_pictures(self, session: Session, values: dict) -> None:
        if session is self.session and values["revision"] == self.revision:
            self._set({"unit_pictures": values})
