"""Branches: several ways from the same original, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import traitlets as t

from workbench.session.session import Session
from workbench.widgets.traits import synced


class Branches(t.HasTraits):
    """The part of the shared state that is about branches: the present one's name, and the steps of each."""

    COMMANDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "fork": ("name",),
        "switch": ("name",),
        "drop": ("name",),
    }

    branch = synced(t.Unicode)
    branches = synced(t.List)

    _current: Any
    _start: Callable[..., None]

    def _switches(self, values: Mapping[str, Any]) -> bool:
        """Whether `values` are of another branch than is shown; one just made goes on with what is set."""
        branch = values.get("branch", self.branch)
        return branch != self.branch and branch in {one["name"] for one in self.branches}

    def fork(self, name: str) -> None:
        """Go on from here on a new branch; the present one is kept as it is."""
        self._start("fork", "making a branch", lambda progress, cancel: self._current.fork(name.strip()))

    def switch(self, name: str) -> None:
        """To another branch, where it was left."""
        self._start("switch", f"switching to {name}", lambda progress, cancel: self._current.switch(name))

    def drop(self, name: str) -> None:
        """Forget a branch that is not the present one."""
        self._start("drop", f"dropping {name}", lambda progress, cancel: self._current.drop(name))


def branch_values(session: Session) -> dict[str, Any]:
    """Every branch as the page shows it: its name, and its steps' scores and costs."""
    return {
        "branch": session.branch,
        "branches": [
            {"name": name, "steps": [step_values(step) for step in steps]}
            for name, steps in session.branches.items()
        ],
    }


def step_values(step: Any) -> dict[str, Any]:
    """A step of the history as the page shows it; `plan` is what it was committed with, or empty."""
    names = ("label", "score", "parameters", "macs", "plan")
    return {name: getattr(step, name) for name in names} | {"pruned": step.choice is not None}
