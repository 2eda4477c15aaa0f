"""The workbench: the panels over one shared state, put together."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets
from IPython.display import display

from workbench.session.session import Session
from workbench.widgets.audience import is_attended
from workbench.widgets.modules import joined
from workbench.widgets.picture import PICTURED, line_of, picture_of, understudy
from workbench.widgets.state import Panel, WorkbenchState


class Header(Panel):
    """Model, data, procedure, meters, undo to export, progress."""

    _esm = joined("header.js")


class Layers(Panel):
    """The unit groups."""

    _esm = joined("layers.js")


class SpectrumView(Panel):
    """Eigenvalues with the λ line, N(λ), loss against width."""

    _esm = joined("spectrum.js")


class ChoiceView(Panel):
    """λ, width, θ, criterion; read-outs; Try and Commit."""

    _esm = joined("choice.js")


class History(Panel):
    """Score against parameters, and the way back to each step."""

    _esm = joined("history.js")


class BudgetView(Panel):
    """All groups at once: a width each, what the network costs then, a target, and the rules that meet it."""

    _esm = joined("budget.js")


class CompareView(Panel):
    """Ways to prune side by side at the budget's widths, and how much each group bears alone."""

    _esm = joined("compare.js")


class TuneView(Panel):
    """Fine-tuning of the network as it is now, with a live plot, pause and stop."""

    _esm = joined("tune.js")


class TheoryView(Panel):
    """Bounds beside what is measured, for the chosen layer and for the whole network."""

    _esm = joined("theory.js")


class LoadCard(Panel):
    """A model and data of one's own; open when asked for."""

    _esm = joined("load.js")


class ExportCard(Panel):
    """Where the pruned network goes, and in which formats; open when asked for."""

    _esm = joined("export.js")


class FlipsCard(Panel):
    """Which examples changed, by what was tried or by a step; open when asked for."""

    _esm = joined("flips.js")


AREAS = {
    "header": Header,
    "layers": Layers,
    "spectrum": SpectrumView,
    "choice": ChoiceView,
    "budget": BudgetView,
    "compare": CompareView,
    "tune": TuneView,
    "theory": TheoryView,
    "history": History,
    "load": LoadCard,
    "export": ExportCard,
    "flips": FlipsCard,
}


WAIT = 300.0  # seconds that a notebook run by a program waits for a measurement, before its cell ends


def _let_go(widget: ipywidgets.DOMWidget) -> None:
    """Close a widget with its layout, a widget too, which every list of them holds until it is closed."""
    layout = widget.layout
    widget.close()
    layout.close()


class Workbench(ipywidgets.Box):
    """The workbench on a session, or on a built-in example given by name; displays itself.

    A session that is not measured yet is measured at once, in the background and with progress.
    `state` holds what the page shows; `session` is the session that it shows now (None while an example
    loads). `wait`: seconds that showing it may take until it is measured; None: none before a person, who
    sees it come, and up to 300 where a program runs the notebook (nbconvert, papermill, …), whose cell would
    end empty. What is stored beside the live view is a line of text and, once measured, a picture.

    `autosave`: the folder in which the session keeps itself after each step, to be taken up after a crash.
    True: the platform's folder for state, or what WORKBENCH_AUTOSAVE says ("off": nowhere); False: nowhere.

    Raises TypeError for anything but a Session or a name; an unknown name is told on the screen.
    """

    state_class: ClassVar[type[WorkbenchState]] = WorkbenchState

    def __init__(self, session: Session | str, wait: float | None = None, autosave: bool | str | Path = True):
        if not isinstance(session, (Session, str)):
            raise TypeError(f"give a Session or the name of an example; got {type(session).__name__}")
        self.state = self.state_class(session, autosave)
        panels = []
        for area, panel in AREAS.items():
            view = panel(state=self.state)
            view.add_class(f"wbw-{area}")
            panels.append(view)
        grid = ipywidgets.Box(panels)
        grid.add_class("wbw-grid-areas")
        self._wait = wait
        super().__init__([grid])
        self.add_class("wbw-root")

    @property
    def session(self) -> Session | None:
        return self.state.session

    def close(self) -> None:
        """Take the view away, and let go of the session and of all threads."""
        if self.children:  # else it was never made whole
            grid = self.children[0]
            for widget in (*grid.children, grid, self.state):
                _let_go(widget)
            layout = self.layout
            super().close()
            layout.close()

    def __repr__(self) -> str:
        return line_of(self._pictured())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        attended = is_attended()
        wait = self._wait if self._wait is not None else 0.0 if attended else WAIT
        if wait > 0:
            self.state.settle(wait)
        values = self._pictured()
        bundle = {**super()._repr_mimebundle_(**kwargs), "text/plain": line_of(values)}
        picture = picture_of(values)
        if picture is not None:
            bundle["image/png"] = base64.b64encode(picture).decode()
            if not attended:
                display({"application/javascript": understudy(picture, self.model_id)}, raw=True)
        return bundle

    def _pictured(self) -> dict[str, Any]:
        return {name: getattr(self.state, name) for name in PICTURED}
