"""What a session does with all groups at once: budgets, plans, comparisons, fine-tuning, branches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from threading import Event
from time import perf_counter
from typing import Any

from torch import nn

from workbench.data.progress import Cancelled, Progress
from workbench.measure.gradients import measure_taylor
from workbench.network.cost import count_cost
from workbench.network.cost_model import CostModel
from workbench.pruning.budget import BudgetPlan, GroupBudget, Limits
from workbench.pruning.choice import DEFAULT_THETA
from workbench.pruning.comparing import Comparison, Sensitivity, compared, swept
from workbench.pruning.planning import falling, group_budgets, plan_for, predicted_losses, walk
from workbench.pruning.problem import BUDGET_LAM
from workbench.pruning.state import State
from workbench.pruning.transitions import Ground, Options, refitted
from workbench.session.history import History, Step
from workbench.tuning.finetuning import Loss, Report, Tuned, finetune
from workbench.tuning.matching import Matching
from workbench.tuning.settings import Tuning

Widths = Mapping[str, int] | BudgetPlan


class Planned:
    """The part of `Session` that works on all groups at once."""

    calibration: Any
    training: Any
    loss: Loss | None
    example_input: Any
    metric: str
    _history: History
    _ground: Ground
    _lock: AbstractContextManager
    _tell: Callable[[str], None]
    _score: Callable[..., float | None]
    _require_measured: Callable[[], None]
    remeasure: Callable[..., None]

    # Budgets

    def budget_groups(
        self,
        remeasure: bool = True,
        *,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        lam: float | None = BUDGET_LAM,
    ) -> list[GroupBudget]:
        """What the budget rules know of every prunable group: losses by the choices that these options make.

        Stale moments are measured again first, unless `remeasure` is False. Raises NotMeasuredError.
        """
        self._require_measured()
        if remeasure:
            self.remeasure()
        return group_budgets(self._history.present, Options(theta, selection), lam)

    def predicted_losses(
        self,
        widths: Mapping[str, int],
        *,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        lam: float | None = BUDGET_LAM,
    ) -> dict[str, float]:
        """Output loss of each group alone at its width in `widths`, exactly as `preview` says it."""
        self._require_measured()
        return predicted_losses(self._history.present, widths, Options(theta, selection), lam)

    @property
    def cost_model(self) -> CostModel:
        """Parameters and MACs of the present network at any widths."""
        state = self._history.present
        return CostModel.of(state.model, state.groups, state.cost)

    def plan(
        self,
        target: float,
        unit: str = "macs",
        rule: str = "least",
        *,
        locks: Mapping[str, int] | None = None,
        minimum: int = 1,
        multiple: int = 1,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        reconstruction: str = "channel",
        lam: float | None = BUDGET_LAM,
        reference: float | None = None,
        progress: Progress | None = None,
        cancel: Event | None = None,
    ) -> BudgetPlan:
        """Widths of all prunable groups for a target (method.md §7); the network is not touched.

        `target`: a number of "parameters", "macs" or "seconds" of a forward pass over the example. `rule`:
        "equal", every group keeps the same share; "shared", ⌈N(λ)⌉ at one λ relative to the trace;
        "least", least loss per cost [beyond the paper]. `locks`: widths that stay; `minimum`: units that
        every group keeps; `multiple`: widths are multiples of it, or whole.

        `theta`, `selection`, `lam` and `reconstruction` are what the plan is to be committed with, as for
        `commit_plan`: the losses that the plan tells are of these choices; "original" gives a bias to readers
        that have none, and these parameters count.

        Seconds are measured: networks of the widths in question run in turn with the original, and the plan
        says the interval. `reference`: what the original took when the target was set, so that another load
        of the machine does not change what is asked for. Stale moments are measured again first.

        Raises ValueError for bad input, NotMeasuredError, Cancelled. A target that cannot be met is said in
        the plan.
        """
        options = Options(theta, selection, reconstruction)  # raises ValueError for one that there is not
        self.remeasure(progress, cancel)
        limits = Limits(dict(locks or {}), minimum, multiple)
        return plan_for(
            self._history.present, self._history.original.model, rule, target, unit, limits,
            self.example_input, options, lam, reference, progress, cancel,
        )  # fmt: skip

    def commit_plan(
        self,
        widths: Widths,
        *,
        lam: float | None = BUDGET_LAM,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        reconstruction: str = "channel",
        reestimate: bool = False,
        progress: Progress | None = None,
        cancel: Event | None = None,
    ) -> tuple[Step, ...]:
        """Carry out widths for several groups, front to back; all of them are one step of undo.

        `lam` is relative to each group's trace, by default the 1e-6 of the paper's Figure 1; None: it
        follows from each width. The score is taken at the end; `reestimate` measures batch norms anew
        there. Other options as for `preview`.

        Raises ValueError for groups or widths that do not exist, Cancelled; then nothing has changed.
        """
        self._require_measured()
        wanted = widths.widths if isinstance(widths, BudgetPlan) else dict(widths)
        options = Options(theta, selection, reconstruction, False)
        last_options = replace(options, reestimate=reestimate)
        with self._lock:
            self._history.check_free()
            found: list[tuple[State, Step]] = []
            state = self._history.present
            names = [g.name for g in state.groups if g.prunable and wanted.get(g.name, g.width) < g.width]
            title = self._plan_title(widths, len(names))
            # The last group goes apart, since norms are re-estimated with it.
            before, last = dict(wanted), {}
            if reestimate and names:
                last = {names[-1]: before.pop(names[-1])}
            for part, ways in ((before, options), (last, last_options)):
                start = perf_counter()
                for choice, after in walk(self._ground, state, part, ways, lam, progress, cancel):
                    state = after
                    step = Step(
                        f"{choice.group} {choice.of} → {choice.width}",
                        choice,
                        None,
                        state.cost.parameters,
                        state.cost.macs,
                        perf_counter() - start,
                        plan=title,
                    )
                    found.append((state, step))
                    start = perf_counter()
            if not found:
                raise ValueError("no group gets narrower in this plan: there is nothing to commit")
            score = self._score(state.model, progress, cancel)
            found[-1] = state, replace(found[-1][1], score=score)
            self._history.push(found)
        self._tell("history")
        return tuple(step for _, step in found)

    def _plan_title(self, widths: Widths, count: int) -> str:
        number = 1 + len(
            {step.plan for step in self._history.steps[: self._history.position + 1] if step.plan}
        )
        rule = f", {widths.rule}" if isinstance(widths, BudgetPlan) else ""
        return f"plan {number}: {count} group{'s' * (count != 1)}{rule}"

    # Comparing

    def compare(
        self,
        budgets: Widths | Sequence[Widths],
        selections: Sequence[str] = ("greedy", "leverage", "random", "magnitude-l1"),
        reconstructions: Sequence[str] = ("none", "channel"),
        *,
        reestimate: bool = False,
        theta: float = DEFAULT_THETA,
        lam: float | None = BUDGET_LAM,
        progress: Progress | None = None,
        cancel: Event | None = None,
    ) -> Comparison:
        """Score every selection with every reconstruction at the same widths; nothing is committed.

        `budgets`: widths by group name, or plans, one or several. `reestimate`: for all or for none.
        Raises ValueError for unknown names and where no group gets narrower, NotMeasuredError (also for
        "taylor" before `measure_gradients`), Cancelled.
        """
        self._require_measured()
        several = [budgets] if isinstance(budgets, (Mapping, BudgetPlan)) else list(budgets)
        widths = [one.widths if isinstance(one, BudgetPlan) else one for one in several]
        ways = [Options(theta, s, r, reestimate) for s in selections for r in reconstructions]
        state = self._history.present
        for number, one in enumerate(widths, start=1):
            if not falling(state.groups, one):
                raise ValueError(
                    f"no group gets narrower in budget {number} of {len(widths)}, so there is nothing to "
                    "compare: give smaller widths, or undo what is committed first"
                )
        rows = compared(self._ground, state, widths, ways, self._scored(cancel), lam, progress, cancel)
        return Comparison(self.metric or "score", self._history.steps[0].score, tuple(rows))

    def sensitivity(
        self,
        shares: Sequence[float] = (0.75, 0.5, 0.25),
        *,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        reconstruction: str = "channel",
        lam: float | None = BUDGET_LAM,
        progress: Progress | None = None,
        cancel: Event | None = None,
    ) -> Sensitivity:
        """Each group alone at several shares of its width: scores and output losses; nothing is committed.

        Stale moments are measured again first. Raises ValueError for a share outside (0, 1],
        NotMeasuredError, Cancelled.
        """
        self._require_measured()
        for share in shares:
            if not 0 < share <= 1:
                raise ValueError(f"shares of the width lie in (0, 1], got {share!r}")
        options = Options(theta, selection, reconstruction)
        self.remeasure(progress, cancel)
        state = self._history.present
        names, scores, losses = swept(
            self._ground, state, shares, options, self._scored(cancel), lam, progress, cancel
        )
        start = self._history.steps[0].score
        return Sensitivity(self.metric or "score", start, names, tuple(shares), scores, losses)

    def _scored(self, cancel: Event | None) -> Callable[[nn.Module], float | None]:
        return lambda model: self._score(model, None, cancel)

    @property
    def has_gradients(self) -> bool:
        """Whether the selection "taylor" has what it needs, for every prunable group as it is now."""
        state = self._history.present
        found = [state.statistics.get(group.name) for group in state.groups if group.prunable]
        return all(one is not None and one.taylor is not None for one in found)

    def measure_gradients(
        self,
        data: Any = None,
        loss: Loss | None = None,
        progress: Progress | None = None,
        cancel: Event | None = None,
    ) -> None:
        """Measure activation × gradient on the present network, for the selection "taylor".

        `data` gives (inputs, targets), by default the session's training data. Raises ValueError without
        targets.
        """
        self._require_measured()
        with self._lock:
            state = self._history.present
            source = self._training if data is None else data
            found = measure_taylor(state.model, state.groups, source, loss or self.loss, progress, cancel)
            statistics = {
                name: replace(one, taylor=found[name]) if name in found else one
                for name, one in state.statistics.items()
            }
            self._history.amend(replace(state, statistics=statistics, problems={}))
        self._tell("measured")

    # Refitting

    def refit(self, progress: Progress | None = None, cancel: Event | None = None) -> Step:
        """Fit all layers around pruned groups once more to the original's outputs, and add it to the history.

        Front to back, writers as well as readers, without labels, in a pass over the calibration data a
        layer **[beyond the paper]**. Layers that are no matrix times patches stay as they are: embeddings,
        grouped convolutions, and transposed ones whose blocks overlap or are cut. Raises ValueError where
        nothing is pruned or no layer can be fitted, Cancelled.
        """
        self._require_measured()
        with self._lock:
            self._history.check_free()
            start, state = perf_counter(), self._history.present
            if not any(step.choice for step in self._history.steps[: self._history.position + 1]):
                raise ValueError("nothing is pruned yet, so there is nothing to fit again")
            after = refitted(self._ground, state, progress, cancel)
            score = self._score(after.model, progress, cancel)
            seconds = perf_counter() - start
            step = Step("refitted", None, score, after.cost.parameters, after.cost.macs, seconds)
            self._history.push([(after, step)])
        self._tell("history")
        return step

    # Fine-tuning

    @property
    def _training(self) -> Any:
        return self.calibration if self.training is None else self.training

    def finetune(
        self,
        training: Any = None,
        tuning: Tuning | None = None,
        *,
        loss: Loss | None = None,
        report: Report | None = None,
        cancel: Event | None = None,
        pause: Event | None = None,
    ) -> Tuned:
        """Fine-tune the present network and add it to the history; undo brings back the one before.

        `training`: batches of (inputs, targets), by default the session's training data; with
        `Tuning(distill=1)` or `Tuning(match=1)` targets are not needed. The best network by score is kept,
        also where `cancel` ends it early.

        While it runs, or waits in a pause, the session can be read and saved, and its history stands still.
        Parameters that need no gradient stay as they are, unless none needs one.

        Raises ValueError where data or loss do not fit, Cancelled before the first step; then nothing has
        changed.
        """
        tuning = tuning or Tuning()
        start = perf_counter()
        with self._lock:
            self._history.hold("fine-tuning is running: wait for its end, or stop it first")
            state, before = self._history.present, self._history.original
        try:
            with self._lock:  # copies, since others may run and watch the session's own networks meanwhile
                model = copy.deepcopy(state.model)
                followed = tuning.match > 0 or tuning.distill > 0
                original = copy.deepcopy(before.model) if followed else before.model
            matching = None
            if tuning.match > 0:
                matching = Matching.of(original, before.groups, state.groups, state.units)
            done = finetune(
                model, self._training if training is None else training, tuning,
                original=original, matching=matching, loss=loss or self.loss,
                score=self._scored(None) if self.metric else None,
                report=report, cancel=cancel, pause=pause,
            )  # fmt: skip
            if not done.steps:
                raise Cancelled("fine-tuning was cancelled before its first step; nothing was changed")
        except BaseException:
            self._history.release()
            raise
        if done.stopped:
            tuning = replace(tuning, until=done.steps)
        with self._lock:
            self._history.release()
            self.add_tuned(done.model, tuning, done.score, perf_counter() - start)
        return done

    def add_tuned(self, model: nn.Module, tuning: Tuning, score: float | None, seconds: float = 0.0) -> None:
        """Go on from a fine-tuned copy of the present network."""
        with self._lock:
            state = self._history.present
            cost = count_cost(model, self.example_input)
            step = Step(
                f"fine-tuned, {tuning.length}",
                None,
                score,
                cost.parameters,
                cost.macs,
                seconds,
                tuning=tuning,
            )
            after = self._ground.stale_after_all(state)
            self._history.push([(replace(state, model=model, cost=cost, stale=after, problems={}), step)])
        self._tell("history")

    # Branches

    @property
    def branch(self) -> str:
        """The name of the present branch."""
        return self._history.branch

    @property
    def branches(self) -> dict[str, tuple[Step, ...]]:
        """Every branch by name, with its steps."""
        return {name: line.steps for name, line in self._history.branches.items()}

    def fork(self, name: str) -> None:
        """Go on from here under another name; the present branch is kept as it is. Raises ValueError."""
        with self._lock:
            self._history.fork(name)
        self._tell("history")

    def switch(self, name: str) -> None:
        """To another branch, where it was left. Raises ValueError listing the branches."""
        with self._lock:
            self._history.switch(name)
        self._tell("history")

    def drop(self, name: str) -> None:
        """Forget a branch that is not the present one. Raises ValueError."""
        with self._lock:
            self._history.drop(name)
        self._tell("history")
