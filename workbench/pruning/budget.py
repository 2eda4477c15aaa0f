"""Widths for a target: equal ratio, one shared λ, least loss per cost, least measured damage (method.md §7).

The last two are **[beyond the paper]**. A target is a number of parameters, of MACs, of seconds a forward
pass, or of megabytes. Every rule respects locked groups, a minimum width and a rounding multiple, and ends at
the target or just under it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np

from workbench.network.cost_model import CostModel, Total, spread
from workbench.pruning.least_damage import least_damage_widths
from workbench.pruning.least_loss import decay, least_loss_widths
from workbench.spectral.bounds import suggested_width

RULES = ("equal", "shared", "least", "damage")
UNITS = ("parameters", "macs", "seconds", "megabytes")
_BISECTIONS = 60


@dataclass(frozen=True)
class GroupBudget:
    """What the rules know of one group; what a rule does not ask for may be left out.

    Attributes:
        name: the group's.
        width: its units m.
        losses: (m+1,), what a choice of each width predicts, `Choice.output_loss`, by the θ, λ and selection
            of the commit: near to 1e-3 between the widths m, m/2, m/4, … (`GroupProblem.width_losses`).
        eigenvalues: (m,), for the shared λ.
        weight: ω, how much of the network's signal goes through the group; 1 for a plain layer.
        comparable: (m+1,), r at every width, relative to keeping none, on the scale on which the rule "least"
            compares layers (least_loss.py); None: `losses`.
        damage: (m+1,), D at every width, measured (damage.py), for the rule "damage".
    """

    name: str
    width: int
    losses: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    eigenvalues: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    weight: float = 1.0
    comparable: np.ndarray | None = field(default=None, repr=False, compare=False)
    damage: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def decay(self) -> np.ndarray:
        """−ω · log(1 − r) at every width, (m+1,), see `least_loss.decay`."""
        return decay(self.losses if self.comparable is None else self.comparable, self.weight)

    def degrees_of_freedom(self, lam: float) -> float:
        """N(λ), λ relative to the trace."""
        trace = float(self.eigenvalues.sum())
        if trace <= 0:
            return 0.0
        values = self.eigenvalues / trace
        return float((values / (values + lam)).sum())


@dataclass(frozen=True)
class BudgetPlan:
    """Widths for all prunable groups, and what the network would cost with them.

    Attributes:
        rule: one of `RULES`.
        unit: one of `UNITS`, what `target` and `cost` count.
        target: what was asked for.
        widths: by the group's name.
        cost: of the network with these widths; in seconds it is measured; megabytes are of weights, buffers
            and what a decoder keeps for its next call.
        parameters: exact.
        macs: of one example, exact.
        met: whether the cost is at or under the target; in seconds, whether all of `interval` is.
        message: what the nearest is where the target is not met; in seconds always what was measured: the
            network's time and its spread, the target, the original's time.
        lam: the shared λ, relative to the trace, for the rule "shared".
        seconds: measured, for the unit "seconds": the median ratio to the original, times its seconds.
        interval: where that median lies 95 times in 100, in seconds.
        doubtful: whether the target is missed, or the answer uncertain or far below the target.
        losses: predicted output loss of each group alone at its width, relative to keeping none, by the
            choice with which the plan is committed: `Session.preview` gives the same on the network as it
            stands. A commit before it changes rows that criteria of weights look at, and a reader's outputs.
        change: predicted relative squared change of the outputs against the original's, with what was
            committed before: 1 − exp(−D_now − Σ_g D_g(w_g)). Where damage is measured; None elsewhere.
        rounds: what was measured on the way to a refined plan (refining.py).
    """

    rule: str
    unit: str
    target: float
    widths: dict[str, int]
    cost: float
    parameters: int
    macs: int
    met: bool
    message: str = ""
    lam: float | None = None
    seconds: float | None = None
    interval: tuple[float, float] | None = None
    doubtful: bool = False
    losses: dict[str, float] = field(default_factory=dict)
    change: float | None = None
    rounds: tuple[Round, ...] = ()


@dataclass(frozen=True)
class Round:
    """One plan that was carried out beside the network, and the damage that was measured.

    Attributes:
        what: the rule whose plan it is, or the round.
        widths: by the group's name.
        predicted: the damage by what was known before, in the unit of `measured`; NaN where nothing was.
        measured: of the outputs: the mean Jensen–Shannon divergence in nats, 0 to log 2, or the relative
            squared change where they are no classes.
        kept: whether it was the best so far.
        seconds: what it took.
    """

    what: str
    widths: dict[str, int]
    predicted: float
    measured: float
    kept: bool
    seconds: float


@dataclass(frozen=True)
class Limits:
    """What a person fixed. `locks`: widths of groups that stay as given. `minimum`: units that every group
    keeps at least. `multiple`: widths are multiples of it, or the whole width.
    """

    locks: Mapping[str, int] = field(default_factory=dict)
    minimum: int = 1
    multiple: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "locks", {name: _as_int(width) for name, width in self.locks.items()})
        object.__setattr__(self, "minimum", _as_int(self.minimum))
        object.__setattr__(self, "multiple", _as_int(self.multiple))


def _as_int(number: Any) -> Any:
    """A whole number of another kind, NumPy's or a float, as an int; anything else as it is."""
    return int(float(number)) if isinstance(number, Real) and float(number).is_integer() else number


