"""From what was saved back to moments, steps, branches and networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event

from torch import Tensor, nn

from workbench.data.progress import Cancelled, Progress, of_step
from workbench.measure.moments import GroupStatistics
from workbench.network.groups import UnitGroup
from workbench.network.tensors import same_bits, with_weights
from workbench.pruning.choice import Choice
from workbench.pruning.state import Change, State, Statistics
from workbench.pruning.transitions import (
    REFITTED,
    Ground,
    Options,
    applied,
    chosen,
    refitted,
    refreshed,
    said,
    tuned,
    with_model,
)
from workbench.session.history import History, Step
from workbench.session.recipe import RecipeError, RecipeStep, RefitStep, TuneStep, fingerprint
from workbench.session.saved import SavedBranch


def statistics_of(
    moments: Mapping[str, Mapping[str, Tensor]], groups: Sequence[UnitGroup], where: str
) -> dict[str, GroupStatistics]:
    """What was measured of every group. Raises RecipeError where it does not fit, with the words `where`."""
    widths = {group.name: group for group in groups if group.prunable}
    if moments and set(moments) != set(widths):
        raise RecipeError(
            f"{where} has moments of {', '.join(sorted(moments))}, but the model's prunable groups are "
            f"{', '.join(sorted(widths))}"
        )
    for name, state in moments.items():
        found = widths[name]
        shapes = {tuple(value.shape) for key, value in state.items() if key.endswith((".total", "active"))}
        wide = {(found.width, found.width), (found.width,)}
        if shapes != wide or f"{len(found.readers)}.total" in state:
            raise RecipeError(f"{where} has moments that do not fit {name} with its {found.width} units")
    try:
        return {name: GroupStatistics.from_state(dict(state)) for name, state in moments.items()}
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(f"{where} lacks a part of its moments: {error}") from error


def measured_as(state: State, statistics: Mapping[str, GroupStatistics]) -> State:
    """The original with what was measured of it before."""
    measured = bool(statistics) or not any(group.prunable for group in state.groups)
    return replace(
        state, statistics=Statistics(statistics), stale={}, measured=measured, problems={}, damages={}
    )


def choice_of(state: State, step: RecipeStep) -> Choice:
    """The choice that a recipe's step stands for, with its kept units. Raises ValueError."""
    problem = state.problem(step.group)
    if problem.group.width != step.of:
        raise ValueError(
            f"the step for {step.group} was made with {step.of} units; here it has {problem.group.width}"
        )
    options = Options(step.theta, step.selection, step.reconstruction, step.reestimate)
    return chosen(state, step.group, step.width, step.lam, options, step.kept)


@dataclass(frozen=True)
class Told:
    """Who hears how far it is, and who may stop it."""

    progress: Progress | None = None
    cancel: Event | None = None

    def at(self, step: int, steps: int) -> Told:
        """The same at a step, counted from 1. Raises Cancelled where that was asked for."""
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled(f"it was cancelled after {step - 1} of {steps} steps; nothing was changed")
        return Told(of_step(self.progress, step, steps, "bringing the steps back"), self.cancel)


def restore(history: History, ground: Ground, branches: Sequence[SavedBranch], told: Told = Told()) -> None:
    """Put saved branches, the present one first, onto a history that has the original alone.

    Raises ValueError where steps or weights do not fit, Cancelled; then the history is not to be used.
    """
    for index, saved in enumerate(branches):
        if index == 0:
            history.rename(saved.name)
            _carry_out(history, ground, saved, 0, told)
            continue
        nearest = max(branches[:index], key=saved.shared)
        shared = saved.shared(nearest)
        history.switch(nearest.name)
        end = history.position
        history.goto(shared)
        history.fork(saved.name)
        _carry_out(history, ground, saved, shared, told)
        history.switch(nearest.name)
        history.goto(end)
    for saved in reversed(branches):  # the present one last
        history.switch(saved.name)
        if saved.at is not None:
            history.goto(saved.at)


def _carry_out(history: History, ground: Ground, saved: SavedBranch, begin: int, told: Told) -> None:
    """The steps of `saved` from `begin` on, on the present branch, which has those before."""
    steps = list(enumerate(zip(saved.steps, saved.changed, saved.scores, strict=True)))
    for index, (step, changed, score) in steps[begin:]:
        here = told.at(index + 1, len(steps))
        if isinstance(step, RecipeStep) and step.group in history.present.stale:
            history.amend(refreshed(ground, history.present, here.progress, here.cancel))
        if changed is None and index + 1 == len(steps):
            changed = saved.weights  # the end of a branch is there in every version
        made = _again(ground, history.present, step, changed, here)
        cost, plan = made.state.cost, step.plan if isinstance(step, RecipeStep) else ""
        done = Step(
            made.label, made.choice, score, cost.parameters, cost.macs, 0.0, plan=plan, tuning=made.tuning
        )
        history.push([(made.state, done)])
    state = history.present
    if saved.weights is None:
        if fingerprint(state.model) != saved.end:
            raise ValueError(
                f"what the steps of branch {saved.name!r} lead to is not the network that was saved"
            )
        return
    _check_whole(state.model, saved.weights)
    model = with_weights(state.model, saved.weights)
    if not _same_weights(model, state.model):
        if not steps:
            raise ValueError("the saved weights of an unchanged branch are not the original network's")
        history.replace_present(replace(state, model=model, problems={}, damages={}))


def _again(
    ground: Ground,
    state: State,
    step: RecipeStep | TuneStep | RefitStep,
    weights: Mapping[str, Tensor] | None,
    told: Told,
) -> Change:
    """One step once more; nothing is fitted where the `weights` that it gave are known."""
    if isinstance(step, RecipeStep):
        choice = choice_of(state, step)
        state = applied(ground, state, choice, told.progress, told.cancel, weights)
        return Change(state, said(choice), choice)
    if isinstance(step, TuneStep):
        return tuned(ground, state, with_weights(state.model, weights or {}), step.tuning)
    if weights is None:
        return refitted(ground, state, told.progress, told.cancel)
    return Change(with_model(ground, state, with_weights(state.model, weights)), REFITTED)


def _check_whole(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    missing = model.state_dict().keys() - weights.keys()
    if missing:
        raise ValueError(f"the saved weights do not fit the recipe: they lack {', '.join(sorted(missing))}")


def _same_weights(a: nn.Module, b: nn.Module) -> bool:
    mine, its = a.state_dict(), b.state_dict()
    return mine.keys() == its.keys() and all(same_bits(mine[key], its[key]) for key in mine)
