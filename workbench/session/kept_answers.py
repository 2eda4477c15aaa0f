"""Answers that scoring has brought along, by step of the history, so that no network runs again for them."""

from __future__ import annotations

import weakref

from workbench.measure.answers import Answers
from workbench.session.history import Step

ROOM = 256 << 20  # bytes of all answers together; the oldest go first


class KeptAnswers:
    """Answers by step, by the very object: they go with it, and where they take more than `ROOM`."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[weakref.ref[Step], Answers]] = {}

    def keep(self, step: Step, answers: Answers | None) -> None:
        """From now on `answers` are those of the network at `step`, if there are any."""
        if answers is None or answers.failed or not answers.batches:
            return
        key = id(step)
        self._kept[key] = weakref.ref(step, lambda _: self._kept.pop(key, None)), answers
        while len(self._kept) > 1 and sum(one.nbytes for _, one in list(self._kept.values())) > ROOM:
            self._kept.pop(next(iter(list(self._kept))), None)

    def of(self, step: Step) -> Answers | None:
        found = self._kept.get(id(step))
        return found[1] if found is not None and found[0]() is step else None

    def clear(self) -> None:
        self._kept.clear()