def _is_count(number: Any) -> bool:
    return isinstance(number, Integral) and int(number) >= 1


def widths_at(groups: Sequence[GroupBudget], lam: float, limits: Limits | None = None) -> dict[str, int]:
    """Every group's width at one λ: ⌈N(λ)⌉, or the next above it that the limits allow.

    Rounded up, since N(λ) is what the group needs at this λ; the page does the same (cost.js).

    Args:
        groups: with their eigenvalues; a locked one keeps its lock.
        lam: λ relative to each group's trace.
        limits: locks, least width and multiple; none of them by default.

    Returns:
        Units by group name.
    """
    limits = limits or Limits()
    wanted = _wanted_at(groups, lam)
    widths = _raised(wanted, [allowed_widths(group, limits) for group in groups])
    return {group.name: width for group, width in zip(groups, widths, strict=True)}


def solve(
    rule: str,
    groups: Sequence[GroupBudget],
    model: CostModel,
    target: float,
    unit: str = "macs",
    limits: Limits | None = None,
    seconds: Mapping[str, float] | None = None,
    biased: bool = False,
    memory: Total | None = None,
) -> BudgetPlan:
    """Widths at the `target` or just under it.

    `rule`: "equal", every group keeps the same share; "shared", every group keeps ⌈N(λ)⌉ at one λ relative
    to its trace; "least", units go one at a time where the decay rises least per cost saved; "damage", the
    least sum of the damages that were measured. `seconds`: of a forward pass, by module and "" for the whole,
    for the unit "seconds"; `memory`: `memory_cost`, for the unit "megabytes". `biased`: readers of fewer
    units get a bias (`CostModel.total`).

    Raises ValueError for an unknown rule or unit, a target that is not positive, or locks that name no group
    or no width of it.
    """
    limits = limits or Limits()
    check_request(rule, groups, target, unit, limits)
    target = float(target)
    cost = cost_in(unit, model, seconds, biased, memory)
    allowed = [allowed_widths(group, limits) for group in groups]
    smallest = [choices[0] for choices in allowed]
    lam = None
    if cost.total(smallest) > target:
        widths = smallest
    elif cost.total([choices[-1] for choices in allowed]) <= target:
        widths = [choices[-1] for choices in allowed]
    elif rule == "least":
        widths = least_loss_widths([group.decay for group in groups], allowed, cost, target)
    elif rule == "damage":
        widths = least_damage_widths([measured(group) for group in groups], allowed, cost, target)
    else:
        wanted, lam = _wanted(rule, groups, allowed, cost, target)
        widths = _filled(wanted, _rounded(rule, wanted, allowed), allowed, cost, target)
    named = {group.name: width for group, width in zip(groups, widths, strict=True)}
    parameters, macs = model.total(named, biased)
    found = cost.total(widths)
    met = found <= target
    message = "" if met else f"{_said(target, unit)} cannot be met: the nearest is {_said(found, unit)}"
    return BudgetPlan(rule, unit, target, named, found, parameters, macs, met, message, lam, doubtful=not met)


def measured(group: GroupBudget) -> np.ndarray:
    """D at every width. Raises ValueError where it was not measured."""
    if group.damage is None:
        raise ValueError(f"the damage of {group.name} is not measured: session.damage() measures it")
    return group.damage


def _said(cost: float, unit: str) -> str:
    if unit == "seconds":
        return f"{1000 * cost:.3g} ms"
    if unit == "megabytes":
        return f"{cost:.4g} MB"
    return f"{cost:,.0f} {'MACs' if unit == 'macs' else unit}"


