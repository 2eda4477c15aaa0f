"""The state that all panels share: the only place with traitlets.

Panels read the traits and send commands. The page computes what follows from the spectrum; what needs the
network comes from the session, in worker threads, and reaches the traits on the kernel's event loop.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anywidget
import traitlets as t

from workbench.course.glossary import page_glossary
from workbench.examples.catalogue import example_names
from workbench.pruning.choice import DEFAULT_THETA
from workbench.pruning.problem import NotMeasuredError
from workbench.pruning.state import StaleMomentsError
from workbench.session.of_what import way_of
from workbench.session.runs import Run
from workbench.session.session import Session
from workbench.spectral.bounds import suggested_width
from workbench.widgets import page_values
from workbench.widgets.branches import Branches
from workbench.widgets.browsing import Browsing
from workbench.widgets.budget_tab import Budgets, need_gradients
from workbench.widgets.commands import Commands
from workbench.widgets.compare_tab import Comparisons
from workbench.widgets.constants import LAM_MAX, LAM_MIN, NEEDS_LABELS, REQUEST, START_LAM
from workbench.widgets.drawings import Drawings
from workbench.widgets.folders import unavailable_formats
from workbench.widgets.frontier import Frontiers
from workbench.widgets.hearing import Hearing
from workbench.widgets.jobs import Delivery, Worker
from workbench.widgets.modules import styles
from workbench.widgets.recovery import Recovery
from workbench.widgets.scoring import Scoring
from workbench.widgets.theory_tab import Theories
from workbench.widgets.traits import synced
from workbench.widgets.tune_tab import Tunings


class WorkbenchState(
    Commands,
    Scoring,
    Browsing,
    Branches,
    Budgets,
    Frontiers,
    Comparisons,
    Tunings,
    Theories,
    Drawings,
    Recovery,
    Hearing,
    anywidget.AnyWidget,
):
    """What the page shows, and the commands that it sends.

    `lam` is relative to the trace, `preview`, `curve` and `tried` say in their `request` what they answer.
    `error` holds the words of the last error, `error_at` where they are shown. `spectra` is the float64
    eigenvalues of all groups, and `layers` says where each group's lie in it; `curve` is 4 rows of float64:
    widths, input, output and combined loss. `stays` is what is in no group: a line, and (tensor, numbers,
    why) of each; `sizes` of input: a line, and in words. `revision` counts the session's changes: the same
    `position` may be another network, after an undo and another commit. A view has a tab of its own: `tab` is
    the one chosen last, which a new view begins with, `tabs` those that any view stands on.
    """

    _esm = "export default {};"
    _css = styles("workbench", "flips", "window", "loops", "network", "units", "explains")

    key = synced(t.Unicode)  # of this model alone
    tab = synced(t.Unicode, "layer")
    tabs = synced(t.List)
    name = synced(t.Unicode)
    folder = synced(t.Unicode)
    data_name = synced(t.Unicode)
    metric = synced(t.Unicode)
    procedure = synced(t.Unicode, "simultaneous")
    examples = synced(t.List)
    measured = synced(t.Bool, False)
    layers = synced(t.List)
    stays = synced(t.Dict)
    sizes = synced(t.Dict)
    spectra = synced(t.Bytes)
    selected = synced(t.Unicode)

    # The page is ahead of the kernel while these are dragged: an echo would pull them back for a moment.
    lam = synced(t.Float, START_LAM).tag(echo_update=False)
    width = synced(t.Int, 1).tag(echo_update=False)
    theta = synced(t.Float, DEFAULT_THETA).tag(echo_update=False)
    follow = synced(t.Bool, True)
    selection = synced(t.Unicode, "greedy")
    reconstruction = synced(t.Unicode, "channel")
    reestimate = synced(t.Bool, False)
    norms = synced(t.Bool, True)
    learns = synced(t.Dict, {"targets": False, "size": 0, "own": False, "batches": False, "images": False})

    preview = synced(t.Dict)
    curve = synced(t.Bytes)
    tried = synced(t.Dict)
    history = synced(t.List)
    cost_axis = synced(t.Unicode, "macs")
    position = synced(t.Int, 0)
    revision = synced(t.Int, 0)
    can_undo = synced(t.Bool, False)
    can_redo = synced(t.Bool, False)

    progress = synced(t.Dict)
    notice = synced(t.Unicode)
    error = synced(t.Unicode)
    error_at = synced(t.Unicode)
    question = synced(t.Dict)
    ended = synced(t.Dict)
    own = synced(t.Dict)
    unavailable = synced(t.Dict)
    glossary = synced(t.Dict)

    def __init__(self, session: Session | str, autosave: bool | str | Path = True):
        super().__init__(
            key=uuid.uuid4().hex,
            examples=list(example_names()),
            unavailable=unavailable_formats(),
            glossary=page_glossary(),
        )
        self.session: Session | None = None
        self._deliver = Delivery()
        self._begin()
        for part in ("hearing", "budgets", "frontiers", "comparisons", "tunings", "theories", "drawings"):
            getattr(self, f"_begin_{part}")()
        self._begin_recovery(autosave)
        self._previews = Worker("workbench-previews", newest_only=True)
        self._leave: Callable[[], None] | None = None
        self._choice: tuple[dict, Any] | None = None
        self._asked: tuple[Session, dict] | None = None
        self._linking = False
        self.on_msg(self._on_message)
        if isinstance(session, str):
            self.name = session
            self.load(session)
        else:
            self._show_session(session, page_values.shown_values(session), way_of(session))
            if not session.measured:
                self.measure()

    def _looks_at(self, tab: str) -> bool:
        return tab in {self.tab, *self.tabs}

    # Choosing --------------------------------------------------------------------------------------

    def choose(self, name: str) -> None:
        """Select a group; the width is set from N(λ)."""
        if name not in {layer["name"] for layer in self.layers}:
            raise ValueError(
                f"no group is called {name!r}; the groups are {', '.join(x['name'] for x in self.layers)}"
            )
        self.selected = name

    def request(self) -> dict:
        """What a preview, a try or a commit is asked for now."""
        return {"group": self.selected} | {key: getattr(self, key) for key in REQUEST}

    @t.validate("lam")
    def _valid_lam(self, proposal: dict) -> float:
        return min(max(proposal["value"], LAM_MIN), LAM_MAX)

    @t.observe("selected", "lam", "width", "follow")
    def _on_choice(self, change: dict) -> None:
        if not self._is_linked(change["name"]):
            self._link(change["name"])
        self._ask()

    @t.observe("theta", "selection", "reconstruction", "reestimate")
    def _on_option(self, change: dict) -> None:
        self._ask()

    def _is_linked(self, moved: str) -> bool:
        """Whether the page has linked what it moved: then both came in one message, and a width that was
        typed for a group that was just selected is not set again from N(λ)."""
        layer = next((layer for layer in self.layers if layer["name"] == self.selected), None)
        fits = layer is not None and 1 <= self.width <= layer["width"]
        return fits and self.has_heard(moved) and self.has_heard("lam" if moved == "width" else "width")

    def _link(self, moved: str) -> None:
        """Keep width and λ together."""
        spectrum = self._spectrum(self.selected)
        if spectrum is None or self._linking or spectrum.trace == 0:
            return
        m, lam = spectrum.width, self.lam * spectrum.trace
        wanted = suggested_width(spectrum.degrees_of_freedom(lam), m)
        width, relative = min(max(self.width, 1), m), self.lam
        if moved == "selected" or (self.follow and moved in ("lam", "follow")):
            floor = self.follow and self.lam <= LAM_MIN and self.width <= m and moved == "lam"
            width = max(width, wanted) if floor else wanted
        elif self.follow and moved == "width" and width != wanted:
            relative = spectrum.lam_for(width) / spectrum.trace
        self._linking = True
        try:
            with self.hold_sync():
                self.lam, self.width = relative, width
        finally:
            self._linking = False

    # Inside: previews ------------------------------------------------------------------------------

    def _ask(self) -> None:
        """A preview of the present choice, in the background; a newer one replaces it."""
        session, request = self.session, self.request()
        if session is None or self._linking or self._spectrum(self.selected) is None:
            return
        if self._asked == (session, request):
            return
        self._asked = (session, request)
        self._previews.submit(lambda: self._preview(session, request))

    def _preview(self, session: Session, request: dict) -> None:
        try:
            choice = page_values.preview_of(session, request)
        except StaleMomentsError:
            return  # the group's row and the spectrum say so
        except NotMeasuredError:
            self._deliver(lambda: self._find_gradients(session))
            return
        except BaseException as error:
            if (
                session is self.session
                and request == self.request()
                and request["position"] == session.position
            ):
                self._fail("preview", error)
            return
        values = {
            "preview": page_values.preview_values(choice, request),
            "curve": page_values.curve_bytes(choice),
        }
        values |= self._unit_values(session, choice)
        self._choice = (request, choice)
        self._deliver(lambda: self._show(session, values))

    def _find_gradients(self, session: Session) -> None:
        """What the Taylor criterion needs, once it is chosen; the preview is asked for again after it."""
        if self._commands:
            self._asked = None  # what runs asks again when it ends
        elif session is self.session:
            self._start(
                "preview",
                "measuring gradients",
                lambda progress, cancel: need_gradients(session, [NEEDS_LABELS], progress, cancel),
            )

    def _show(self, session: Session, values: dict) -> None:
        if session is not self.session or values["preview"]["request"]["revision"] != self.revision:
            return
        if self.error_at == "choice":
            values = values | {"error": ""}
        self._set(values)

    # Inside: the session ---------------------------------------------------------------------------

    def _take(
        self,
        session: Session,
        how: Mapping[str, Any] | None = None,
        after: Run | None = None,
        screen: Mapping[str, Any] | None = None,
    ) -> None:
        """Show `session` from now on; `how`, `after`, `screen`: see recovery.py."""
        values = page_values.shown_values(session)
        self._deliver(lambda: self._show_session(session, values, how, after, screen))

    def _show_session(
        self,
        session: Session,
        values: dict,
        how: Mapping[str, Any] | None = None,
        after: Run | None = None,
        screen: Mapping[str, Any] | None = None,
    ) -> None:
        self._set_aside(session)
        self._leave_session()
        self.session, self._choice = session, None
        self._leave_group()
        self._leave = session.subscribe(lambda event: self._changed(session, event))
        usable = [layer["name"] for layer in values["layers"] if layer["prunable"]]
        if usable and self.selected not in usable:
            values = values | {"selected": usable[0]}
        if not values["norms"]:
            values = values | {"reestimate": False}
        empty: dict = {"preview": {}, "tried": {}, "tuned": {}, "scoring": {}} | self._no_drawings()
        empty |= self._no_plan() | self._no_comparison() | self._no_theory() | self._no_frontier()
        self._apply(values | empty, fresh=True)
        self._keep(session, how or {}, after, screen)
        if screen:
            self._bring_back(screen)
        self._look_back(session)

    def close(self) -> None:
        """Take the view away, and let go of the session and of all threads; what runs is cancelled."""
        if not hasattr(self, "_leave"):  # it was never made whole
            return super().close()
        self._leave_session()
        self._let_go(self._behind)
        for worker in self._workers:
            worker.stop(0)
        layout = self.layout
        super().close()
        layout.close()  # a widget too, which every list of them holds until it is closed

    def _leave_session(self) -> None:
        if self._leave is not None:
            self._leave()
        self._leave = None
        self._keep_no_more()

    def _changed(self, session: Session, event: str) -> None:
        if event == "damage":  # the network is what it was
            self._deliver(lambda: self._more_damage(session))
            return
        if event == "scored":  # likewise
            scored = page_values.scored_values(session)
            self._deliver(lambda: self._set(scored) if session is self.session else None)
            return
        values = page_values.read_session(session)
        self._deliver(lambda: self._apply(values) if session is self.session else None)

    def _apply(self, values: dict, fresh: bool = False) -> None:
        """Show `values`; `fresh`: of another session."""
        names = [layer["name"] for layer in values["layers"]]
        if values.get("selected", self.selected) not in names:
            values = values | {"selected": (names or [""])[0]}
        # Then no width was set by hand, for this network at least.
        switched = self._switches(values)
        fresh = fresh or not self.measured or switched
        before, shown_before = {layer["name"]: layer["width"] for layer in self.layers}, self.selected
        self._set(values | self._fitting(values) | {"revision": self.revision + 1})
        now = {layer["name"]: layer["width"] for layer in self.layers}.get(self.selected, 0)
        if now < before.get(self.selected, 0) and values["position"] > 0 and not switched:
            # Just committed: all of its units are kept until a person moves something, so that a second
            # Enter does not prune again.
            self._set({"width": now})
        elif fresh or self.follow or self.selected != shown_before or now != before.get(self.selected):
            self._link("selected")
        self._ask()
        self._ask_losses()
        self._ask_frontier()
        self._ask_theory()

    def _spectrum(self, name: str) -> Any:
        session = self.session
        if session is None or not session.measured:
            return None
        group = next((g for g in session.groups if g.name == name), None)
        return session.spectrum(name) if group is not None and group.prunable else None

    def _set(self, values: dict) -> None:
        """All at once: one message to the page, and no observer sees half of it."""
        with self._quiet(), self.hold_sync(), self.hold_trait_notifications():
            for key, value in values.items():
                setattr(self, key, value)

    @contextmanager
    def _quiet(self):
        before, self._linking = self._linking, True
        try:
            yield
        finally:
            self._linking = before
