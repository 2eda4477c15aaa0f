"""The score, which follows the spectra: on a first part of the data, shown as such, then on all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import traitlets as t

from workbench.session.session import Session
from workbench.widgets.jobs import Delivery, Reporter, keeping
from workbench.widgets.page_values import scored_values
from workbench.widgets.traits import synced

SCORED_PART = 2000  # examples, after so many of which the score so far is shown, and again after as many more


class Scoring(t.HasTraits):
    """The part of the shared state that takes a score that was left open.

    `scoring` is the score on a first part of the data while that of all is open: "score", "examples", and the
    "revision" that it is of. It stays where the scoring was stopped.
    """

    COMMANDS: ClassVar[dict[str, tuple[str, ...]]] = {"score": ()}

    scoring = synced(t.Dict)

    session: Session | None
    revision: Any
    _current: Any
    _deliver: Delivery
    _set: Callable[[dict], None]
    _start: Callable[..., None]
    _queue: Callable[..., None]

    def score(self) -> None:
        """Score the network as it stands, where that was left open."""
        self._start("score", "scoring", self._scoring_of(self._current))

    def _score_next(self, session: Session) -> None:
        """The score of `session`, which is shown without one, as the next work."""
        if session.evaluation is not None:
            self._queue("score", "scoring", self._scoring_of(session), follows=True)

    def _scoring_of(self, session: Session) -> Callable[[Reporter, Any], None]:
        def work(progress: Reporter, cancel: Any) -> None:
            shown = 0

            def so_far(examples: int, score: float) -> None:
                nonlocal shown
                if examples // SCORED_PART > shown:
                    shown = examples // SCORED_PART
                    self._deliver(lambda: self._show_part(session, examples, score))

            with keeping(lambda: "what is measured stays, and the score is left open"):
                session.score(progress, cancel, so_far)
            # Where the session was not yet shown when the score came, nobody has heard of it.
            scored = scored_values(session) | {"scoring": {}}
            self._deliver(lambda: self._set(scored) if session is self.session else None)

        return work

    def _show_part(self, session: Session, examples: int, score: float) -> None:
        if session is self.session:
            part = {"score": score, "examples": examples, "revision": self.revision}
            self._set({"scoring": part})
