"""Criteria and reconstructions side by side at the same widths, and how much each group bears alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import Any

import numpy as np
from torch import nn

from workbench.data.durable import expanded, write_together
from workbench.data.progress import Progress
from workbench.fitting.norms import reestimate_norms
from workbench.pruning.damage import Measured, Way, choice_at, width_at
from workbench.pruning.planning import falling, walk
from workbench.pruning.problem import BUDGET_LAM
from workbench.pruning.state import State
from workbench.pruning.transitions import Ground, Options

Score = Callable[[nn.Module], float | None]


@dataclass(frozen=True)
class Row:
    """One way to prune: its score, and what the network costs then. `budget` numbers the widths compared."""

    budget: int
    selection: str
    reconstruction: str
    reestimate: bool
    theta: float
    score: float | None
    parameters: int
    macs: int
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """Rows in the order in which they were asked for. `metric` names the score, `unpruned` is its start."""

    metric: str
    unpruned: float | None
    rows: tuple[Row, ...]

    def to_csv(self, path: str | Path) -> None:
        """Write the rows as CSV, a column a field. Raises OSError; then what was there is as it was."""
        write_together({expanded(path): self.csv().encode()})

    def csv(self) -> str:
        """The rows as the text of a CSV file, a column a field."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, [one.name for one in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.rows)
        return text.getvalue()

    def to_markdown(self) -> str:
        """The rows as a table, the best score first."""
        head = f"| selection | reconstruction | norms re-estimated | {self.metric} | MACs | parameters |"
        lines = [head, "|---|---|---|---:|---:|---:|"]
        for row in sorted(self.rows, key=lambda row: (row.budget, -(row.score or 0.0))):
            score = "–" if row.score is None else f"{row.score:.4f}"
            again = "yes" if row.reestimate else "no"
            lines.append(
                f"| {row.selection} | {row.reconstruction} | {again} | {score} | {row.macs:,} | "
                f"{row.parameters:,} |"
            )
        return "\n".join(lines)


def compared(
    ground: Ground,
    state: State,
    budgets: Sequence[Mapping[str, int]],
    ways: Sequence[Options],
    score: Score,
    lam: float | None = BUDGET_LAM,
    progress: Progress | None = None,
    cancel: Event | None = None,
    seen: Callable[[Row], Any] | None = None,
) -> list[Row]:
    """Every way at every budget, each from `state`, which is not changed; `seen` is told of each row.

    Raises ValueError for a group or width that does not exist and where no group gets narrower, Cancelled.
    """
    for number, widths in enumerate(budgets, start=1):
        if not falling(state.groups, widths):
            raise ValueError(
                f"no group gets narrower in budget {number} of {len(budgets)}, so there is nothing to "
                "compare: give smaller widths, or undo what is committed first"
            )
    rows: list[Row] = []
    total = len(budgets) * len(ways)
    for index, widths in enumerate(budgets):
        for way in ways:
            done = len(rows)

            def report(
                _done: int, _total: int | None, what: str, done: int = done, way: Options = way
            ) -> None:
                if progress is not None:
                    progress(done, total, f"{way.selection}, {way.reconstruction}: {what}")

            start = perf_counter()
            # Norms are re-estimated once, at the end, which is what one does by hand.
            walked = walk(ground, state, widths, replace(way, reestimate=False), lam, report, cancel)
            last = [state, *(after for _, after in walked)][-1]
            model = last.model
            if way.reestimate:
                model = reestimate_norms(model, ground.calibration, None, cancel)
            seconds = perf_counter() - start
            rows.append(
                Row(
                    index,
                    way.selection,
                    way.reconstruction,
                    way.reestimate,
                    way.theta,
                    score(model),
                    last.cost.parameters,
                    last.cost.macs,
                    seconds,
                )
            )
            if seen is not None:
                seen(rows[-1])
    return rows


@dataclass(frozen=True)
class Sensitivity:
    """Each group alone at several widths, in arrays (groups, shares); NaN where not measured.

    `shares` of each group's width are kept, which are `widths` units; `losses` are output losses relative to
    keeping none, `changes` relative squared changes of the outputs against the original's, `divergences` mean
    divergences in nats where the outputs are classes.
    """

    metric: str
    unpruned: float | None
    groups: tuple[str, ...]
    shares: tuple[float, ...]
    widths: np.ndarray
    scores: np.ndarray
    losses: np.ndarray
    changes: np.ndarray
    divergences: np.ndarray


def sensitivity_of(
    state: State, way: Way, shares: Sequence[float], metric: str, unpruned: float | None
) -> Sensitivity:
    """What was measured of every prunable group alone in this way (damage.py), at shares of its width."""
    found = state.damages.get(way, Measured())
    names = tuple(group.name for group in state.groups if group.prunable)
    values = np.full((4, len(names), len(shares)), np.nan)
    widths = np.zeros((len(names), len(shares)), dtype=np.int64)
    for row, name in enumerate(names):
        whole = state.problem(name).group.width
        for column, share in enumerate(shares):
            width = widths[row, column] = width_at(whole, share)
            one = found.now if width == whole else found.trials.get(name, {}).get(width)
            if one is None:
                continue
            loss = choice_at(state, name, width, way).output_loss if width == whole else one.loss
            values[:, row, column] = one.score, loss, one.change[0], one.divergence[0]
    return Sensitivity(metric, unpruned, names, tuple(shares), widths, *values)
