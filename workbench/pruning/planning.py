"""All groups at once: widths for a budget, and carrying out a whole plan, front to back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from numbers import Integral
from threading import Event
from typing import TypeVar

import numpy as np
from torch import nn

from workbench.data.progress import Cancelled, Progress
from workbench.network.cost_model import CostModel, Total
from workbench.network.groups import UnitGroup, named_group
from workbench.network.latency import time_by_module
from workbench.network.memory import cache_bytes, memory_cost
from workbench.network.running import Inputs
from workbench.network.surgery import remove_units
from workbench.pruning.budget import BudgetPlan, GroupBudget, Limits, check_request, solve
from workbench.pruning.choice import Choice
from workbench.pruning.damage import Damage
from workbench.pruning.least_loss import branch_weight
from workbench.pruning.problem import BUDGET_LAM
from workbench.pruning.state import Change, State
from workbench.pruning.timed import STEPS, TimedSearch
from workbench.pruning.transitions import Ground, Options, applied, chosen, refreshed, said

_NOTHING = 1e-300  # seconds: a target that every network misses
Item = TypeVar("Item")


def group_budgets(
    state: State, options: Options | None = None, lam: float | None = BUDGET_LAM
) -> list[GroupBudget]:
    """What the rules of budget.py need of every prunable group, from the moments measured.

    Args:
        options: θ and selection by which the plan is to be carried out, by default those of a commit.
        lam: λ over the trace, as for `walk`.

    Raises:
        NotMeasuredError: the selection needs gradients that are not measured.
    """
    options, streams = options or Options(), _streams(state)
    return [
        replace(
            _compared(state, group, streams),
            losses=state.problem(group.name).width_losses(lam, options.theta, options.selection),
            eigenvalues=_eigenvalues(state, group.name),
        )
        for group in state.groups
        if group.prunable
    ]


def needed_of(
    state: State, rule: str, damage: Damage | None, progress: Progress | None, cancel: Event | None
) -> list[GroupBudget]:
    """No more of every prunable group than `rule` needs: greedy paths of wide groups take their time."""
    prunable = [group for group in state.groups if group.prunable]
    if rule == "least":
        streams = _streams(state)
        each = _one_by_one(prunable, "planning, comparing groups", progress, cancel)
        return [_compared(state, group, streams) for group in each]
    found = bare_budgets(prunable)
    if rule == "damage" and damage is not None:
        if any(damage.of(one.name).width != one.width for one in found):
            raise ValueError("the network was changed while its damage was measured: plan again")
        return [replace(one, damage=damage.of(one.name).curve) for one in found]
    if rule == "shared":
        return [replace(one, eigenvalues=_eigenvalues(state, one.name)) for one in found]
    return found


def bare_budgets(groups: Iterable[UnitGroup]) -> list[GroupBudget]:
    """Names and widths of the prunable ones of `groups`."""
    return [GroupBudget(group.name, group.width) for group in groups if group.prunable]


def _compared(state: State, group: UnitGroup, streams: Mapping[str, float]) -> GroupBudget:
    """What the rule "least" needs of a group."""
    absolute = state.problem(group.name).comparable_losses
    whole = float(absolute[0])
    stream = streams.get(group.readers[0].module, 0.0)
    comparable = absolute / whole if whole > 0 else np.zeros_like(absolute)
    weight = branch_weight(len(group.readers), whole, stream)
    return GroupBudget(group.name, group.width, weight=weight, comparable=comparable)


def _eigenvalues(state: State, name: str) -> np.ndarray:
    return state.problem(name).spectrum.eigenvalues.numpy()


def _one_by_one(
    items: Iterable[Item], what: str, progress: Progress | None, cancel: Event | None
) -> Iterator[Item]:
    """The items; between two of them `progress` is told and `cancel` heeded."""
    every = list(items)
    for index, item in enumerate(every):
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"cancelled while {what}, {index} of {len(every)} done")
        if progress is not None:
            progress(index, len(every), what)
        yield item


def predicted_losses(
    state: State,
    widths: Mapping[str, int],
    options: Options,
    lam: float | None = BUDGET_LAM,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> dict[str, float]:
    """Relative output loss of each group of `widths` alone, exactly as `chosen` says it at that width.

    Raises:
        ValueError: a group or width that does not exist.
        NotMeasuredError: the selection needs gradients that are not measured.
        Cancelled: `cancel` was set.
    """
    falling(state.groups, widths)
    each = _one_by_one(widths.items(), "planning, predicting losses", progress, cancel)
    return {
        name: state.problem(name).predicted_loss(width, lam, options.theta, options.selection)
        for name, width in each
    }


def _streams(state: State) -> dict[str, float]:
    """Energy of the streams that each layer is added to, by its name: Tr Σ, the mean of the readers."""
    found: dict[str, float] = {}
    for group in state.groups:
        if group.prunable and len(group.writers) > 1:
            traces = [float(moment.matrix.trace()) for moment in state.statistics[group.name].moments]
            for writer in group.writers:
                found[writer.module] = found.get(writer.module, 0.0) + sum(traces) / len(traces)
    return found


def plan_for(
    state: State,
    original: nn.Module,
    rule: str,
    target: float,
    unit: str,
    limits: Limits,
    example_input: Inputs,
    options: Options | None = None,
    lam: float | None = BUDGET_LAM,
    reference: float | None = None,
    damage: Damage | None = None,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> BudgetPlan:
    """Widths for `target`; one in seconds is found by measuring networks of such widths (timed.py).

    Args:
        state: what is to be pruned; it stays as it is, and its network is run and watched here alone.
        original: the network with which times are compared, run here alone too.
        rule: as for `solve`, like `target`, `unit` and `limits`.
        example_input: what a pass runs on.
        options: how the plan is to be carried out: the losses are those of these choices.
        lam: λ over the trace, as for `walk`.
        reference: seconds of the original by the measurement that set the target, for the unit "seconds".
        damage: of each group alone, for the rule "damage".

    Raises:
        ValueError: as `solve`; a reference that is not positive; a damage of other widths.
        NotMeasuredError: the selection needs gradients that are not measured.
        Cancelled: `cancel` was set.
    """
    options = options or Options()
    model = CostModel.of(state.model, state.groups, state.cost)
    budgets = needed_of(state, rule, damage, progress, cancel)
    biased = options.reconstruction == "original"
    if unit != "seconds":
        memory = memory_of(state, model, example_input, biased) if unit == "megabytes" else None
        plan = solve(rule, budgets, model, target, unit, limits, biased=biased, memory=memory)
    else:
        check_request(rule, budgets, target, unit, limits)
        if reference is not None and not reference > 0:
            raise ValueError(f"the reference must be the original's seconds, above 0; got {reference!r}")
        plan = _timed(
            state, original, lambda aim, times: solve(rule, budgets, model, aim, unit, limits, times, biased),
            float(target), example_input, reference, progress, cancel,
        )  # fmt: skip
    change = None if damage is None else damage.change_at(plan.widths)
    losses = predicted_losses(state, plan.widths, options, lam, progress, cancel)
    return replace(plan, losses=losses, change=change)


def _timed(
    state: State,
    original: nn.Module,
    at: Callable[[float, Mapping[str, float]], BudgetPlan],
    target: float,
    example_input: Inputs,
    reference: float | None,
    progress: Progress | None,
    cancel: Event | None,
) -> BudgetPlan:
    """`at`: the plan for a cost by the layers' times, and these."""

    def check(done: int, steps: int) -> None:
        if cancel is not None and cancel.is_set():
            raise Cancelled("cancelled while measuring latency")
        if progress is not None and (not told or told[-1] != done):
            told.append(done)
            progress(done, steps, "measuring latency")

    told: list[int] = []
    check(0, STEPS)
    times = time_by_module(state.model, example_input)
    lowest, highest = at(_NOTHING, times).cost, at(float("inf"), times).cost
    return TimedSearch(
        lambda aim: at(aim if aim > lowest else _NOTHING, times), lambda widths: skeleton(state, widths),
        original, example_input, target, lowest, highest, reference, check,
    ).plan()  # fmt: skip


