"""Which examples change their answer from one network to another: churn, flips, and confusions that grew.

Of each answer that counts: right before and wrong after is a **negative flip**, wrong before and right after
a **positive flip**, and one wrong answer in place of another neither; all together are the **churn**.

How large the flip of one answer is: ½(m_before + m_after), of the margins m = p(answer) − p(next), in [0, 1].
p(a) − p(b) goes from m_before or more to −m_after or less, so this is a lower bound of the total variation
½Σ|p_before − p_after| of the two networks' probabilities, and is that where there are two classes. The change
of an example is the mean over its answers that count.

Values have no flips: there an example changes by how much its error grows, relative to the spread of the
targets (R² is 1 less the mean square of such errors), and without targets by how far its outputs move.

Source: churn, Milani Fard et al., "Launch and Iterate: Reducing Prediction Churn", NIPS 2016; negative flips,
Yan et al., "Positive-Congruent Training", CVPR 2021; that pruning harms few classes and examples most, Hooker
et al., "What Do Compressed Deep Neural Networks Forget?", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

CLASSES, LABELS, YES_NO, VALUES = "classes", "labels", "yes-no", "values"


class Confusion(NamedTuple):
    """So many answers more (or fewer) that are `predicted` where `true` is the target.

    Of labels `true` is which label; without targets it is the answer before.
    """

    true: int
    predicted: int
    growth: int


class Flip(NamedTuple):
    """One example, with that of its answers that changed most.

    Attributes:
        example: its number in the data's order.
        change: how much it changed, see the module; of values signed, an error that grew is positive.
        position: which of its answers changed most, of `answers` that count.
        target: of that answer, None without.
        before, after: that answer by the two networks.
        sure_before, sure_after: its probability, by the network that gave it; None of values.
        lost, won, other: how many of the example's answers became wrong, right, or otherwise changed.
    """

    example: int
    change: float
    position: int
    answers: int
    target: float | None
    before: float
    after: float
    sure_before: float | None
    sure_after: float | None
    lost: int
    won: int
    other: int


@dataclass(frozen=True)
class ByClass:
    """Counts by class, each (classes,) int64; by label where each example has several.

    Attributes:
        total: answers that count whose target it is; without targets, `before`.
        before, after: how many of them are right; without targets, how many answers are this class.
        lost, won: right → wrong and wrong → right; without targets, answers that left it and came to it.
    """

    total: np.ndarray
    before: np.ndarray
    after: np.ndarray
    lost: np.ndarray
    won: np.ndarray


@dataclass(frozen=True, eq=False)
class Changes:
    """What changed of the answers, from one network to another.

    Attributes:
        kind: of the answers: "classes", "labels" (yes or no, several an example), "yes-no" or "values".
        labelled: whether there are targets, so that an answer is right or wrong.
        examples: how many were compared.
        answers: how many answers of them count.
        lost: right → wrong, negative flips; of values: examples whose error grew.
        won: wrong → right, positive flips; of values: examples whose error fell.
        other: all other changes; without targets all changes.
        by_class: None of values.
        confusions: those that grew or shrank, the most grown first; none of values.
        change: of each example, (examples,) float64; see `Flip.change`.
        order: numbers of the examples that changed, the largest change first.
        scores: of the two networks, None where there is none.
        metric: what the score is called.
        data: what was compared on, "evaluation" or "calibration".
    """

    kind: str
    labelled: bool
    examples: int
    answers: int
    lost: int
    won: int
    other: int
    by_class: ByClass | None
    confusions: tuple[Confusion, ...]
    change: np.ndarray = field(repr=False)
    order: np.ndarray = field(repr=False)
    details: dict[str, np.ndarray] = field(repr=False)  # what `flip` tells, (examples,) each
    scores: tuple[float | None, float | None] = (None, None)
    metric: str = ""
    data: str = "evaluation"

    @property
    def changed(self) -> int:
        """How many answers changed, of values: examples."""
        return self.lost + self.won + self.other

    @property
    def churn(self) -> float:
        """The share of answers that changed."""
        return self.changed / max(self.examples if self.kind == VALUES else self.answers, 1)

    def flip(self, example: int) -> Flip:
        """What changed of one example."""
        one = {name: values[example].item() for name, values in self.details.items()}
        given = {name: one.get(name) for name in ("target", "sure_before", "sure_after")}
        given = {name: None if value is None or value != value else value for name, value in given.items()}
        if self.kind != VALUES and given["target"] is not None and given["target"] < 0:
            given["target"] = None  # it does not count
        return Flip(int(example), float(self.change[example]), **{**one, **given})

    def __str__(self) -> str:
        """In one line: "12 answers changed: 9 right → wrong, 3 wrong → right"."""
        if self.kind == VALUES and not self.labelled:
            return f"the outputs of {self.changed:,} of {_several(self.examples, 'example')} moved"
        if not self.changed:
            return "no error changed" if self.kind == VALUES else "no answer changed"
        if self.kind == VALUES:
            return f"{self.changed:,} errors changed: {self.lost:,} grew, {self.won:,} fell"
        told = _several(self.changed, "answer") + " changed"
        if not self.labelled:
            return told
        parts = [f"{self.lost:,} right → wrong", f"{self.won:,} wrong → right"]
        if self.other:
            parts.append(f"{self.other:,} wrong → wrong")
        return f"{told}: {', '.join(parts)}"


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
