"""All groups at once: widths for a budget, and carrying out a whole plan, front to back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from threading import Event

import numpy as np
from torch import nn

from workbench.data.progress import Cancelled, Progress
from workbench.network.cost import measure_latency, time_by_module
from workbench.network.cost_model import CostModel
from workbench.network.groups import UnitGroup, named_group
from workbench.network.running import Inputs
from workbench.network.surgery import remove_units
from workbench.pruning.budget import BudgetPlan, GroupBudget, Limits, solve
from workbench.pruning.choice import Choice
from workbench.pruning.problem import BUDGET_LAM
from workbench.pruning.state import Change, State
from workbench.pruning.transitions import Ground, Options, applied, chosen, refreshed, said

LATENCY_ROUNDS = 8


def group_budgets(state: State) -> list[GroupBudget]:
    """What the rules of budget.py need of every prunable group, from the moments measured."""
    streams = _streams(state)
    found = []
    for group in state.groups:
        if group.prunable:
            problem = state.problem(group.name)
            losses = problem.budget_losses
            whole = float(losses[0])
            weight = float(len(group.readers))
            stream = streams.get(group.readers[0].module, 0.0)
            if len(group.readers) == 1 and whole + stream > 0:
                weight = whole / (whole + stream)  # the branch's share of the sum that it is added to
            relative = losses / whole if whole > 0 else np.zeros_like(losses)
            found.append(
                GroupBudget(group.name, group.width, relative, problem.spectrum.eigenvalues.numpy(), weight)
            )
    return found


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
    rule: str,
    target: float,
    unit: str,
    limits: Limits,
    example_input: Inputs,
    reconstruction: str = "channel",
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> BudgetPlan:
    """Widths for `target`; one in seconds is checked by measuring networks of those widths.

    Raises ValueError as `solve` does, Cancelled.
    """
    model = CostModel.of(state.model, state.groups, state.cost)
    budgets = group_budgets(state)
    biased = reconstruction == "original"
    if unit != "seconds":
        return solve(rule, budgets, model, target, unit, limits, biased=biased)
    seconds = time_by_module(state.model, example_input)
    aim, best = float(target), None
    for done in range(LATENCY_ROUNDS):
        if progress is not None:
            progress(done, LATENCY_ROUNDS, "measuring latency")
        if cancel is not None and cancel.is_set():
            raise Cancelled("cancelled while measuring latency")
        plan = solve(rule, budgets, model, aim, unit, limits, seconds, biased)
        found = measure_latency(skeleton(state, plan.widths), example_input)
        message = "" if found <= target else f"the fastest network found takes {1000 * found:.3g} ms"
        measured = BudgetPlan(
            rule, unit, float(target), plan.widths, found, plan.parameters, plan.macs,
            found <= target, message, plan.lam,
        )  # fmt: skip
        if best is None or (measured.met, -abs(found - target)) > (best.met, -abs(best.cost - target)):
            best = measured
        if (found <= target and found > 0.97 * target) or not plan.met:
            break
        aim *= min(1.5, max(0.6, target / found)) if found > target else 1 + 0.5 * (target / found - 1)
    assert best is not None
    return best


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
        trace = state.problem(name).spectrum.trace
        absolute = None if lam is None or trace == 0 else lam * trace
        choice = chosen(state, name, widths[name], absolute, options)
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
        if not 1 <= width <= group.width:
            raise ValueError(f"{name} has {group.width} units; it cannot get {width}")
    return [g.name for g in groups if g.prunable and widths.get(g.name, g.width) < g.width]
