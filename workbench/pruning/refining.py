"""Rounds that measure whole plans **[beyond the paper]**: damages of single groups do not simply add.

First the plan of each rule is carried out beside the network and its damage measured; the one of the least
goes on, by however little: none of them was chosen by these examples. Each round then measures, around the
plan so far, every group one step down and one step up, solves for the best steps with these numbers,

    minimise  Σ_g Δ_g(s_g)   over steps s_g ∈ {down, stay, up}   subject to   cost ≤ target,

and carries that out: where its damage is less it is the plan of the next round, else the steps are halved. It
ends where no step wins any more, or after the seconds that were allowed.

A round's steps are chosen by the examples that measure them. So its plan takes another's place only where its
damage is less by more than chance: by twice the standard error of the difference, prediction by prediction.

The damage of a whole plan is the Jensen–Shannon divergence of its answers (outputs.py): on ResNet-20 it
ordered nine plans as their accuracy did; KL, which a few predictions decide, took the worse of two at 2×.

A plan is never measured on the examples that it was fitted to: each is carried out on either half of the
calibration data, its moments and fits from that half alone, and measured on the other (cross-fitting). On
VGG-13 the damage of equal widths at 1.5× is 0.0009 nats on the images of the fit and 0.0123 on others; of the
rule "least", which is the better one on test images, it is 0.0015 and 0.0075.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from threading import Event
from time import perf_counter

import numpy as np

from workbench.data.progress import Cancelled, Progress
from workbench.network.cost_model import CostModel, Total
from workbench.pruning.budget import (
    BudgetPlan,
    Limits,
    Round,
    allowed_widths,
    cost_in,
)
from workbench.pruning.damage import Damage, Way, choice_at
from workbench.pruning.least_damage import least_damage_widths
from workbench.pruning.planning import bare_budgets, memory_of, plan_for, predicted_losses, walk
from workbench.pruning.sides import Side
from workbench.pruning.state import State
from workbench.pruning.transitions import Ground, applied, refreshed

STEP = 0.125  # of a group's width, in the first round
LEAST_STEP = 0.03
ERRORS = 2.0  # standard errors
PLAN_EXAMPLES = 2048  # on which plans are measured
LONGEST = 1e9  # seconds
FARTHEST = 1e9  # nats, or of the outputs


def check_refine(seconds: float, rule: str, unit: str) -> None:
    """Raises ValueError where there is nothing that could be refined in so many `seconds`."""
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not seconds >= 0:
        raise ValueError(f"refine must be a number of seconds, 0 or more; got {seconds!r}")
    if seconds and (rule != "damage" or unit == "seconds"):
        raise ValueError(
            "refine= measures plans of the rule 'damage' for parameters, macs or megabytes; got "
            f"{rule!r} in {unit}: leave refine out"
        )


def refined_plan(
    ground: Ground,
    state: State,
    plan: BudgetPlan,
    damage: Damage,
    limits: Limits,
    way: Way,
    sides: tuple[Side, ...],
    seconds: float,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> BudgetPlan:
    """`plan` of the rule "damage" after rounds of measuring, at most about `seconds` of them.

    Args:
        ground: what plans are carried out against.
        state: on which it was planned; it stays as it is.
        plan: for a number of parameters, MACs or megabytes.
        damage: of each group alone.
        limits: those of the plan.
        way: how plans are carried out.
        sides: on which plans are carried out and measured, see `sides.sides_of`.
        seconds: how long it may take; a step that has begun is ended.

    Raises:
        Cancelled: `cancel` was set.
    """
    model = CostModel.of(state.model, state.groups, state.cost)
    biased = way.reconstruction == "original"
    memory = memory_of(state, model, ground.example_input, biased) if plan.unit == "megabytes" else None
    cost = cost_in(plan.unit, model, None, biased, memory)
    groups = bare_budgets(state.groups)
    plans = {plan.rule: dict(plan.widths)}
    for rule in ("least", "equal", "shared"):
        other = plan_for(
            state, state.model, rule, plan.target, plan.unit, limits, ground.example_input, way.options,
            way.lam, progress=progress, cancel=cancel,
        )  # fmt: skip
        plans[rule] = other.widths
    refining = Refining(sides, way, seconds, progress, cancel)
    allowed = [allowed_widths(group, limits) for group in groups]
    widths = refining.from_best_of(plans, allowed, cost, plan.target)
    parameters, macs = model.total(widths, biased)
    found = cost.total([widths[group.name] for group in groups])
    losses = predicted_losses(state, widths, way.options, way.lam)
    return replace(
        plan, widths=widths, cost=found, parameters=parameters, macs=macs, losses=losses,
        change=damage.change_at(widths), rounds=tuple(refining.rounds),
    )  # fmt: skip


@dataclass(frozen=True)
class Path:
    """A plan carried out: `states` of the sides before each group and after the last; the damage at each
    prediction of all sides."""

    states: list[tuple[State, ...]]
    of_each: np.ndarray

    @property
    def damage(self) -> float:
        """The mean Jensen–Shannon divergence in nats; of what are no classes the relative squared change."""
        return float(self.of_each.mean())


class Refining:
    """Measures plans on the sides of one network and walks from the best to a better one."""

    def __init__(
        self,
        sides: tuple[Side, ...],
        way: Way,
        seconds: float,
        progress: Progress | None = None,
        cancel: Event | None = None,
    ):
        self.way, self.state = way, tuple(side.state for side in sides)
        self.seconds = min(float(seconds), LONGEST)
        self.end = perf_counter() + self.seconds
        self.progress, self.cancel = progress, cancel
        groups = [group for group in sides[0].state.groups if group.prunable]
        self.names = [group.name for group in groups]
        if way.reconstruction == "original":  # the original runs once for all fits of all plans
            readers = list(dict.fromkeys(r.module for group in groups for r in group.readers))
            sides = tuple(
                replace(side, ground=side.ground.caching(readers, progress, cancel)) for side in sides
            )
        self.sides = sides
        self.rounds: list[Round] = []

    def from_best_of(
        self,
        plans: Mapping[str, Mapping[str, int]],
        allowed: list[list[int]],
        cost: Total,
        target: float,
    ) -> dict[str, int]:
        """The widths that come out; what was measured on the way is in `rounds`.

        Args:
            plans: widths by rule, the first of which is taken where no second one can be measured in time.
            allowed: widths that each group may have, ascending.
            cost: of the network at any widths.
            target: what it may cost.
        """
        best, states = self._best_of(plans)
        share = STEP
        number = 0
        while share >= LEAST_STEP and self._time_left():
            number += 1
            began = perf_counter()
            steps = self.steps_of(best.widths, allowed, share)
            found = self.around(best, states, steps, number)
            if found is None:
                break
            widths = self._solved(best.widths, found, cost, target)
            predicted = best.measured + sum(found[n][widths[n]] for n in self.names)
            if predicted >= best.measured:
                share /= 2
                continue
            path = self._carried_out(widths, f"round {number}")
            kept = self._is_less(path, states)
            taken = Round(f"round {number}", widths, predicted, path.damage, kept, perf_counter() - began)
            self.rounds.append(taken)
            if kept:
                best, states = taken, path
            else:
                share /= 2
        return dict(best.widths)

    def _best_of(self, plans: Mapping[str, Mapping[str, int]]) -> tuple[Round, Path]:
        best: Round | None = None
        states: Path | None = None
        seen: list[dict[str, int]] = []
        for what, widths in plans.items():
            if widths in seen or (best is not None and not self._time_left()):
                continue
            seen.append(dict(widths))
            began = perf_counter()
            path = self._carried_out(widths, what)
            kept = best is None or path.damage < best.measured
            one = Round(what, dict(widths), float("nan"), path.damage, kept, perf_counter() - began)
            self.rounds.append(one)
            if kept:
                best, states = one, path
        assert best is not None
        assert states is not None
        return best, states

    def _is_less(self, one: Path, other: Path) -> bool:
        """Whether the damage of `one` is less than that of `other` by more than chance."""
        difference = one.of_each - other.of_each
        error = float(difference.std()) / max(len(difference), 1) ** 0.5
        return bool(difference.mean() < -ERRORS * error)

    def _carried_out(self, widths: Mapping[str, int], what: str) -> Path:
        self._say(f"measuring the plan, {what}")
        return self.walked(self.state, widths)

    def walked(self, start: tuple[State, ...], widths: Mapping[str, int]) -> Path:
        """`widths` carried out from `start`, a state a side, group by group in the order of running."""
        states = [start]
        present = {group.name: group.width for group in start[0].groups}
        for name in self.names:
            if widths.get(name, present[name]) < present[name]:
                states.append(tuple(map(self._step(name, widths[name]), self.sides, states[-1])))
            else:
                states.append(states[-1])
        return Path(states, self._damage_of(states[-1]))

    def _step(self, name: str, width: int) -> Callable[[Side, State], State]:
        """What cuts one group, measured anew first where it is stale."""

        def taken(side: Side, state: State) -> State:
            steps = walk(side.ground, state, {name: width}, self.way.options, self.way.lam, None, self.cancel)
            return [after for _, after in steps][-1]

        return taken

    def _damage_of(self, states: tuple[State, ...]) -> np.ndarray:
        """Of each prediction, (n,); as large as can be where the outputs are no numbers any more."""
        found = [
            side.reference.of_each(state.running().model, self.cancel)
            for side, state in zip(self.sides, states, strict=True)
        ]
        return np.nan_to_num(np.concatenate(found), nan=FARTHEST, posinf=FARTHEST)

    def steps_of(
        self, widths: Mapping[str, int], allowed: list[list[int]], share: float
    ) -> dict[str, tuple[int | None, int | None]]:
        """The allowed widths about `share` of each group's width below and above its present one."""
        found = {}
        for name, choices in zip(self.names, allowed, strict=True):
            now, step = widths[name], max(1.0, share * choices[-1])
            down = [w for w in choices if w < now]
            up = [w for w in choices if w > now]
            found[name] = (
                min(down, key=lambda w: (abs(now - w - step), -w)) if down else None,
                min(up, key=lambda w: (abs(w - now - step), w)) if up else None,
            )
        return found

    def around(
        self,
        best: Round,
        path: Path,
        steps: Mapping[str, tuple[int | None, int | None]],
        number: int,
    ) -> dict[str, dict[int, float]] | None:
        """Change of the damage with each group at each of its steps; None where time is over before."""
        found: dict[str, dict[int, float]] = {}
        last = path.states[-1]
        for place, name in enumerate(self.names):
            now = best.widths[name]
            found[name] = {now: 0.0}
            for width in steps[name]:
                if width is None:
                    continue
                if not self._time_left():
                    return None
                self._say(f"round {number}, {name} at {width}")
                if width < now:  # one group more, on the plan
                    last = tuple(map(self._fresh(name), self.sides, last))
                    after = float(
                        self._damage_of(tuple(map(self._cut(name, width), self.sides, last))).mean()
                    )
                else:
                    rest = {n: best.widths[n] for n in self.names[place:]} | {name: width}
                    after = self._walked_from(path.states[place], rest).damage
                found[name][width] = after - best.measured
        return found

    def _fresh(self, name: str) -> Callable[[Side, State], State]:
        """What measures the state anew where the group is stale."""

        def taken(side: Side, state: State) -> State:
            return refreshed(side.ground, state, None, self.cancel) if name in state.stale else state

        return taken

    def _cut(self, name: str, width: int) -> Callable[[Side, State], State]:
        """What cuts one group of a state that is fresh."""

        def taken(side: Side, state: State) -> State:
            choice = choice_at(state, name, width, self.way)
            return applied(side.ground, state, choice, None, self.cancel)

        return taken

    def _walked_from(self, states: tuple[State, ...], widths: Mapping[str, int]) -> Path:
        present = {group.name: group.width for group in states[0].groups}
        return self.walked(states, {n: w for n, w in widths.items() if w < present[n]})

    def _solved(
        self, widths: Mapping[str, int], found: Mapping[str, Mapping[int, float]], cost: Total, target: float
    ) -> dict[str, int]:
        curves, allowed = [], []
        for name in self.names:
            choices = sorted(found[name])
            curve = np.zeros(max(choices) + 1)
            curve[choices] = [found[name][w] for w in choices]
            curves.append(curve)
            allowed.append(choices)
        got = least_damage_widths(curves, allowed, cost, target)
        return {name: int(width) for name, width in zip(self.names, got, strict=True)}

    def _time_left(self) -> bool:
        return perf_counter() < self.end

    def _say(self, what: str) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("measuring the plan was cancelled; nothing was changed")
        if self.progress is not None:
            done = min(1.0, 1 - (self.end - perf_counter()) / self.seconds) if self.seconds > 0 else 0.0
            self.progress(int(100 * done), 100, what)
