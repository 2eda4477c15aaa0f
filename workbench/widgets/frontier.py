"""The budget tab's frontier in the kernel: the least predicted change of the outputs at every cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import traitlets as t

from workbench.data.progress import Cancelled
from workbench.measure.outputs import Distance
from workbench.network.cost_model import Total
from workbench.pruning.budget import RULES, BudgetPlan
from workbench.pruning.frontier import Frontier
from workbench.pruning.problem import NotMeasuredError
from workbench.session.session import Session
from workbench.widgets.budget_tab import limits_of, need_gradients
from workbench.widgets.constants import OPTIONS, SESSION_UNITS
from workbench.widgets.flips import PLAN
from workbench.widgets.jobs import Delivery, Reporter, Worker, keeping
from workbench.widgets.traits import synced

LINE_REST = 0.15  # seconds in which no setting moves, before the line is solved again
WAYS = ("theta", "selection", "reconstruction")  # how the damage was measured


class Frontiers(t.HasTraits):
    """The part of the shared state that predicts what plans change of the outputs.

    `frontier` holds solved plans with their widths, so that the page drags along them by itself (see
    `line_values`), `damages` the float64 D of all its groups in a row, of each at its widths 0 to m. Both are
    of the network at `frontier["revision"]`: after a commit they stay, until the damage of the new network is
    measured. `unmeasured` says how much of that is still to be measured; `outputs` what was measured of the
    present network, `tried_plan` of one that was tried. `memory` are the terms of its megabytes.
    """

    COMMANDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "measure_damage": (),
        "try_plan": ("widths", "options", "revision"),
    }
    PLACES: ClassVar[dict[str, str]] = dict.fromkeys(COMMANDS, "budget")

    frontier = synced(t.Dict)
    damages = synced(t.Bytes)
    unmeasured = synced(t.Dict)
    outputs = synced(t.Dict)
    tried_plan = synced(t.Dict)
    memory = synced(t.Dict)

    session: Session | None
    revision: Any
    position: Any
    measured: Any
    _looks_at: Callable[[str], bool]
    goal: Any
    locks: Any
    widths: Any
    _current: Any
    _deliver: Delivery
    _set: Callable[[dict], None]
    _fail: Callable[[str, BaseException], None]
    _start: Callable[..., None]
    _tried_with: Callable[..., tuple[float | None, dict[str, Any]]]

    def _begin_frontiers(self) -> None:
        self._lines = Worker("workbench-frontier", newest_only=True)
        self._line_for: tuple | None = None

    def measure_damage(self) -> None:
        """What each group alone does to the outputs, by the selection and reconstruction of the tab."""
        ways = self._ways()

        def work(progress: Reporter, cancel: Any) -> None:
            need_gradients(self._current, [ways["selection"]], progress, cancel)
            session = self._current
            with keeping(lambda: damage_words(session, ways)):
                session.damage(**ways, progress=progress, cancel=cancel)

        self._start("measure_damage", "measuring damage", work)

    def try_plan(
        self, widths: Mapping[str, int], options: Mapping[str, Any], revision: int | None = None
    ) -> None:
        """Score, change of the outputs, and which answers change, with these widths; nothing is kept."""
        wanted = dict(widths)
        ways = {name: options.get(name, getattr(self, name)) for name in OPTIONS}

        def work(progress: Reporter, cancel: Any) -> None:
            session = self._current
            if revision is not None and revision != self.revision:
                raise ValueError("the network has changed since these widths were shown; look again")
            need_gradients(session, [ways["selection"]], progress, cancel)
            model = session.planned(wanted, **ways, progress=progress, cancel=cancel)
            score, flips = self._tried_with(session, PLAN, "the plan, tried", model, progress, cancel)
            found = session.output_change(progress, cancel, model=model)
            answer = {
                "revision": self.revision, "widths": wanted, "score": score, "change": _told(found),
                "ways": {name: ways[name] for name in OPTIONS}, "flips": flips,
            }  # fmt: skip
            self._deliver(lambda: self._set({"tried_plan": answer}))

        self._start("try_plan", "trying the plan", work)

    # Inside

    def _no_frontier(self) -> dict:
        """Values for another session, of which no damage is measured."""
        self._line_for = None
        return {
            "frontier": {}, "damages": b"", "unmeasured": {}, "outputs": {}, "tried_plan": {}, "memory": {},
        }  # fmt: skip

    def _ways(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in WAYS}

    @t.observe("tab", "tabs", "theta", "selection", "reconstruction", "goal", "locks", "widths")
    def _on_settings(self, change: dict) -> None:
        self._ask_frontier()

    def _more_damage(self, session: Session) -> None:
        """More is measured of `session` than was known."""
        if session is self.session:
            self._line_for = None
            self._ask_frontier()

    def _wanted_line(self) -> tuple:
        goal = self.goal
        held = tuple((name, self.widths.get(name)) for name in sorted(self.locks))
        limits = tuple(str(goal.get(name, 1)).strip() for name in ("minimum", "multiple"))
        return self.revision, tuple(self._ways().values()), _unit(goal), limits, held

    def _ask_frontier(self) -> None:
        """The frontier for the present settings, in the background, once it is looked at."""
        session, wanted = self.session, self._wanted_line()
        if session is None or not self.measured or not self._looks_at("budget") or wanted == self._line_for:
            return
        self._line_for = wanted
        self._lines.submit(lambda: self._find_line(session, wanted))

    def _find_line(self, session: Session, wanted: tuple) -> None:
        def check() -> None:
            if session is not self.session or wanted != self._wanted_line():
                raise Cancelled("another frontier is asked for")

        def show(values: dict) -> None:
            self._deliver(lambda: self._set(values) if session is self.session else None)

        try:
            if self.frontier:
                time.sleep(LINE_REST)
            check()
            self._solve(session, check, show)
        except (Cancelled, NotMeasuredError):
            return
        except BaseException as error:
            if wanted == self._wanted_line():
                self._fail("measure_damage", error)

    def _solve(self, session: Session, check: Callable[[], None], show: Callable[[dict], None]) -> None:
        ways, goal, locks = self._ways(), dict(self.goal), list(self.locks)
        unit, revision, biased = _unit(goal), self.revision, ways["reconstruction"] == "original"
        if unit == "mb":
            whole = session.original_cost("megabytes")
            terms = memory_values(session.memory_cost(biased), whole)
            show({"memory": terms | {"revision": revision, "biased": biased}})
        if session.stale:
            missing, seconds = session.damage_forecast(**ways)[0] or 1, None
        else:
            missing, seconds = session.damage_forecast(**ways)
        show({"unmeasured": {"revision": revision, "missing": missing, "seconds": seconds, "ways": ways}})
        if missing:
            if not self._still_fits(session):
                show({"frontier": {}, "damages": b""})
        else:
            try:
                held = limits_of(session, goal, locks, dict(self.widths))
            except ValueError:  # a minimum that is no number: a rule says so where it is pressed
                return
            settings = {"unit": unit, "minimum": held["minimum"], "multiple": held["multiple"], **ways}
            values = {"revision": revision, "settings": settings | {"locks": held["locks"]}, "others": []}
            given = {**held, **ways, "check": check}
            line = session.frontier(SESSION_UNITS[unit], ("damage",), **given)
            values |= line_values(line)
            show({"frontier": dict(values), "damages": curves_of(line)})
            others = session.frontier(SESSION_UNITS[unit], [r for r in RULES if r != "damage"], **given)
            show({"frontier": values | {"others": [_point(one, others) for one in others.others]}})
        if self.position and (self.frontier or not missing) and self.outputs.get("revision") != revision:
            found = session.output_change()
            show({"outputs": {"revision": revision, "change": _told(found)}})

    def _still_fits(self, session: Session) -> bool:
        """Whether the line that is shown is of a network that the present one was cut out of."""
        present = {group.name: group.width for group in session.groups if group.prunable}
        names, widths = (self.frontier.get(key, []) for key in ("names", "widths"))
        return present.keys() == set(names) and all(
            present[name] <= width for name, width in zip(names, widths, strict=True)
        )


def damage_words(session: Session, ways: Mapping[str, Any]) -> str:
    """How much of the damage is measured, where some is."""
    missing, seconds = session.damage_forecast(**ways)
    return "" if seconds is None else f"{missing} widths are still to measure; what is measured is kept"


def _told(found: Distance) -> float | None:
    """The change as JSON has it: None of outputs that are no numbers any more."""
    change = float(found.change[0])
    return change if np.isfinite(change) else None


def _unit(goal: Mapping[str, Any]) -> str:
    """What the frontier counts: a time takes measuring, so MACs stand for it."""
    unit = str(goal.get("unit"))
    return unit if unit in SESSION_UNITS and unit != "ms" else "macs"


def line_values(line: Frontier) -> dict[str, Any]:
    """The solved plans as the page draws them and drags along them.

    "names" and "widths" of the groups as they were, "whole" the original's cost, "now" D of the network as it
    is; of each plan "fewer", times fewer than the original, "changes" predicted and "plans", widths in the
    order of the names.
    """
    groups = line.damage.groups
    names = [group.name for group in groups]
    return {
        "names": names,
        "widths": [group.width for group in groups],
        "whole": line.whole,
        "now": line.damage.now,
        "fewer": [line.whole / plan.cost for plan in line.plans],
        "changes": [plan.change for plan in line.plans],
        "plans": [[plan.widths[name] for name in names] for plan in line.plans],
    }


def _point(plan: BudgetPlan, line: Frontier) -> dict[str, Any]:
    return {
        "rule": plan.rule, "fewer": line.whole / plan.cost, "change": plan.change,
        "widths": dict(plan.widths),
    }  # fmt: skip


def curves_of(line: Frontier) -> bytes:
    """D of all groups in a row, of each at its widths 0 to m, float64."""
    return np.concatenate([group.curve for group in line.damage.groups]).astype(np.float64).tobytes()


def memory_values(memory: Total, whole: float) -> dict[str, Any]:
    """Megabytes at any widths, for the page to compute totals from: see `Total.of_term`."""
    return {
        "original": whole,
        "now": memory.whole,
        "terms": [
            [term.rows, term.columns, product, each, bias]
            + [[list(pair) for pair in pairs] for pairs in (term.lost_rows, term.lost_columns)]
            for (term, product, each), bias in zip(memory.terms, memory.new_bias, strict=True)
        ],
    }
