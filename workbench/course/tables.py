"""A table of a notebook: readable where it is printed, a table where the notebook is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.pruning.comparing import Comparison
from workbench.session.tables import aligned


@dataclass(frozen=True)
class Table:
    """Texts in rows under a head; the first column stands left, the others right."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(f"a row has {len(row)} entries under {len(self.head)} heads: {row}")

    def to_markdown(self) -> str:
        """The table in Markdown."""
        rule = ("---", *("---:" for _ in self.head[1:]))
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.head, rule, *self.rows))

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        return "\n".join(aligned([self.head, *self.rows]))


def scores_by_way(comparison: Comparison, along: str = "reconstruction") -> dict[str, list[float]]:
    """The scores of a comparison, way by way, in the order of the budgets.

    Args:
        comparison: of one or several budgets.
        along: the field of its rows that tells the ways apart: "selection" or "reconstruction"; of the other
            one it must have compared a single one.

    Returns:
        A list for each way, a score a budget; NaN without a score.

    Raises:
        ValueError: two rows of a budget have the same way.
    """
    found: dict[str, list[float]] = {}
    budgets = len({row.budget for row in comparison.rows})
    for row in comparison.rows:
        score = float("nan") if row.score is None else row.score
        found.setdefault(getattr(row, along), []).append(score)
    if any(len(scores) != budgets for scores in found.values()):
        raise ValueError(f"{along} does not tell the rows of a budget apart: compare one of the other")
    return found


def score_table(columns: Sequence[str], scores: Mapping[str, Sequence[float]], first: str) -> Table:
    """Scores by way as a table, three digits each.

    Args:
        columns: heads of the scores, such as the widths.
        scores: by way, one a column.
        first: head of the ways.

    Returns:
        The table, a row a way.

    Raises:
        ValueError: a way has another number of scores.
    """
    rows = tuple((way, *(f"{score:.3f}" for score in values)) for way, values in scores.items())
    return Table((first, *columns), rows)
