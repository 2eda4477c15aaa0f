"""The budget tab's half in the kernel: losses at every width, plans by a rule, and their commit."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import traitlets as t

from workbench.network.latency import measure_latency
from workbench.pruning.budget import BudgetPlan
from workbench.pruning.problem import NotMeasuredError
from workbench.session.session import Session
from workbench.widgets.constants import (
    GOAL,
    NEEDS_LABELS,
    OPTIONS,
    RULE_WORDS,
    SESSION_UNITS,
    START_LAM,
    UNIT_WORDS,
)
from workbench.widgets.jobs import Delivery, Reporter, Worker
from workbench.widgets.traits import synced

STILL = 0.2  # seconds in which no width moves, before the losses are computed for those that are set
FEW = 100  # parameters or MACs that no network is left with: who writes so few means a share
SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_NOTHING: dict[str, Any] = {"widths": {}, "locks": [], "planned": {}}  # planned
# A number, which may have commas between its thousands and nowhere else, and what it counts in.
TARGET = re.compile(r"((?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)\s*([%x×]|[kKmMgG])?")


class Budgets(t.HasTraits):
    """The part of the shared state that is about all groups at once.

    `budget` is the cost of any widths (page_values.py), `losses` the float64 output losses of all its groups,
    of each at its widths 0 to m, once they are known for the revision `losses_of`: by the θ and selection
    with which they are committed, near between m, m/2, … and exact at the widths that are set. `widths` are
    those that the page has set, by group name; a group that is not named keeps all its units. `locks` are
    names of groups that neither λ nor a rule moves. `planned` is what the last rule answered.
    """

    COMMANDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "plan": ("rule", "goal", "locks", "widths"),
        "commit_plan": ("widths", "options", "revision"),
    }
    PLACES: ClassVar[dict[str, str]] = {"plan": "budget", "commit_plan": "budget"}

    budget = synced(t.Dict)
    losses = synced(t.Bytes)
    losses_of = synced(t.Int, -1)
    planned = synced(t.Dict)
    # The page is ahead of the kernel here, as with λ (state.py).
    widths = synced(t.Dict).tag(echo_update=False)
    locks = synced(t.List).tag(echo_update=False)
    budget_lam = synced(t.Float, START_LAM).tag(echo_update=False)
    goal = synced(t.Dict, GOAL).tag(echo_update=False)

    session: Session | None
    branch: Any
    revision: Any
    measured: Any
    _looks_at: Callable[[str], bool]
    theta: Any
    selection: Any
    reconstruction: Any
    _current: Any
    _deliver: Delivery
    _set: Callable[[dict], None]
    _fail: Callable[[str, BaseException], None]
    _start: Callable[..., None]
    _switches: Callable[[Mapping[str, Any]], bool]

    def _begin_budgets(self) -> None:
        self._losses = Worker("workbench-losses", newest_only=True)
        self._losses_for: tuple | None = None
        self._plan: BudgetPlan | None = None
        self._plans: dict[str, tuple[dict, BudgetPlan | None]] = {}  # of branches that were left, by name

    def plan(
        self,
        rule: str,
        goal: Mapping[str, Any] | None = None,
        locks: Iterable[str] | None = None,
        widths: Mapping[str, int] | None = None,
    ) -> None:
        """Widths by `rule` (constants.RULE_WORDS) for `goal`, by default what the tab has now.

        `goal`: "target", a text such as "50 %" or "2x" (of the original), "1.2 M", milliseconds or megabytes;
        "unit", one of "parameters", "macs", "ms", "mb"; "minimum" and "multiple" of every width; "refine",
        seconds in which the rule "damage" may measure plans.
        """
        wanted: dict[str, Any] = GOAL | dict(self.goal if goal is None else goal)
        held = list(self.locks if locks is None else locks)
        now = dict(self.widths if widths is None else widths)
        ways = {name: getattr(self, name) for name in ("theta", "selection", "reconstruction")}

        def work(progress: Reporter, cancel: Any) -> None:
            session = self._current
            need_gradients(session, [ways["selection"]], progress, cancel)
            unit = str(wanted["unit"])
            target, reference = _asked(session, str(wanted["target"]), unit)
            found = session.plan(
                target,
                SESSION_UNITS.get(unit, unit),
                rule,
                **limits_of(session, wanted, held, now),
                **ways,
                reference=reference,
                refine=whole(wanted["refine"], "seconds of refining", 0) if can_refine(rule, unit) else 0,
                progress=progress,
                cancel=cancel,
            )
            progress(1, 1, "planning")  # ends here where it was cancelled
            self._plan = found
            values = {
                "widths": dict(found.widths),
                "planned": plan_values(found),
                "goal": wanted | {"target": as_read(str(wanted["target"]), unit)},
            }
            if found.lam is not None:
                values["budget_lam"] = found.lam
            self._deliver(lambda: self._set(values))

        self._start("plan", "planning", work)

    def commit_plan(
        self,
        widths: Mapping[str, int] | None = None,
        options: Mapping[str, Any] | None = None,
        revision: int | None = None,
    ) -> None:
        """Prune every group to its width, by default those shown, as one step of undo."""
        wanted = dict(self.widths if widths is None else widths)
        ways = {name: getattr(self, name) for name in OPTIONS} | dict(options or {})

        def work(progress: Reporter, cancel: Any) -> None:
            session = self._current
            if revision is not None and revision != self.revision:
                raise ValueError("the network has changed since these widths were shown; look again")
            need_gradients(session, [ways["selection"]], progress, cancel)
            same = self._plan is not None and self._plan.widths == wanted
            session.commit_plan(self._plan if same else wanted, **ways, progress=progress, cancel=cancel)

        self._start("commit_plan", "committing all groups", work)

    # Inside

    def _no_plan(self) -> dict:
        """Values for another session, of which nothing is planned."""
        self._plan, self._plans = None, {}
        return _NOTHING

    def _fitting(self, values: Mapping[str, Any]) -> dict:
        """The planned widths within the groups' present ones, which `values` brings, with their branch."""
        budget = values["budget"]
        branch = values.get("branch", self.branch)
        if branch != self.branch and "widths" not in values:
            self._plans[self.branch] = ({name: getattr(self, name) for name in _NOTHING}, self._plan)
            if self._switches(values):
                planned, self._plan = self._plans.get(branch, (_NOTHING, None))
                values = {**values, **planned}
        present = dict(zip(budget["names"], budget["widths"], strict=True))
        widths = values.get("widths", self.widths)
        locks = values.get("locks", self.locks)
        return {
            "widths": {name: min(width, present[name]) for name, width in widths.items() if name in present},
            "locks": [name for name in locks if name in present],
            "planned": values.get("planned", self.planned),
        }

    @t.observe("tab", "tabs", "widths")
    def _on_tab(self, change: dict) -> None:
        self._ask_losses()

    @t.observe("theta", "selection")
    def _on_ways(self, change: dict) -> None:
        self.losses_of = -1  # those shown belong to another choice
        self._ask_losses()

    def _wanted_losses(self) -> tuple:
        return self.revision, self.theta, self.selection, tuple(sorted(self.widths.items()))

    def _ask_losses(self) -> None:
        """The losses at every width, in the background, once they are looked at."""
        session, wanted = self.session, self._wanted_losses()
        known = self.losses_of == self.revision
        looked_at = self._looks_at("budget") and self.measured
        if session is not None and looked_at and not (known and self._losses_for == wanted):
            self._losses.submit(lambda: self._find_losses(session, wanted, STILL if known else 0.0))

    def _find_losses(self, session: Session, wanted: tuple, rest: float) -> None:
        time.sleep(rest)
        if wanted != self._wanted_losses():
            return
        revision, theta, selection, widths = wanted
        try:
            losses = losses_of(session, dict(widths), theta, selection)
        except NotMeasuredError:
            return  # the preview of this selection measures what is missing; then they are asked for again
        except BaseException as error:
            if revision == self.revision:
                self._fail("plan", error)
            return
        values = {"losses": losses.astype(np.float64).tobytes(), "losses_of": revision}

        def show() -> None:
            if wanted == self._wanted_losses():
                self._losses_for = wanted
                self._set(values)

        self._deliver(show)