def memory_of(state: State, model: CostModel, example_input: Inputs, biased: bool = False) -> Total:
    """Megabytes of the network as a function of its widths.

    What a decoder keeps for its next call is seen on networks that have half of a group's units.
    """
    whole = cache_bytes(state.running().model, example_input)
    per_unit = {}
    if whole:
        for name, width in zip(model.groups, model.widths, strict=True):
            fewer = max(1, width // 2)
            left = cache_bytes(skeleton(state, {name: fewer}), example_input) if fewer < width else whole
            if left != whole:
                per_unit[name] = (whole - left) / (width - fewer)
    return memory_cost(state.model, model, (whole, per_unit), biased, state.groups)


def skeleton(state: State, widths: Mapping[str, int]) -> nn.Module:
    """A network of these widths that keeps each group's first units: for its shape and speed alone."""
    model, groups = state.model, state.groups
    for group in state.groups:
        width = widths.get(group.name, group.width)
        if group.prunable and width < group.width:
            model, groups = remove_units(model, groups, group.name, list(range(width)))
    return model


def walk(
    ground: Ground,
    state: State,
    widths: Mapping[str, int],
    options: Options,
    lam: float | None = BUDGET_LAM,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> Iterator[tuple[Choice, State]]:
    """Choose and carry out every group whose width falls, in the order of running.

    `lam` is relative to each group's trace; None: it follows from the width. Under the sequential procedure
    stale groups are measured again on the way. Raises ValueError for a group or width that does not exist,
    Cancelled.
    """
    names = falling(state.groups, widths)
    if options.reconstruction == "original":
        readers = [reader.module for name in names for reader in named_group(state.groups, name).readers]
        ground = ground.caching(list(dict.fromkeys(readers)), progress, cancel)
    for index, name in enumerate(names):
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"cancelled after {index} of {len(names)} groups")

        def report(done: int, total: int | None, what: str, index: int = index, name: str = name) -> None:
            if progress is not None:
                progress(index, len(names), f"{name}, {index + 1} of {len(names)}: {what}")

        report(0, None, "choosing")
        if name in state.stale:
            state = refreshed(ground, state, report, cancel)
        problem, width = state.problem(name), widths[name]
        absolute = problem.absolute(lam, width)
        order = problem.prefix(absolute, width, options.theta, options.selection)
        choice = chosen(state, name, width, absolute, options, order)
        state = applied(ground, state, choice, report, cancel)
        yield choice, state


def plan_changes(
    ground: Ground,
    state: State,
    widths: Mapping[str, int],
    options: Options,
    lam: float | None = BUDGET_LAM,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> Iterator[Change]:
    """`walk` as steps; where norms are re-estimated, that is done once, with the last group.

    Raises ValueError as `walk` does, and where no group gets narrower; Cancelled.
    """
    names = falling(state.groups, widths)
    if not names:
        raise ValueError("no group gets narrower in this plan: there is nothing to commit")
    first, last = dict(widths), {}
    if options.reestimate:
        last = {names[-1]: first.pop(names[-1])}
    for part, ways in ((first, replace(options, reestimate=False)), (last, options)):
        for choice, after in walk(ground, state, part, ways, lam, progress, cancel):
            state = after
            yield Change(state, said(choice), choice)


def falling(groups: tuple[UnitGroup, ...], widths: Mapping[str, int]) -> list[str]:
    """Groups that get narrower, in the order of running. Raises ValueError for what does not exist."""
    for name, width in widths.items():
        group = named_group(groups, name)
        if not group.prunable:
            raise ValueError(f"{name} is not prunable: {group.why_not}")
        if not (isinstance(width, Integral) and 1 <= width <= group.width):
            raise ValueError(f"{name} has {group.width} units; it cannot get {width}")
    return [g.name for g in groups if g.prunable and widths.get(g.name, g.width) < g.width]
