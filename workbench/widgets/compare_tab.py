"""The compare tab's half in the kernel: ways to prune at the same widths, and what each group bears alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import traitlets as t

from workbench.data.durable import write_together
from workbench.plots import figure_class, plot_comparison
from workbench.pruning.comparing import Comparison, Row, Sensitivity
from workbench.session.session import Session
from workbench.widgets.budget_tab import limits_of, need_gradients
from workbench.widgets.constants import BUDGET, RATIOS, SHARES, WAYS
from workbench.widgets.jobs import Delivery, Reporter, keeping
from workbench.widgets.traits import synced


class Comparisons(t.HasTraits):
    """The part of the shared state that sets ways to prune side by side; nothing of it is committed.

    `ways` is what the form has chosen: "selections", "reconstructions", "reestimate", "theta", and "at", at
    which widths: "budget", those of the budget tab, or one of its rules, which then finds widths for 1.5, 2,
    3 and 5 times fewer MACs. `comparison` is the last answer, `sweep` the last sensitivity sweep; both say in
    `revision` of which network, and fill row by row: a comparison has "total" rows in the end, a sweep as
    many whole ones as groups. What is there when one is stopped stays. NaN is sent as None.
    """

    COMMANDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "compare": ("ways", "widths"),
        "save_comparison": (),
        "sweep_groups": ("options",),
    }
    PLACES: ClassVar[dict[str, str]] = dict.fromkeys(COMMANDS, "compare")

    ways = synced(t.Dict, WAYS).tag(echo_update=False)
    comparison = synced(t.Dict)
    sweep = synced(t.Dict)

    revision: Any
    widths: Any
    goal: Any
    locks: Any
    _current: Any
    _deliver: Delivery
    _set: Callable[[dict], None]
    _note: Callable[[str], None]
    _start: Callable[..., None]

    def _begin_comparisons(self) -> None:
        self._comparison: tuple[Comparison, int] | None = None

    def compare(self, ways: Mapping[str, Any] | None = None, widths: Mapping[str, int] | None = None) -> None:
        """Score every selection with every reconstruction of `ways`; `widths`: by default the budget's."""
        wanted = WAYS | dict(self.ways if ways is None else ways)
        at = dict(self.widths if widths is None else widths)

        def work(progress: Reporter, cancel: Any) -> None:
            session = self._current
            if not wanted["selections"] or not wanted["reconstructions"]:
                raise ValueError("choose at least one selection and one reconstruction")
            budgets = self._budgets(session, str(wanted["at"]), at, progress, cancel)
            need_gradients(session, wanted["selections"], progress, cancel)
            ways = len(wanted["selections"]) * len(wanted["reconstructions"])
            values = {
                "metric": session.metric or "score",
                "unpruned": session.history[0].score,
                "macs": session.macs,
                "at": wanted["at"],
                "budgets": [
                    {"title": title, "macs": session.cost_model.total(widths)[1], "widths": dict(widths)}
                    for title, widths in budgets
                ],
                "total": ways * len(budgets),
            }
            rows: list[Row] = []

            def seen(row: Row) -> None:
                rows.append(row)
                found = Comparison(values["metric"], values["unpruned"], tuple(rows))
                self._comparison = found, session.history[0].macs
                shown = values | {"rows": [asdict(row) for row in rows]}
                self._deliver(lambda: self._set({"comparison": shown | {"revision": self.revision}}))

            with keeping(
                lambda: f"{len(rows)} of {values['total']} ways are compared, and kept" if rows else ""
            ):
                session.compare(
                    [widths for _, widths in budgets],
                    wanted["selections"],
                    wanted["reconstructions"],
                    reestimate=bool(wanted["reestimate"]),
                    theta=float(wanted["theta"]),
                    progress=progress,
                    cancel=cancel,
                    seen=seen,
                )

        self._start("compare", "comparing", work)

    def _budgets(
        self, session: Session, at: str, widths: dict[str, int], progress: Reporter, cancel: Any
    ) -> list[tuple[str, dict[str, int]]]:
        """What is compared: titles and widths. Raises ValueError where nothing would get smaller."""
        if at == BUDGET:
            if session.cost_model.total(widths)[1] == session.macs:
                raise ValueError("the budget keeps all units: set widths on the tab Budget first")
            return [("the budget", widths)]
        limits = limits_of(session, self.goal, self.locks, widths)
        start = session.history[0].macs
        options = limits | {"progress": progress, "cancel": cancel}
        plans = {ratio: session.plan(start / ratio, rule=at, **options) for ratio in RATIOS}
        met = [
            (f"{ratio:g}×", plan.widths)
            for ratio, plan in plans.items()
            if plan.met and plan.macs < session.macs
        ]
        if not met:
            raise ValueError(
                f"no network of {min(RATIOS):g} to {max(RATIOS):g} times fewer MACs than the original is "
                "smaller than the present one and within the budget's locks and least widths"
            )
        return met

    def save_comparison(self) -> None:
        """Write the last comparison as CSV, PNG and SVG into the notebook's folder; nothing is replaced."""

        def work(progress: Reporter, cancel: Any) -> None:
            if self._comparison is None:
                raise ValueError("there is no comparison to save: press Compare first")
            written = write_comparison(*self._comparison, Path.cwd())
            self._note(f"Saved {', '.join(file.name for file in written)} in {written[0].parent}")

        self._start("save_comparison", "saving the comparison", work)

    def sweep_groups(self, options: Mapping[str, Any], shares: Iterable[float] = SHARES) -> None:
        """Each group alone at several shares of its width; `options` as for a preview."""
        kept = {key: options[key] for key in ("theta", "selection", "reconstruction") if key in options}

        def work(progress: Reporter, cancel: Any) -> None:
            need_gradients(self._current, [kept.get("selection", "")], progress, cancel)
            last: Sensitivity | None = None

            def seen(found: Sensitivity) -> None:
                nonlocal last
                if not np.isfinite(found.losses).any():  # nothing yet, in the place of what is shown
                    return
                last, values = found, sweep_values(found)
                self._deliver(lambda: self._set({"sweep": values | {"revision": self.revision}}))

            with keeping(lambda: swept_words(last)):
                ways = {**kept, "progress": progress, "cancel": cancel}
                seen(self._current.sensitivity(tuple(shares), **ways, seen=seen))

        self._start("sweep_groups", "sweeping", work)

    def _no_comparison(self) -> dict:
        """Values for another session."""
        self._comparison = None
        return {"comparison": {}, "sweep": {}}


