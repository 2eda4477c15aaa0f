"""Page and kernel move the same values, and their messages cross: what a person moved last counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import traitlets as t

from workbench.widgets.constants import AHEAD
from workbench.widgets.jobs import Delivery
from workbench.widgets.traits import synced

CHOSEN = ("selected", "follow", "lam", "width")  # what only means something for the group it was set for
UNSAID = -1  # `seen` where nobody counts, as a script that sets the state


class Hearing(t.HasTraits):
    """The part of the shared state that hears the page out, in front of the widget that it is mixed into.

    `said` counts the kernel's own moves of what the page moves ahead of it; the page sends back as `seen`
    how many it had heard when it spoke. Where the two differ the messages have crossed: the kernel takes
    what the page says, fits it to the network as it is now, and says the outcome, since either side has the
    other's value by then. What was set for a group that the kernel has left meanwhile is dropped.
    """

    said = synced(t.Int, 0)
    seen = synced(t.Int, UNSAID).tag(echo_update=False)

    selected: Any
    send_state: Callable[[Any], None]
    _deliver: Delivery
    _link: Callable[[str], None]

    def _begin_hearing(self) -> None:
        self._heard: dict[str, Any] = {}
        self._left = 0  # `said` when the kernel last went to another group or network by itself
        self.observe(self._count_said, [*AHEAD, "selected"])

    def __setattr__(self, name: str, value: Any) -> None:
        """A script's hand takes its turn too: what it sets while a result is half applied would go unseen."""
        deliver = vars(self).get("_deliver")
        if deliver is None or name.startswith("_"):
            super().__setattr__(name, value)
        else:
            with deliver.turn:
                super().__setattr__(name, value)

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """What the page says, as a widget's front end sends it."""
        with self._deliver.turn:
            self._hear(sync_data)

    def _hear(self, sync_data: dict[str, Any]) -> None:
        said = self.said
        seen = sync_data.get("seen", self.seen)
        dropped = set(CHOSEN if UNSAID < seen < self._left else ()) & sync_data.keys()
        self._heard = {name: value for name, value in sync_data.items() if name not in dropped}
        try:
            super().set_state(self._heard)  # type: ignore[misc]
            if seen not in (said, UNSAID):
                self._agree(dropped)
        finally:
            self._heard = {}

    def has_heard(self, name: str) -> bool:
        """Whether the message of the page that is being taken sets this trait."""
        return name in self._heard

    def _agree(self, dropped: set[str]) -> None:
        """Say the outcome of messages that crossed."""
        heard, self._heard = self._heard, {}
        moved = next((name for name in ("width", "lam", "selected") if name in heard), None)
        names = (dropped | heard.keys()) & {*AHEAD, "selected", "follow"}
        if moved is not None:
            self._link(moved)
        if names:
            self.send_state([*names, *(("lam", "width") if moved else ())])
            self.said += 1  # after what it counts: to hear it is to have heard that

    def _leave_group(self) -> None:
        """What the page has set for the present group, and not yet said, is not for the next."""
        self.said += 1
        self._left = self.said

    def _count_said(self, change: dict) -> None:
        name = change["name"]
        if name in self._heard and self._heard[name] == change["new"]:
            return
        if name == "selected":
            self._leave_group()
        else:
            self.said += 1