def losses_of(session: Session, widths: Mapping[str, int], theta: float, selection: str) -> np.ndarray:
    """Predicted losses of all groups in a row, of each at its widths 0 to m; at `widths` as previewed.

    Raises NotMeasuredError.
    """
    groups = session.budget_groups(remeasure=False, theta=theta, selection=selection)
    present = {group.name: group.width for group in groups}
    inside = {name: min(width, present[name]) for name, width in widths.items() if name in present}
    exact = session.predicted_losses(inside, theta=theta, selection=selection)
    rows = []
    for group in groups:
        row = group.losses.copy()
        if group.name in exact and row[0] > 0:
            row[inside[group.name]] = exact[group.name]
        rows.append(row)
    return np.concatenate(rows) if rows else np.zeros(0)


def limits_of(
    session: Session, goal: Mapping[str, Any], locks: Iterable[str], widths: Mapping[str, int]
) -> dict[str, Any]:
    """Locks, minimum and multiple for `Session.plan`; a locked group stays at its width in `widths`.

    Raises ValueError.
    """
    present = {group.name: group.width for group in session.groups if group.prunable}
    return {
        "locks": {name: widths.get(name, present[name]) for name in locks if name in present},
        "minimum": whole(goal["minimum"], "minimum width"),
        "multiple": whole(goal["multiple"], "multiple"),
    }


