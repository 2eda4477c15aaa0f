"""Other ways to choose units, for comparison with the greedy path (method, §4).

Scores are (m,) float64, higher means keep; orders are (m,) int64, the first unit is the most wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from workbench.spectral.greedy import GreedySelector
from workbench.spectral.moment import Moment
from workbench.spectral.reconstruction import readout_matrix
from workbench.spectral.swapping import swap_refine

GREEDY, SWAPPED = "greedy", "greedy-swap"


def magnitude(writers: Sequence[Tensor], norm: int = 1) -> Tensor:
    """L1 or L2 norm of each unit's own weights: its row in every writer.

    Args:
        writers: weights (m, ...), one a writer; the rows of all of them count as one vector.
        norm: 1 or 2.

    Returns:
        (m,) float64, higher means keep.

    Raises:
        ValueError: no writer, writers of different width, or another norm.

    Source:
        Li et al., Pruning Filters for Efficient ConvNets, 2017.
    """
    if norm not in (1, 2):
        raise ValueError(f"Magnitude is measured by norm 1 or 2, but {norm} was given.")
    rows = [writer.detach().to("cpu", torch.float64).reshape(writer.shape[0], -1) for writer in writers]
    if not rows or len({len(row) for row in rows}) > 1:
        raise ValueError(
            f"Magnitude needs at least one writer, all with the same units, got {[len(row) for row in rows]}."
        )
    return torch.linalg.vector_norm(torch.cat(rows, dim=1), ord=norm, dim=1)


def reader_magnitude(readers: Sequence[Tensor], width: int) -> Tensor:
    """L2 norm of each unit's column in every reader, kernel positions included.

    Args:
        readers: weights (outputs, m, *kernel), or (outputs, m·positions) after a Flatten.
        width: m.

    Returns:
        (m,) float64, higher means keep.

    Raises:
        ValueError: no reader, or one that does not read `width` units.
    """
    if not readers:
        raise ValueError("The reader's magnitude needs at least one reader, but none was given.")
    columns = torch.cat([readout_matrix(reader, width).cpu() for reader in readers])
    return torch.linalg.vector_norm(columns, dim=0)


def order_from_scores(scores: Tensor) -> Tensor:
    """Units from the highest score to the lowest, ties to the lower index.

    Args:
        scores: (m,), without NaN.

    Returns:
        (m,) int64.

    Raises:
        ValueError: the scores are not a (m,) tensor without NaN.
    """
    if scores.ndim != 1 or bool(scores.isnan().any()):
        raise ValueError(f"Scores must be one number a unit, without NaN; got shape {tuple(scores.shape)}.")
    return torch.argsort(scores.detach().cpu(), descending=True, stable=True)


def random_order(width: int, seed: int = 0) -> Tensor:
    """All units in a random order.

    Args:
        width: m.
        seed: fixes the order.

    Returns:
        (m,) int64.

    Raises:
        ValueError: `width` is below 1.
    """
    if width < 1:
        raise ValueError(f"A random order needs at least 1 unit, but the width given is {width}.")
    return torch.randperm(width, generator=torch.Generator().manual_seed(seed))


def leverage_order(leverage: Tensor, seed: int = 0) -> Tensor:
    """All units drawn one after another from the leverage scores, without replacement.

    The theorem draws with replacement; without, the first k of the order are k distinct units. Units with
    leverage 0 come last, by index.

    Args:
        leverage: τ', (m,), >= 0, not all 0; they need not sum to 1.
        seed: fixes the draw.

    Returns:
        (m,) int64.

    Raises:
        ValueError: another shape, or a score that is negative or not finite.

    Source:
        method.md §4 and §6; Bach, JMLR 2017.
    """
    scores = leverage.detach().to("cpu", torch.float64)
    if scores.ndim != 1 or not bool(((scores >= 0) & scores.isfinite()).all()):
        raise ValueError(
            f"Leverage scores must be one finite number >= 0 a unit, got shape {tuple(scores.shape)}."
        )
    # Sorting exponential waiting times with these rates draws without replacement in one go.
    generator = torch.Generator().manual_seed(seed)
    waiting = -torch.log1p(-torch.rand(len(scores), generator=generator, dtype=torch.float64)) / scores
    return torch.argsort(torch.where(scores > 0, waiting, torch.inf), stable=True)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What selections may look at; give what the selection `needs`.

    Attributes:
        width: m.
        moments, readouts, ridges, theta: as for `greedy_path`, one entry a reader.
        leverage: leverage scores, (m,).
        writers: weights (m, ...), one a writer.
        readers: weights (outputs, m, *kernel), one a reader.
        activity: share of samples where each unit is not zero, (m,).
        mean_activation: mean |φ_j|, (m,).
        taylor: |mean of gradient × activation|, (m,), the first-order change of the task loss.
        kept: how many units will be kept, for "greedy-swap", whose set belongs to one width; None: all.
        seed: for the random selections.
    """

    width: int
    moments: Sequence[Moment | Tensor] | None = None
    readouts: Sequence[Tensor] | None = None
    ridges: Sequence[Tensor] | None = None
    theta: float = 0.5
    leverage: Tensor | None = None
    writers: Sequence[Tensor] | None = None
    readers: Sequence[Tensor] | None = None
    activity: Tensor | None = None
    mean_activation: Tensor | None = None
    taylor: Tensor | None = None
    kept: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Selection:
    """A way to order units: its name, how to call it in words, and the evidence it needs."""

    name: str
    title: str
    needs: tuple[str, ...]
    rule: Callable[..., Tensor]

    def order(self, evidence: Evidence) -> Tensor:
        """All units, the most wanted first.

        Args:
            evidence: what the selection looks at; at least what it `needs`.

        Returns:
            (m,) int64.

        Raises:
            ValueError: evidence this selection needs is missing or does not fit.
        """
        missing = [need for need in self.needs if getattr(evidence, need) is None]
        if missing:
            raise ValueError(f"The selection {self.name!r} needs {', '.join(missing)}, which is missing.")
        order = self.rule(evidence)
        if len(order) != evidence.width:
            raise ValueError(
                f"The evidence for {self.name!r} has {len(order)} units, but the group has {evidence.width}."
            )
        return order


