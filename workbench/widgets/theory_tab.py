"""The theory tab's half in the kernel: what is measured beside the bounds that the page computes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import traitlets as t

from workbench.data.progress import Cancelled
from workbench.pruning.problem import NotMeasuredError
from workbench.pruning.propagation import Errors
from workbench.pruning.theory import DRAWS, Guarantee, LayerTheory, NetworkTheory
from workbench.pruning.theory_sweeps import LAMS, SWEEP_DRAWS, LossSweep
from workbench.session.session import Session
from workbench.widgets.constants import AS_COMMITTED, AT_LAM
from workbench.widgets.jobs import Delivery, Worker
from workbench.widgets.traits import synced

ASKED = ("group", "lam", "width", "theta", "selection", "reconstruction", "position", "revision", "theory_of")
WORK = 2e10  # multiply–accumulates a network, of which an answer is made
WIDE = 300  # units from which fewer draws and fewer λ are taken, so that an answer comes in seconds


class Theories(t.HasTraits):
    """The part of the shared state that sets the theory beside measurements; nothing of it is committed.

    `theory` is of the chosen group's choice, `network_theory` of the whole network, `loss_sweep` of the group
    as λ sweeps; the first two say in `request` what they answer. `stretch` is what the page needs for bias
    and variance beside the spectra. `theory_of`: the whole network "lam", every group of the original at this
    λ, or "committed", as it stands. `samples`: n, 0 for the calibration data's.
    """

    theory = synced(t.Dict)
    network_theory = synced(t.Dict)
    loss_sweep = synced(t.Dict)
    stretch = synced(t.Dict)
    theory_of = synced(t.Unicode, AT_LAM)
    samples = synced(t.Int, 0)

    _looks_at: Callable[[str], bool]
    session: Session | None
    measured: Any
    selected: Any
    revision: Any
    request: Callable[[], dict]
    _spectrum: Callable[[str], Any]
    _deliver: Delivery
    _set: Callable[[dict], None]
    _fail: Callable[[str, BaseException], None]

    PLACES: ClassVar[dict[str, str]] = {"theory": "theory"}

    def _begin_theories(self) -> None:
        self._theory_cancels: list[threading.Event] = []
        self._theories = Worker("workbench-theory", newest_only=True, cancels=self._theory_cancels)
        self._theory_asked: tuple[Session, dict] | None = None
        self._stretched = -1
        self._swept: tuple | None = None

    def _no_theory(self) -> dict:
        """Values for another session."""
        self._theory_asked = self._swept = None
        self._stretched = -1
        return {"theory": {}, "network_theory": {}, "loss_sweep": {}, "stretch": {}, "samples": 0}

    @t.observe("tab", "tabs", "selected", "lam", "width", "theta", "selection", "reconstruction", "theory_of")
    def _on_theory(self, change: dict) -> None:
        self._ask_theory()

    def _wanted_theory(self) -> dict:
        request = self.request() | {"theory_of": self.theory_of}
        return {key: request[key] for key in ASKED}

    def _ask_theory(self) -> None:
        """What the tab shows now, in the background, while it is looked at; a newer request replaces it."""
        session, wanted = self.session, self._wanted_theory()
        if session is None or not self._looks_at("theory") or not self.measured:
            return
        if self._theory_asked == (session, wanted):
            return
        self._theory_asked = (session, wanted)
        for event in self._theory_cancels:
            event.set()
        cancel = threading.Event()
        self._theory_cancels[:] = [cancel]
        self._theories.submit(lambda: self._find_theory(session, wanted, cancel))

    def _find_theory(self, session: Session, wanted: dict, cancel: threading.Event) -> None:
        """Each part is shown as soon as it is there; what takes longest comes last."""
        parts = (self._find_layer, self._find_stretch, self._find_sweep, self._find_network)
        for part in parts:
            if cancel.is_set():
                return
            try:
                values = part(session, wanted, cancel)
            except (Cancelled, NotMeasuredError):
                return  # for gradients that are missing the preview cares; then it is asked for again
            except BaseException as error:
                if not cancel.is_set() and wanted == self._wanted_theory():
                    self._fail("theory", error)
                return
            if values:
                self._deliver(partial(self._show_theory, session, wanted, values))

    def _show_theory(self, session: Session, wanted: dict, values: dict) -> None:
        if session is self.session and wanted["revision"] == self.revision:
            self._set(values)

    def _find_stretch(self, session: Session, wanted: dict, cancel: threading.Event) -> dict:
        if self._stretched == wanted["revision"] or not any(group.prunable for group in session.groups):
            return {}
        found = session.bias_variance(LAMS[:1])
        self._stretched = wanted["revision"]
        values = vars(found.stretch) | {"samples": found.samples, "revision": wanted["revision"]}
        return {"stretch": values}

    def _find_layer(self, session: Session, wanted: dict, cancel: threading.Event) -> dict:
        spectrum = self._spectrum(wanted["group"])
        if spectrum is None or wanted["group"] in session.stale:
            return {}
        m = spectrum.width
        found = session.theory(
            wanted["group"],
            lam=wanted["lam"] * (spectrum.trace or 1.0),
            width=min(max(wanted["width"], 1), m),
            theta=wanted["theta"],
            selection=wanted["selection"],
            reconstruction=wanted["reconstruction"],
            draws=DRAWS if m <= WIDE else 4,
            examples=seen_in_time(session),
            cancel=cancel,
        )
        return {"theory": layer_values(found, spectrum.trace or 1.0) | {"request": wanted}}

    def _find_sweep(self, session: Session, wanted: dict, cancel: threading.Event) -> dict:
        asked = (wanted["group"], wanted["theta"], wanted["revision"])
        spectrum = self._spectrum(wanted["group"])
        if self._swept == asked or spectrum is None or wanted["group"] in session.stale:
            return {}
        narrow = spectrum.width <= WIDE
        found = session.theory_sweep(
            wanted["group"],
            LAMS if narrow else LAMS[::4],
            theta=wanted["theta"],
            draws=SWEEP_DRAWS if narrow else 2,
            cancel=cancel,
        )
        self._swept = asked
        return {"loss_sweep": sweep_values(found, spectrum.trace or 1.0) | {"revision": wanted["revision"]}}

    def _find_network(self, session: Session, wanted: dict, cancel: threading.Event) -> dict:
        committed = wanted["theory_of"] == AS_COMMITTED
        if committed and not session.position:
            return {"network_theory": {"request": wanted, "none": True}}
        found = session.network_theory(
            None if committed else wanted["lam"],
            theta=wanted["theta"],
            selection=wanted["selection"],
            examples=seen_in_time(session),
            cancel=cancel,
        )
        return {"network_theory": network_values(found) | {"request": wanted}}


def seen_in_time(session: Session) -> int:
    """Calibration examples that two networks run through in seconds."""
    return max(1, int(WORK / max(session.history[0].macs, 1)))


def error_values(found: Errors) -> dict[str, Any]:
    """Errors as the page shows them."""
    names = (
        "propagated_bound", "propagated_exact", "propagated_from_measured", "why_not", "output_change",
        "output_size", "output_error", "examples", "local_bound", "local_measured",
    )  # fmt: skip
    return {name: getattr(found, name) for name in names} | {"readers": [vars(one) for one in found.readers]}


def layer_values(found: LayerTheory, trace: float) -> dict[str, Any]:
    """One choice as the page shows it; mean squares as shares of the trace."""
    return error_values(found) | {
        "of": found.of,
        "width": found.width,
        "largest_loss": found.largest_loss / trace,
        "draws": len(found.sampled_losses),
        "sampled_share": found.sampled_share,
        "sampled_median": float(found.sampled_losses.median()) / trace,
        "sampled_largest": float(found.sampled_losses.max()) / trace,
        "sampled_units": round(float(found.sampled_units.double().mean()), 1),
    }


def network_values(found: NetworkTheory) -> dict[str, Any]:
    """A whole network as the page shows it, a row a group."""
    return error_values(found) | {"layers": [guarantee_values(one, found) for one in found.layers]}


def guarantee_values(one: Guarantee, found: NetworkTheory) -> dict[str, Any]:
    readers = [reader for reader in found.readers if reader.group == one.group]
    return {
        "group": one.group,
        "of": one.of,
        "width": one.width,
        "guaranteed_width": one.guaranteed_width,
        "ratio": one.largest_loss / one.read_out_bound,
        "local_bound": float(np.hypot.reduce([r.local_bound for r in readers])) if readers else 0.0,
        "local_measured": float(np.hypot.reduce([r.local_measured for r in readers])) if readers else 0.0,
        "exact": all(r.exact for r in readers),
    }


def sweep_values(found: LossSweep, trace: float) -> dict[str, Any]:
    """A sweep as the page draws it: shares of the trace."""
    return {
        "group": found.group,
        "lams": found.lams.tolist(),
        "greedy": (found.greedy / trace).tolist(),
        "sampled": (np.median(found.sampled, axis=1) / trace).tolist(),
        "sampled_share": found.sampled_share,
        "draws": int(found.sampled.size),
    }