def need_gradients(session: Session, selections: Iterable[str], progress: Reporter, cancel: Any) -> None:
    """Measure what the Taylor criterion needs, where it is among `selections` and that is not there yet."""
    if NEEDS_LABELS in selections and not session.has_gradients:
        session.measure_gradients(progress=progress, cancel=cancel)


def can_refine(rule: str, unit: str) -> bool:
    """Whether `Session.plan` measures plans of this rule in this unit."""
    return rule == "damage" and unit != "ms"


def plan_values(plan: BudgetPlan) -> dict[str, Any]:
    """A plan as the page shows it."""
    names = (
        "rule", "unit", "target", "widths", "cost", "parameters", "macs", "met", "message", "lam", "doubtful",
        "change",
    )  # fmt: skip
    return {name: getattr(plan, name) for name in names} | {"rounds": rounds_words(plan)}


def rounds_words(plan: BudgetPlan) -> str:
    """What each round of measuring won, in words: "started from least loss, damage 0.24; round 1: 0.21"."""
    starts = [one for one in plan.rounds if one.what in RULE_WORDS]
    if not starts:
        return ""
    best = [one for one in starts if one.kept][-1]
    words = [f"started from {RULE_WORDS[best.what][0].lower()}, damage {best.measured:.3g}"]
    words += [
        f"{one.what}: {one.measured:.3g}" + ("" if one.kept else ", not taken")
        for one in plan.rounds
        if one not in starts
    ]
    return "; ".join(words if len(words) > 1 else [*words, "no step from it won"])


def target_of(session: Session, text: str, unit: str) -> float:
    """The number of parameters or MACs, the seconds or megabytes, that a person means.

    `text`: "50 %" or "2x" less, of the original; "1.2 M"; milliseconds for the unit "ms", megabytes for "mb".
    Of parameters and MACs a part of one is a share: "0.5" is "50 %". A few of them are asked about.
    Raises ValueError.
    """
    return _asked(session, text, unit)[0]


def as_read(text: str, unit: str) -> str:
    """A target as the field shows it once it is read: "0.5" as "50 %"."""
    found = TARGET.fullmatch(text.strip())
    if not found or found[2] or unit in ("ms", "mb") or not 0 < float(found[1].replace(",", "")) < 1:
        return text
    return f"{100 * float(found[1]):.6g} %"


def _asked(session: Session, text: str, unit: str) -> tuple[float, float | None]:
    """The target, and where it is a share of the original's time, what that was measured to be."""
    found = TARGET.fullmatch(text.strip().replace("\u202f", " "))
    number = float(found[1].replace(",", "")) if found else float("nan")
    mark = (found[2] or "").lower() if found else ""
    small = {"ms": "12.5, in milliseconds,", "mb": "12.5, in megabytes,"}  # which no k or M goes with
    if not found or not 0 < number < float("inf") or (unit in small and mark in SCALES and mark):
        such = small.get(unit, "1.2 M")
        raise ValueError(
            f"the target must be a number such as {such} or a share such as 50 % or 2x, with a point before "
            f"decimals; got {text!r}"
        )
    if not mark and unit not in small and number <= FEW:
        if number < 1:
            return session.original_cost(SESSION_UNITS.get(unit, unit)) * number, None
        raise ValueError(
            f"did you mean {number:g} % or {number:g}x of the original? {text.strip()} alone would be a "
            f"number of {UNIT_WORDS.get(unit, unit)}: write %, x, k or M behind it"
        )
    if mark in SCALES:
        return number * SCALES[mark] / (1000 if unit == "ms" else 1), None
    seconds = measure_latency(session.original, session.example_input) if unit == "ms" else None
    size = session.original_cost(SESSION_UNITS.get(unit, unit)) if seconds is None else seconds
    return size * number / 100 if mark == "%" else size / number, seconds


def whole(value: Any, what: str, least: int = 1) -> int:
    """Raises ValueError for anything but a whole number of at least `least`."""
    try:
        number = int(str(value).strip())
    except ValueError:
        number = least - 1
    if number < least:
        raise ValueError(f"the {what} must be a whole number, {least} or more; got {value!r}")
    return number