def _greedy(evidence: Evidence, swapped: bool = False) -> Tensor:
    if evidence.moments is None or evidence.ridges is None:
        raise ValueError("The greedy selection needs moments and ridges.")
    selector = GreedySelector(evidence.moments, evidence.readouts)
    path = selector.path(evidence.ridges, evidence.theta)
    if not swapped:
        return path.order
    kept = path.kept(selector.width if evidence.kept is None else evidence.kept)
    refined = swap_refine(selector, None, evidence.ridges, kept, evidence.theta)
    return selector.path(evidence.ridges, evidence.theta, first=refined.kept).order


def _by_score(score: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda evidence: order_from_scores(score(evidence))


_ALL = (
    Selection(GREEDY, "Greedy, least information loss", ("moments", "ridges"), _greedy),
    Selection(
        SWAPPED,
        "Greedy, then swaps while the loss falls [beyond the paper]",
        ("moments", "ridges"),
        lambda e: _greedy(e, swapped=True),
    ),
    Selection(
        "leverage",
        "Leverage-score sampling (the theorem's)",
        ("leverage",),
        lambda e: leverage_order(e.leverage, e.seed),
    ),
    Selection("random", "Random", (), lambda e: random_order(e.width, e.seed)),
    Selection(
        "magnitude-l1",
        "Magnitude of the writers' rows, L1",
        ("writers",),
        _by_score(lambda e: magnitude(e.writers, 1)),
    ),
    Selection(
        "magnitude-l2",
        "Magnitude of the writers' rows, L2",
        ("writers",),
        _by_score(lambda e: magnitude(e.writers, 2)),
    ),
    Selection(
        "reader-l2",
        "Magnitude of the readers' columns, L2",
        ("readers",),
        _by_score(lambda e: reader_magnitude(e.readers, e.width)),
    ),
    Selection("apoz", "Fewest zeros (APoZ)", ("activity",), _by_score(lambda e: e.activity)),
    Selection("mean-activation", "Mean |φ|", ("mean_activation",), _by_score(lambda e: e.mean_activation)),
    Selection("taylor", "Taylor, |gradient × activation|", ("taylor",), _by_score(lambda e: e.taylor)),
)

SELECTIONS: MappingProxyType[str, Selection] = MappingProxyType({s.name: s for s in _ALL})
"""Every selection by name, read-only."""
