"""The workbench: the shared state with the module that draws it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from IPython.display import display

from workbench.session.session import Session
from workbench.widgets.audience import is_attended
from workbench.widgets.modules import joined
from workbench.widgets.picture import PICTURED, line_of, picture_of, understudy
from workbench.widgets.state import WorkbenchState

WAIT = 300.0  # seconds that a notebook run by a program waits for a measurement, before its cell ends


class Workbench(WorkbenchState):
    """The workbench on a session, or on a built-in example given by name; displays itself.

    It is one anywidget with one model, which any host of anywidgets shows; each view of it has its own tab. A
    session that is not measured yet is measured at once, in the background and with progress.
    `state` holds what the page shows; `session` is the session that it shows now (None while an example
    loads). `wait`: seconds that showing it may take until it is measured; None: none before a person, who
    sees it come, and up to 300 where a program runs the notebook (nbconvert, papermill, …), whose cell would
    end empty. What is stored beside the live view is a line of text and, once measured, a picture.

    `autosave`: the folder in which the session keeps itself after each step, to be taken up after a crash.
    True: the platform's folder for state, or what WORKBENCH_AUTOSAVE says ("off": nowhere); False: nowhere.

    Raises TypeError for anything but a Session or a name; an unknown name is told on the screen.
    """

    _esm = joined("workbench.js")

    def __init__(self, session: Session | str, wait: float | None = None, autosave: bool | str | Path = True):
        if not isinstance(session, (Session, str)):
            raise TypeError(f"give a Session or the name of an example; got {type(session).__name__}")
        super().__init__(session, autosave)
        self._seconds = wait

    @property
    def state(self) -> Workbench:
        """What the page shows: the widget itself."""
        return self

    def __repr__(self) -> str:
        return line_of(self._pictured())

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        attended = is_attended()
        wait = self._seconds if self._seconds is not None else 0.0 if attended else WAIT
        if wait > 0:
            self.settle(wait)
        values = self._pictured()
        live, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        bundle = {**live, "text/plain": line_of(values)}
        picture = picture_of(values)
        if picture is not None:
            bundle["image/png"] = base64.b64encode(picture).decode()
            if not attended:
                display({"application/javascript": understudy(picture, self.model_id)}, raw=True)
        return bundle, metadata

    def _pictured(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in PICTURED}
