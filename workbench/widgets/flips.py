"""The kernel's half of the card that shows which examples changed: counts, classes, confusions, pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import traitlets as t
from torch import nn

from workbench.data.legend import Legend, legend_of
from workbench.measure.answers import examples_at
from workbench.measure.changes import LABELS, VALUES, Changes, Flip
from workbench.session.session import Session
from workbench.widgets.constants import FLIPS_PAGE
from workbench.widgets.jobs import Delivery, Reporter
from workbench.widgets.thumbnails import shown_example
from workbench.widgets.traits import synced

MOST = 240  # of them on the page
CONFUSIONS = 12  # that grew most
CLASSES = 12  # that are listed in their own order; of more, those that changed most
CHOICE, PLAN = "choice", "plan"  # what was tried; a step is a number
SIDES = ("lost", "won", "other")


class Flips(t.HasTraits):
    """The part of the shared state that shows which examples' answers changed.

    `flips` is what the card shows: of what ("choice" and "plan" as last tried, or the number of a step),
    `against` "before" or "original", `pick`, which examples: "all", "lost", "won", "other", "class:4" or
    "pair:4:9"; see `flip_values`.
    """

    COMMANDS: ClassVar[dict[str, tuple[str, ...]]] = {"show_flips": ("of", "against", "pick", "count")}
    PLACES: ClassVar[dict[str, str]] = {"show_flips": "flips"}

    flips = synced(t.Dict)

    session: Session | None
    revision: Any
    _current: Any
    _deliver: Delivery
    _set: Callable[[dict], None]
    _start: Callable[..., None]

    def _begin_flips(self) -> None:
        self._tried_changes: dict[str, tuple[str, Changes]] = {}
        self._step_changes: tuple[tuple[Any, ...], Changes] | None = None  # the last that was shown

    def show_flips(
        self, of: str | int, against: str = "before", pick: str = "all", count: int = FLIPS_PAGE
    ) -> None:
        """Show which examples changed, the first `count` of those picked; nothing is kept."""

        def work(progress: Reporter, cancel: Any) -> None:
            session = self._current
            title, found = self._changes_of(session, of, against, progress, cancel)
            data = session.evaluation if found.data == "evaluation" else session.calibration
            values = flip_values(found, data, pick, min(int(count), MOST), cancel)
            values |= {"of": of, "against": against, "title": title, "revision": self.revision}
            counts = [session.flip_counts(one) for one in range(len(session.history))]
            self._deliver(lambda: self._set({"flips": values} | self._with_counts(counts)))

        self._start("show_flips", "comparing answers", work)

    # Inside

    def _no_flips(self) -> dict:
        """Values for another session."""
        self._tried_changes, self._step_changes = {}, None
        return {"flips": {}}

    def _tried_with(
        self, session: Session, of: str, title: str, model: nn.Module, progress: Reporter, cancel: Any
    ) -> tuple[float | None, dict[str, Any]]:
        """The score of a network that is tried, and what the line beside it says; the card asks for more.

        Data that comes in another order each time is scored all the same.
        """
        try:
            found = session.changes(model, progress=progress, cancel=cancel)
        except ValueError:
            self._tried_changes.pop(of, None)
            return session.evaluate(model, progress, cancel), {}  # raises again what is wrong with scoring
        self._tried_changes[of] = title, found
        return found.scores[1], {"line": str(found)} | {side: getattr(found, side) for side in SIDES}

    def _changes_of(
        self, session: Session, of: str | int, against: str, progress: Reporter, cancel: Any
    ) -> tuple[str, Changes]:
        if isinstance(of, str):
            if of not in self._tried_changes:
                raise ValueError("nothing was tried yet: press Try first")
            return self._tried_changes[of]
        key = session, self.revision, of, against
        if self._step_changes is None or self._step_changes[0] != key:
            self._step_changes = key, session.changes(of, against, progress=progress, cancel=cancel)
        step = session.history[of]
        is_end = of + 1 == len(session.history) or session.history[of + 1].plan != step.plan
        return (step.plan if step.plan and is_end else step.label), self._step_changes[1]

    def _with_counts(self, counts: list) -> dict[str, Any]:
        """The history with what is known of each step now."""
        history: Any = getattr(self, "history", [])
        if len(history) != len(counts):
            return {}
        return {
            "history": [one | {"flips": flips} for one, flips in zip(history, counts, strict=True)],
        }


def flip_values(found: Changes, data: Any, pick: str, count: int, cancel: Any = None) -> dict[str, Any]:
    """What the card shows of `found`, ready for JSON.

    Args:
        found: which examples changed.
        data: that it was found on.
        pick: which of them to show, see `Flips`.
        count: how many, at most.
        cancel: set, it ends the look for examples.

    Returns:
        "line", counts, "scores", "names" of classes by number as text, "classes" as rows (class, total,
        before, after, lost, won), "confusions" as rows (true, predicted, growth), "picked", how many are
        picked, and "items", an example each.

    Raises:
        ValueError: a pick that there is not.
    """
    legend = legend_of(data)
    chosen = picked(found, pick)
    shown = [found.flip(number) for number in chosen[:count]]
    pictures = dict(examples_at(data, [one.example for one in shown], found.data, cancel))
    values = {
        name: getattr(found, name)
        for name in ("kind", "labelled", "examples", "answers", "changed", "metric", "data")
    }
    return values | {
        "line": str(found),
        "scores": list(found.scores),
        **{side: getattr(found, side) for side in SIDES},
        "sides": {side: len(picked(found, side)) for side in ("all", *SIDES)},
        "names": _names(found, legend),
        "classes": class_rows(found),
        "more_classes": max(0, _with_any(found) - CLASSES),
        "confusions": [list(one) for one in found.confusions[:CONFUSIONS] if one.growth > 0],
        "pick": pick,
        "picked": len(chosen),
        "count": count,
        "most": MOST,
        "items": [item_values(one) | shown_example(pictures[one.example], legend) for one in shown],
    }


def picked(found: Changes, pick: str) -> np.ndarray:
    """Numbers of the examples that `pick` means, the largest change first. Raises ValueError."""
    kind, *numbers = pick.split(":")
    order, details = found.order, found.details
    if kind == "all":
        return order
    if kind in SIDES:
        return order[details[kind][order] > 0]
    try:
        wanted = [int(one) for one in numbers]
        first = _whose(found)
        if kind == "class":
            keep = (first[order] == wanted[0]) | (
                (details["after"][order] == wanted[0]) & (not found.labelled)
            )
        else:
            keep = (first[order] == wanted[0]) & (details["after"][order] == wanted[1])
    except (IndexError, ValueError):
        raise ValueError(
            f"which examples to show must be all, lost, won, class:4 or pair:4:9; got {pick!r}"
        ) from None
    return order[keep]


def _whose(found: Changes) -> np.ndarray:
    """The class by which examples are picked, of the answer that changed most, (examples,)."""
    if found.kind == LABELS:
        return found.details["position"]
    return found.details["target" if found.labelled and found.kind != VALUES else "before"]


def _with_any(found: Changes) -> int:
    return 0 if found.by_class is None else int((found.by_class.total > 0).sum())


def class_rows(found: Changes) -> list[list[int]]:
    """(class, total, before, after, lost, won) of each class; of many classes, those that changed most."""
    table = found.by_class
    if table is None:
        return []
    there = np.flatnonzero((table.total > 0) | (table.after > 0))
    if len(there) > CLASSES:
        there = there[np.argsort(-(table.lost + table.won)[there], kind="stable")][:CLASSES]
    columns = (table.total, table.before, table.after, table.lost, table.won)
    return [[int(one), *(int(column[one]) for column in columns)] for one in there]


def item_values(one: Flip) -> dict[str, Any]:
    """One example in plain values; "side" is what became of it: lost, won or other."""
    values = {name: _plain(value) for name, value in one._asdict().items()}
    values["side"] = max(SIDES, key=lambda side: getattr(one, side))
    return values


def _plain(value: Any) -> Any:
    return None if value is None or value != value else value


def _names(found: Changes, legend: Legend) -> Mapping[str, str]:
    """Names of classes by number; yes and no where there are two without names."""
    if found.kind == VALUES:
        return {}
    size = 0 if found.by_class is None else len(found.by_class.total)
    if len(legend.classes) == size:
        return {str(number): name for number, name in enumerate(legend.classes)}
    return {"0": "no", "1": "yes"} if found.kind == "yes-no" else {}
