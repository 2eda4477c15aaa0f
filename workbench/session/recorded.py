"""What of a session is kept: its record, branch by branch, and taking up again what was written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from workbench.measure.moments import GroupStatistics
from workbench.pruning.choice import Choice
from workbench.session.history import History, Step, _done
from workbench.session.recipe import RecipeStep, RefitStep, fingerprint, make_recipe, record_of
from workbench.session.restoring import SavedBranch, _loaded, _same_weights
from workbench.tuning.finetuning import Loss
from workbench.tuning.settings import Tuning

if TYPE_CHECKING:
    from workbench.session.session import Session


class Recorded:
    """The part of `Session` that writes down what was done, and does it again from there."""

    name: str
    example_name: str | None
    procedure: str
    evaluation: Any
    data_name: str
    metric: str
    example_input: Any
    _history: History
    _measured: bool
    _lock: AbstractContextManager
    choice_of: Callable[[RecipeStep], Choice]
    commit: Callable[..., Step]
    refit: Callable[[], Step]
    add_tuned: Callable[[nn.Module, Tuning, float | None], None]

    @property
    def recipe(self) -> dict[str, Any]:
        """The record of the commits up to the present step, as plain values (see recipe.py)."""
        return self.recipe_of(self._history.branch)

    def recipe_of(self, branch: str) -> dict[str, Any]:
        """The record of any branch, up to where it was left. Raises ValueError listing the branches."""
        return make_recipe(
            name=self.name,
            data_name=self.data_name,
            example=self.example_name,
            model_fingerprint=fingerprint(self._history.original.model),
            procedure=self.procedure,
            steps=[record_of(step) for _, step in _done(self._history.named(branch))],
        )

    def original_statistics(self) -> dict[str, GroupStatistics]:
        """What was measured of every group on the original network; empty before `measure`."""
        return dict(self._history.original.statistics)

    def tuned_models(self, branch: str | None = None) -> dict[int, nn.Module]:
        """The networks after each fine-tuning up to the present step, by its place in the recipe."""
        line = self._history.named(self._history.branch if branch is None else branch)
        return {i: model for i, (model, step) in enumerate(_done(line)) if step.tuning is not None}

    def model_of(self, branch: str) -> nn.Module:
        """The network where any branch was left. Raises ValueError listing the branches."""
        line = self._history.named(branch)
        return line.states[line.position].model

    def save(self, folder) -> None:
        """Write the session into `folder`: recipe, moments, weights, every branch (store.py)."""
        from workbench.session.store import save_session

        with self._lock:
            save_session(self, folder)  # type: ignore[arg-type]

    def export(
        self, folder, formats=("safetensors",), example_input=None, progress=None, cancel=None, replace=False
    ) -> list[Path]:
        """Write the network as it stands into `folder`, for use without the session (export.py)."""
        from workbench.export.folder import export

        return export(self._point(example_input), folder, formats, progress, cancel, replace)

    def _point(self, example_input):
        from workbench.export.folder import Point

        while True:
            branch, line = self._history.branch, self._history.line
            recipe = self.recipe
            if self._history.branch == branch and self._history.line is line:
                break  # else someone went back meanwhile, in another thread
        now = line.position
        return Point(
            self.name,
            self.data_name,
            self.metric,
            line.states[now].model,
            line.states[0].model,
            recipe,
            line.steps[0],
            line.steps[now],
            self.example_input if example_input is None else example_input,
        )

    @classmethod
    def open(
        cls,
        folder,
        model: nn.Module | None = None,
        calibration: Any = None,
        evaluation: Any = None,
        *,
        training: Any = None,
        loss: Loss | None = None,
    ) -> Session:
        """The session saved in `folder`, on the original `model` (see store.py for what is needed)."""
        from workbench.session.store import open_session

        return open_session(folder, model, calibration, evaluation, training=training, loss=loss)

    def restore(
        self,
        statistics: dict[str, GroupStatistics],
        score: float | None,
        branches: Sequence[SavedBranch] = (),
    ) -> None:
        """Take up a saved session: its moments, the original's score, its branches, the present one first.

        Raises ValueError where steps or weights do not fit; then the session is not to be used.
        """
        original = replace(self._history.original, statistics=statistics, stale={}, problems={})
        self._history.amend(original, replace(self._history.steps[0], score=score))
        self._measured = bool(statistics) or not any(group.prunable for group in original.groups)
        evaluation, self.evaluation = self.evaluation, None
        try:
            for index, saved in enumerate(branches):
                if index == 0:
                    self._history.rename(saved.name)
                    self._carry_out(saved, 0)
                    continue
                nearest = max(branches[:index], key=saved.shared)
                shared = saved.shared(nearest)
                self._history.switch(nearest.name)
                end = self._history.position
                self._history.goto(shared)
                self._history.fork(saved.name)
                self._carry_out(saved, shared)
                self._history.switch(nearest.name)
                self._history.goto(end)
        finally:
            self.evaluation = evaluation
        if branches:
            self._history.switch(branches[0].name)

    def _carry_out(self, saved: SavedBranch, begin: int) -> None:
        """The steps of `saved` from `begin` on, on the present branch, which has those before."""
        for index, step in list(enumerate(saved.steps))[begin:]:
            if isinstance(step, RecipeStep):
                self.commit(self.choice_of(step), plan=step.plan)
            elif isinstance(step, RefitStep):
                self.refit()
            else:
                self.add_tuned(_loaded(self._history.present.model, saved.tuned[index]), step.tuning, None)
        self._history.rescore(saved.scores)
        # A copy: another branch may go through the same state, and ended elsewhere.
        state = self._history.present
        model = _loaded(state.model, saved.weights)
        if not _same_weights(model, state.model):
            if not saved.steps:
                raise ValueError("the saved weights of an unchanged branch are not the original network's")
            self._history.replace_present(replace(state, model=model, problems={}))