def check_request(rule: str, groups: Sequence[GroupBudget], target: float, unit: str, limits: Limits) -> None:
    """Raises ValueError for what `solve` cannot be asked."""
    if rule not in RULES:
        raise ValueError(f"the rule must be one of {', '.join(RULES)}; got {rule!r}")
    if unit not in UNITS:
        raise ValueError(f"the unit must be one of {', '.join(UNITS)}; got {unit!r}")
    if isinstance(target, bool) or not isinstance(target, Real) or not target > 0:
        raise ValueError(f"the target must be a positive number of {unit}; got {target!r}")
    if not (_is_count(limits.minimum) and _is_count(limits.multiple)):
        raise ValueError(
            "the minimum width and the multiple must be whole numbers, 1 or more; got "
            f"{limits.minimum}, {limits.multiple}"
        )
    widths = {group.name: group.width for group in groups}
    for name, width in limits.locks.items():
        if name not in widths:
            raise ValueError(f"no prunable group is called {name!r}; there are {', '.join(widths)}")
        if not _is_count(width) or width > widths[name]:
            raise ValueError(f"{name} has {widths[name]} units; it cannot be locked at {width}")


def allowed_widths(group: GroupBudget, limits: Limits) -> list[int]:
    """Widths that the group may have, ascending; the last is the whole, or the locked one."""
    if group.name in limits.locks:
        return [limits.locks[group.name]]
    q = limits.multiple
    start = -(-min(limits.minimum, group.width) // q) * q
    return [*range(start, group.width, q), group.width]


def cost_in(
    unit: str,
    model: CostModel,
    seconds: Mapping[str, float] | None = None,
    biased: bool = False,
    memory: Total | None = None,
) -> Total:
    """The cost in `unit` as a function of the widths; arguments as for `solve`."""
    if unit == "megabytes":
        if memory is None:
            raise ValueError("a target in megabytes needs what each unit takes: give memory")
        return memory
    if unit == "parameters":
        return Total(model, model.parameters, lambda t: (spread(t, t.parameters), t.biases), biased)
    if unit == "macs":
        return Total(model, model.macs, lambda t: (spread(t, t.macs), 0.0))
    if not seconds:
        raise ValueError("a target in seconds needs the time of every module: give seconds")
    times = dict(seconds)  # `time_by_module`: the layers' times add up to the whole at most
    return Total(model, times[""], lambda t: (spread(t, times.get(t.name, 0.0)), 0.0))


def _wanted(
    rule: str, groups: Sequence[GroupBudget], allowed: list[list[int]], cost: Total, target: float
) -> tuple[list[float], float | None]:
    """The real-valued widths at the largest share, or the smallest λ, that meets the target."""

    def at(share: float) -> list[float]:
        if rule == "equal":
            return [share * group.width for group in groups]
        lam = 10.0 ** (-12 * share)  # λ from 1 down to 1e-12 of the trace
        return _wanted_at(groups, lam)

    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if cost.total(_rounded(rule, at(middle), allowed)) <= target:
            low = middle
        else:
            high = middle
    return at(low), 10.0 ** (-12 * low) if rule == "shared" else None


def _wanted_at(groups: Sequence[GroupBudget], lam: float) -> list[float]:
    return [float(suggested_width(group.degrees_of_freedom(lam), group.width)) for group in groups]


def _rounded(rule: str, wanted: Sequence[float], allowed: list[list[int]]) -> list[int]:
    """An equal share is a share at most, λ asks for ⌈N(λ)⌉ units at least."""
    return (_raised if rule == "shared" else _floored)(wanted, allowed)


def _raised(wanted: Sequence[float], allowed: list[list[int]]) -> list[int]:
    return [
        next((w for w in choices if w >= want), choices[-1])
        for want, choices in zip(wanted, allowed, strict=True)
    ]


def _floored(wanted: Sequence[float], allowed: list[list[int]]) -> list[int]:
    return [
        max((w for w in choices if w <= want + 1e-9), default=choices[0])
        for want, choices in zip(wanted, allowed, strict=True)
    ]


def _filled(
    wanted: list[float], rounded: list[int], allowed: list[list[int]], cost: Total, target: float
) -> list[int]:
    """A step up from `rounded`, the most wanting first, where it still fits under the target."""
    widths = list(rounded)
    total = cost.total(widths)
    for group in sorted(range(len(widths)), key=lambda g: rounded[g] - wanted[g]):
        above = [w for w in allowed[group] if w > widths[group]]
        if above and (extra := -cost.saving(group, above[0], widths)) <= target - total:
            widths[group] = above[0]
            total += extra
    return widths