def whole_rows(found: Sensitivity) -> int:
    """How many groups are measured at all shares."""
    return int(np.isfinite(found.losses).all(1).sum())


def swept_words(found: Sensitivity | None) -> str:
    return "" if found is None else f"{whole_rows(found)} of {len(found.groups)} groups are swept, and kept"


def sweep_values(found: Sensitivity) -> dict[str, Any]:
    """A sweep as the page shows it; "done" counts the groups that are measured at all shares."""
    return {
        "metric": found.metric,
        "unpruned": found.unpruned,
        "groups": list(found.groups),
        "shares": list(found.shares),
        "widths": found.widths.tolist(),
        "scores": plain(found.scores),
        "losses": plain(found.losses),
        "changes": plain(found.changes),
        "divergences": plain(found.divergences),
        "done": whole_rows(found),
    }


def plain(values: np.ndarray) -> list:
    """Nested lists of numbers, None for NaN: which JSON has not."""
    return [[float(v) if np.isfinite(v) else None for v in row] for row in values]


def write_comparison(comparison: Comparison, unpruned_macs: int, folder: Path) -> list[Path]:
    """Write comparison.csv, .png and .svg, under a name with a number where these are there already.

    All three or none. Raises OSError.
    """
    kinds, number = (".csv", ".png", ".svg"), 1
    while any((folder / (_numbered(number) + kind)).exists() for kind in kinds):
        number += 1
    files = [folder / (_numbered(number) + kind) for kind in kinds]
    figure = figure_class()(figsize=(7, 4))
    rows = comparison.rows
    plot_comparison(
        [row.macs for row in rows],
        [np.nan if row.score is None else row.score for row in rows],
        [f"{row.selection}, {row.reconstruction}" for row in rows],
        comparison.metric,
        None if comparison.unpruned is None else (unpruned_macs, comparison.unpruned),
        figure.subplots(),
    )
    contents = {files[0]: comparison.csv().encode()}
    for file in files[1:]:
        drawn = io.BytesIO()
        figure.savefig(drawn, format=file.suffix[1:], dpi=150)
        contents[file] = drawn.getvalue()
    write_together(contents)
    return files


def _numbered(number: int) -> str:
    return "comparison" if number == 1 else f"comparison-{number}"
