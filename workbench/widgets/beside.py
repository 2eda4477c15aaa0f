"""What is set and shown beside the session: kept with it, and brought back as far as it fits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import msgspec

from workbench.pruning.choice import RECONSTRUCTIONS
from workbench.session.recipe import record_of
from workbench.session.session import Session
from workbench.spectral.selection import SELECTIONS
from workbench.widgets.constants import GOAL, LAM_MAX, LAM_MIN, UNIT_WORDS, WAYS

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Lam = Annotated[float, msgspec.Meta(ge=LAM_MIN, le=LAM_MAX)]
Width = Annotated[int, msgspec.Meta(ge=1)]
SET: dict[str, Any] = {
    "selected": str, "theta": Share, "selection": str, "reconstruction": str, "reestimate": bool,
    "follow": bool, "lam": Lam, "width": Width,
}  # fmt: skip
PLANNED: dict[str, Any] = {
    "widths": dict[str, Width], "locks": list[str], "budget_lam": Lam, "goal": dict[str, Any],
    "ways": dict[str, Any],
}  # fmt: skip
FOUND = ("comparison", "sweep")  # each with the revision that it is of
FORMS = {"goal": GOAL, "ways": WAYS}
TYPED: dict[str, Any] = dict.fromkeys(("minimum", "multiple", "refine"), str | int)  # in a field, or given
ONE_OF = {"selection": SELECTIONS, "reconstruction": RECONSTRUCTIONS}


def screen_of(values: Callable[[str], Any], at: str) -> dict[str, Any]:
    """What a screen has, as plain values. `values`: by name; `at`: of the session, see `place_of`."""
    revision = values("revision")
    found = {name: values(name) for name in FOUND}
    now = {name: value for name, value in found.items() if value.get("revision") == revision}
    return {name: values(name) for name in (*SET, *PLANNED)} | {"at": at, "found": now, "by": _version()}


def place_of(session: Session) -> str:
    """A hash of the branch and the steps that lead to the present network."""
    line = session.history[1 : session.position + 1]
    steps = json.dumps([session.branch, [record_of(step) for step in line]])
    return hashlib.sha256(steps.encode()).hexdigest()


def brought_back(screen: Mapping[str, Any], session: Session, revision: int) -> dict[str, Any]:
    """What of `screen` fits `session` as it is: values by name. What was found is of the network where it
    was found, and is shown as the version that found it knows to."""
    types = {**SET, **PLANNED}
    given = {name: screen[name] for name in types if name in screen}
    values = {name: value for name, value in given.items() if _is(value, types[name])}
    values = {name: value for name, value in values.items() if value in ONE_OF.get(name, [value])}
    values = {name: value for name, value in values.items() if _is_formed(value, FORMS.get(name, value))}
    # Parts that an earlier version did not have are as they are at first.
    values |= {name: form | values[name] for name, form in FORMS.items() if name in values}
    present = {group.name: group.width for group in session.groups if group.prunable}
    if values.get("selected") not in present:
        for name in ("selected", "lam", "width", "follow"):
            values.pop(name, None)
    if "widths" in values:
        planned = {name: width for name, width in values["widths"].items() if name in present}
        values["widths"] = {name: min(width, present[name]) for name, width in planned.items()}
    if "locks" in values:
        values["locks"] = [name for name in values["locks"] if name in present]
    found = screen.get("found")
    if isinstance(found, dict) and screen.get("by") == _version() and screen.get("at") == place_of(session):
        shown = {name: found[name] for name in FOUND if isinstance(found.get(name), dict)}
        values |= {name: {**value, "revision": revision} for name, value in shown.items()}
    return values


def _is_formed(value: Any, form: Any) -> bool:
    """Whether `value` has parts of `form` alone, each of its kind."""
    if not isinstance(form, dict) or value is form:
        return True
    if value.get("unit", "macs") not in UNIT_WORDS:
        return False
    return value.keys() <= form.keys() and all(
        _is(part, TYPED.get(name, type(form[name]))) for name, part in value.items()
    )


def _is(value: Any, kind: Any) -> bool:
    try:
        return msgspec.convert(value, kind) == value  # which NaN is not
    except msgspec.ValidationError:
        return False


def _version() -> str:
    try:
        return version("spectral-pruning-workbench")
    except PackageNotFoundError:  # a source tree on the path, not installed
        return ""
