"""All groups at once: plans for a cost, their commit, and ways to prune side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.data.progress import Progress
from workbench.data.surviving import surviving
from workbench.network.cost_model import CostModel, Total
from workbench.pruning.budget import RULES, BudgetPlan, GroupBudget, Limits, check_request
from workbench.pruning.choice import DEFAULT_THETA
from workbench.pruning.comparing import Comparison, Row, compared
from workbench.pruning.damage import Way, damage_of
from workbench.pruning.frontier import Frontier, frontier_of
from workbench.pruning.planning import (
    bare_budgets,
    group_budgets,
    memory_of,
    plan_changes,
    plan_for,
    predicted_losses,
)
from workbench.pruning.problem import BUDGET_LAM, NotMeasuredError
from workbench.pruning.refining import check_refine, refined_plan
from workbench.pruning.transitions import Options
from workbench.session.core import FEWER, FORGET, SIMPLER, Cancel
from workbench.session.damages import Damages
from workbench.session.flips import Widths, widths_of
from workbench.session.history import Step


class Budgets(Damages):
    """The part of a session that plans widths for a cost, and carries plans out."""

    @surviving("planning", FORGET)
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
        self._state.check_measured()
        if remeasure:
            self.remeasure()
        return group_budgets(self._state, Options(theta, selection), lam)

    def predicted_losses(
        self,
        widths: Mapping[str, int],
        *,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        lam: float | None = BUDGET_LAM,
    ) -> dict[str, float]:
        """Output loss of each group alone at its width in `widths`, exactly as `preview` says it."""
        self._state.check_measured()
        return predicted_losses(self._state, widths, Options(theta, selection), lam)

    @surviving("planning", f"the rule 'equal', which looks at no spectrum; else {FORGET}")
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
        refine: float = 0.0,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> BudgetPlan:
        """Widths of all prunable groups for a target (method.md §7); the network is not touched.

        `target`: a number of "parameters", "macs", "seconds" of a forward pass over the example, or
        "megabytes" (10⁶ bytes) of weights and buffers, and of the keys and values that a decoder keeps of the
        example. `rule`: "equal", every group keeps the same share; "shared", ⌈N(λ)⌉ at one λ relative to the
        trace; "least", least loss per cost; "damage", the least change of the outputs, for which `damage` is
        measured first where it is not yet [both beyond the paper]. `locks`: widths that stay; `minimum`:
        units that every group keeps; `multiple`: widths are multiples of it, or whole.

        `theta`, `selection`, `lam` and `reconstruction` are what the plan is to be committed with, as for
        `commit_plan`: the losses that the plan tells are of these choices; "original" gives a bias to readers
        that have none, and these parameters count.

        Seconds are measured: networks of the widths in question run in turn with the original, and the plan
        says the interval. `reference`: what the original took when the target was set, so that another load
        of the machine does not change what is asked for. Stale moments are measured again first.

        `refine`: seconds in which the rule "damage" may measure plans: first those of all rules, the least
        damaged of which goes on, then steps around it, while the damage falls. `BudgetPlan.rounds` says what
        each won.

        Raises ValueError for bad input, NotMeasuredError, Cancelled. A target that cannot be met is said in
        the plan.
        """
        options = Options(theta, selection, reconstruction)  # raises ValueError for one that there is not
        limits = Limits(dict(locks or {}), minimum, multiple)
        check_request(rule, bare_budgets(self.groups), target, unit, limits)  # before what takes minutes
        check_refine(refine, rule, unit)
        self.remeasure(progress, cancel)
        how: dict[str, Any] = {**_how(options), "lam": lam}
        damage = self.damage(**how, progress=progress, cancel=cancel) if rule == "damage" else None
        state = self._state.running()
        plan = plan_for(
            state, self._history.original.running().model, rule, target, unit, limits,
            self.example_input, options, lam, reference, damage, progress, cancel,
        )  # fmt: skip
        if damage is None or not refine or not plan.met:
            return plan
        sides = self._sides(state, progress, cancel)
        return refined_plan(
            self._ground, state, plan, damage, limits, Way(**how), sides, refine, progress, cancel
        )

    @surviving("committing a plan", SIMPLER)
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
        cancel: Cancel | None = None,
    ) -> tuple[Step, ...]:
        """Carry out widths for several groups, front to back; all of them are one step of undo.

        `lam` is relative to each group's trace, by default the 1e-6 of the paper's Figure 1; None: it
        follows from each width. The score is taken at the end; `reestimate` measures batch norms anew
        there. Other options as for `preview`.

        Raises ValueError for groups or widths that do not exist, Cancelled; then nothing has changed.
        """
        self._state.check_measured()
        options = Options(theta, selection, reconstruction, reestimate)
        return self._advance(
            lambda ground, state: plan_changes(
                ground, state, widths_of(widths), options, lam, progress, cancel
            ),
            progress,
            cancel,
            lambda count: self._plan_title(widths, count),
        )

    def _plan_title(self, widths: Widths, count: int) -> str:
        number = 1 + len(
            {step.plan for step in self._history.steps[: self._history.position + 1] if step.plan}
        )
        rule = f", {widths.rule}" if isinstance(widths, BudgetPlan) else ""
        return f"plan {number}: {count} group{'s' * (count != 1)}{rule}"

    @surviving("comparing", FEWER)
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
        cancel: Cancel | None = None,
        seen: Callable[[Row], Any] | None = None,
    ) -> Comparison:
        """Score every selection with every reconstruction at the same widths; nothing is committed.

        `budgets`: widths by group name, or plans, one or several. `reestimate`: for all or for none. `seen`
        is told of each row once it is scored, for who wants those that a cancelled comparison had.
        Raises ValueError for unknown names and where no group gets narrower, NotMeasuredError (also for
        "taylor" before `measure_gradients`), Cancelled.
        """
        self._state.check_measured()
        several = [budgets] if isinstance(budgets, (Mapping, BudgetPlan)) else list(budgets)
        ways = [Options(theta, s, r, reestimate) for s in selections for r in reconstructions]
        self._history.settle()
        rows = compared(
            self._ground, self._state, [widths_of(one) for one in several], ways, self._scored(cancel), lam,
            progress, cancel, seen,
        )  # fmt: skip
        return Comparison(self.metric or "score", self.history[0].score, tuple(rows))

    @surviving("planning", FORGET)
    def frontier(
        self,
        unit: str = "macs",
        rules: Sequence[str] = RULES,
        *,
        locks: Mapping[str, int] | None = None,
        minimum: int = 1,
        multiple: int = 1,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        reconstruction: str = "channel",
        lam: float | None = BUDGET_LAM,
        check: Callable[[], None] = lambda: None,
    ) -> Frontier:
        """Plans of the least damage from the present cost to ten times fewer **[beyond the paper]**.

        `rules`: "damage" is that line, the plans of others stand beside it at 1.5, 2, 3, 5 and 10 times
        fewer than the original; else as for `plan`, in parameters, MACs or megabytes.
        `check` is called before each plan; what it raises ends the work. Nothing is measured.

        Raises NotMeasuredError where `damage` has not measured all that it measures by default.
        """
        missing, _ = self.damage_forecast(
            theta=theta, selection=selection, reconstruction=reconstruction, lam=lam
        )
        if missing:
            raise NotMeasuredError(f"{missing} widths are not measured yet: call session.damage() first")
        state, biased = self._state, reconstruction == "original"
        damage = damage_of(state, Way(theta, selection, reconstruction, lam))
        memory = self.memory_cost(biased) if unit == "megabytes" else None
        limits = Limits(dict(locks or {}), minimum, multiple)
        whole = self.original_cost(unit)
        return frontier_of(state, damage, unit, whole, limits, rules, biased, memory, check)

    def memory_cost(self, biased: bool = False) -> Total:
        """Megabytes of the present network at any widths; `biased`: readers of fewer units get a bias."""
        state = self._state.running()
        return memory_of(state, self.cost_model, self.example_input, biased)

    def original_cost(self, unit: str) -> float:
        """What the original costs, of which targets are shares: "macs", "parameters" or "megabytes".

        Raises ValueError for another unit.
        """
        start = self.history[0]
        if unit == "megabytes":
            state = self._history.original.running()
            model = CostModel.of(state.model, state.groups, state.cost)
            return memory_of(state, model, self.example_input).whole
        wholes = {"macs": start.macs, "parameters": start.parameters}
        if unit not in wholes:
            raise ValueError(f"the unit must be one of macs, parameters, megabytes; got {unit!r}")
        return wholes[unit]


def _how(options: Options) -> dict[str, Any]:
    """What a choice is made by, as arguments."""
    return {name: getattr(options, name) for name in ("theta", "selection", "reconstruction")}
