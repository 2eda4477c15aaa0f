"""Two networks' answers set side by side, batch by batch: what adds up to `changes.Changes`."""

from __future__ import annotations

from collections import Counter

import numpy as np

from workbench.measure.answers import BatchAnswers
from workbench.measure.changes import CLASSES, LABELS, VALUES, ByClass, Changes, Confusion

NOTICED = 0.01  # of the targets' spread, from which on an error has changed


class OtherOrderError(ValueError):
    """The data gave other examples, or these in another order, at its second pass."""


OTHER_ORDER = (
    "the data gave other examples at its second pass, so answers cannot be set beside each other: give it in "
    "one order (a DataLoader that neither shuffles nor augments at random)"
)


class Comparing:
    """Adds up, batch by batch, what changed between two networks' answers."""

    def __init__(self, kind: str | None = None) -> None:
        """`kind`: "labels" for yes or no to several labels an example, "yes-no" to one; None: as it seems."""
        self._kind = kind
        self._rows: dict[str, list[np.ndarray]] = {}
        self._classes = np.zeros((5, 0), dtype=np.int64)
        self._confused: Counter[tuple[int, int]] = Counter()
        self._targets = _Spread()
        self.examples = self.answers = 0
        self.labelled = True

    def add(self, before: BatchAnswers, after: BatchAnswers) -> None:
        """Two networks' answers to the same batch. Raises ValueError where they are of other examples."""
        same = before.answer.shape == after.answer.shape and (before.target is None) == (after.target is None)
        if not same or not np.array_equal(_or_none(before.target), _or_none(after.target), equal_nan=True):
            raise OtherOrderError(OTHER_ORDER)
        self.labelled = self.labelled and after.target is not None
        self.examples += len(after.answer)
        self.answers += int(after.counted.sum())
        if after.classes:
            self._kind = self._kind or CLASSES
            self._add_classes(before, after)
        else:
            self._kind = VALUES
            self._add_values(before, after)

    def found(
        self,
        scores: tuple[float | None, float | None] = (None, None),
        metric: str = "",
        data: str = "evaluation",
    ) -> Changes:
        """All together."""
        rows = {name: np.concatenate(parts) for name, parts in self._rows.items()}
        change = rows.pop("change")
        if self._kind == VALUES:
            change = change / (self._targets.deviation or 1.0)
            size = np.abs(change)
            moved = size > NOTICED
            rows["lost"], rows["won"], rows["other"] = (
                (moved & one).astype(np.int32)
                for one in ((change > 0) & self.labelled, (change < 0) & self.labelled, not self.labelled)
            )
        else:
            size = change
            moved = (rows["lost"] + rows["won"] + rows["other"]) > 0
        numbers = np.flatnonzero(moved)
        order = numbers[np.argsort(-size[numbers], kind="stable")]
        by_class = None if self._kind == VALUES else ByClass(*self._classes)
        grown = sorted(
            (Confusion(*pair, growth) for pair, growth in self._confused.items() if growth),
            key=lambda one: (-one.growth, one.true, one.predicted),
        )
        lost, won, other = (int(rows[name].sum()) for name in ("lost", "won", "other"))
        return Changes(
            self._kind or CLASSES, self.labelled, self.examples, self.answers, lost, won, other, by_class,
            tuple(grown), change, order, rows, scores, metric, data,
        )  # fmt: skip

    def _add_classes(self, before: BatchAnswers, after: BatchAnswers) -> None:
        assert before.margin is not None
        assert after.margin is not None
        counted, target = after.counted, after.target
        flipped = counted & (before.answer != after.answer)
        lost = won = np.zeros_like(flipped)
        if target is not None:
            right = before.answer == target, after.answer == target
            lost, won = flipped & right[0], flipped & right[1]
        size = np.where(flipped, (before.margin + after.margin) / 2, 0.0).astype(np.float64)
        self._keep_rows(
            before, after, np.where(flipped, size, -1.0).argmax(1),
            size.sum(1) / np.maximum(counted.sum(1), 1), lost, won, flipped & ~lost & ~won,
        )  # fmt: skip
        self._count_classes(before, after, flipped, lost, won)

    def _count_classes(
        self,
        before: BatchAnswers,
        after: BatchAnswers,
        flipped: np.ndarray,
        lost: np.ndarray,
        won: np.ndarray,
    ) -> None:
        counted, target = after.counted, after.target
        if target is None:
            whose = [before.answer] * 2 + [after.answer] + [before.answer, after.answer]
            which = [counted, counted, counted, flipped, flipped]
            self._confuse(before.answer[flipped], after.answer[flipped], 1)
        else:
            by_label = self._kind == LABELS
            own = np.broadcast_to(np.arange(target.shape[1]), target.shape) if by_label else target
            whose = [own] * 5
            right = [one.answer == target for one in (before, after)]
            which = [counted, counted & right[0], counted & right[1], lost, won]
            for one, is_right, sign in ((before, right[0], -1), (after, right[1], 1)):
                wrong = flipped & ~is_right
                self._confuse(own[wrong], one.answer[wrong], sign)
        size = max(
            self._classes.shape[1],
            after.answer.shape[1] if self._kind == LABELS else after.classes,
        )
        counts = [np.bincount(own[mask], minlength=size) for own, mask in zip(whose, which, strict=True)]
        grown = np.zeros((5, size), dtype=np.int64)
        grown[:, : self._classes.shape[1]] = self._classes
        self._classes = grown + np.stack(counts)

    def _confuse(self, true: np.ndarray, predicted: np.ndarray, sign: int) -> None:
        pairs, counts = np.unique(np.stack([true, predicted], 1), axis=0, return_counts=True)
        for (first, second), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            self._confused[first, second] += sign * count

    def _add_values(self, before: BatchAnswers, after: BatchAnswers) -> None:
        moved = after.answer.astype(np.float64) - before.answer
        if after.target is None:
            self._targets.add(before.answer)
            change = np.sqrt(np.square(moved).sum(1))
        else:
            self._targets.add(after.target)
            error = [
                np.sqrt(np.square(one.answer.astype(np.float64) - after.target).sum(1))
                for one in (before, after)
            ]
            change = error[1] - error[0]
        nothing = np.zeros(moved.shape, bool)
        self._keep_rows(before, after, np.abs(moved).argmax(1), change, nothing, nothing, nothing)

    def _keep_rows(
        self, before: BatchAnswers, after: BatchAnswers, position: np.ndarray, change: np.ndarray,
        lost: np.ndarray, won: np.ndarray, other: np.ndarray,
    ) -> None:  # fmt: skip
        """Of each example: its change, and that of its answers at `position`, (n,)."""
        found = {
            "change": change,
            "position": position.astype(np.int32),
            "answers": after.counted.sum(1).astype(np.int32),
            "before": _at(before.answer, position),
            "after": _at(after.answer, position),
        }
        found |= {
            name: part.sum(1).astype(np.int32)
            for name, part in (("lost", lost), ("won", won), ("other", other))
        }
        for name, part in (
            ("target", after.target),
            ("sure_before", before.sure),
            ("sure_after", after.sure),
        ):
            if part is not None:
                found[name] = _at(part, position)
        for name, values in found.items():
            self._rows.setdefault(name, []).append(values)


class _Spread:
    """√(Σ‖t − t̄‖²/n) of values that come batch by batch."""

    def __init__(self) -> None:
        self._count, self._mean, self._square = 0, np.zeros(0), 0.0

    def add(self, values: np.ndarray) -> None:
        rows = values.astype(np.float64)
        mean, total = rows.mean(0), self._count + len(rows)
        before = self._mean if self._count and len(self._mean) == len(mean) else mean
        self._square += float(np.square(rows - mean).sum())
        self._square += float(np.square(mean - before).sum()) * self._count * len(rows) / total
        self._mean, self._count = before + (mean - before) * len(rows) / total, total

    @property
    def deviation(self) -> float:
        return float(np.sqrt(self._square / max(self._count, 1)))


def _at(rows: np.ndarray, position: np.ndarray) -> np.ndarray:
    """One entry of each row."""
    return np.take_along_axis(rows, position[:, None].astype(np.int64), 1)[:, 0]


def _or_none(target: np.ndarray | None) -> np.ndarray:
    return np.zeros(0) if target is None else target
