"""What pruning each group alone does to the outputs, measured **[beyond the paper]**.

A predicted loss is of one layer's readers. What the network makes of it above depends on everything above, so
it is measured: each group alone is cut to some widths, by the selection and reconstruction of the commit, and
the outputs on calibration examples are set beside the original's (`measure.outputs`).

What the rule "damage" adds up over groups is the decay of what is left of the outputs,

    D_g(w) = −log(1 − min(r_g(w), 1 − 1e-6)) − D_now,       r the relative squared change of the outputs,

made to rise as the width falls, linear between the widths that were measured (`GroupDamage.curve`). Tried
beside it on ResNet-20: the divergence itself, its root, its 3/4th power, and geometric means of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from numbers import Integral, Real
from threading import Event
from time import perf_counter

import numpy as np
from torch import nn

from workbench.data.progress import Cancelled, Progress
from workbench.measure.outputs import Distance, Reference
from workbench.network.groups import named_group
from workbench.pruning.choice import Choice
from workbench.pruning.state import State
from workbench.pruning.transitions import Ground, Options, applied, chosen

SHARES = (0.0625, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)  # of each group's width
EXAMPLES = 512
WHOLE = 1e-6  # of the outputs, below which all of them is lost
Score = Callable[[nn.Module], float | None]


@dataclass(frozen=True)
class Trial:
    """One group alone at one width.

    Attributes:
        width: units that are kept.
        change: relative squared change of the outputs, and of each half of the examples, (3,).
        divergence: mean Kullback–Leibler divergence in nats, likewise; NaN where the outputs are no classes.
        loss: predicted output loss, relative to keeping none.
        score: on the evaluation data; NaN where it was not asked for or there is none.
        seconds: what it took.
    """

    width: int
    change: tuple[float, float, float]
    divergence: tuple[float, float, float]
    loss: float
    score: float = float("nan")
    seconds: float = 0.0


@dataclass(frozen=True)
class GroupDamage:
    """One group alone at several widths, ascending, all below its `width`. `now`: with all units."""

    name: str
    width: int
    now: Trial
    trials: tuple[Trial, ...]

    @property
    def widths(self) -> np.ndarray:
        """(k,) int."""
        return np.array([one.width for one in self.trials], dtype=np.int64)

    @property
    def change(self) -> np.ndarray:
        """Relative squared change of the outputs at each of `widths`, (k,)."""
        return np.array([one.change[0] for one in self.trials])

    @property
    def divergence(self) -> np.ndarray:
        """Mean divergence of the outputs at each of `widths`, (k,) nats; NaN where they are no classes."""
        return np.array([one.divergence[0] for one in self.trials])

    @property
    def spread(self) -> np.ndarray:
        """Half the difference between the halves of the examples, of `change`, (k,)."""
        return np.array([abs(one.change[1] - one.change[2]) / 2 for one in self.trials])

    @cached_property
    def curve(self) -> np.ndarray:
        """D at every width 0 to m, (m+1,), never rising; 0 with all units.

        Below the least width that was measured it goes on as steeply as there, by half of D a width at least.
        """
        return _curve(self, lambda one: decayed(one.change[0]))

    @property
    def divergence_curve(self) -> np.ndarray:
        """The divergence at every width 0 to m, (m+1,) nats, less what it is with all units; likewise."""
        return _curve(self, lambda one: one.divergence[0])


def decayed(change: float) -> float:
    """−log(1 − r) of a relative squared change r; −log 1e-6 where all is lost."""
    return float(-np.log1p(-min(max(change, 0.0), 1 - WHOLE))) if change == change else float(-np.log(WHOLE))


def _curve(damage: GroupDamage, value: Callable[[Trial], float]) -> np.ndarray:
    least = value(damage.now)
    widths = [*damage.widths, damage.width]
    values = np.array([*(max(value(one) - least, 0.0) for one in damage.trials), 0.0])
    values = np.maximum.accumulate(values[::-1])[::-1]  # never rises with the width
    found = np.interp(np.arange(damage.width + 1), widths, values)
    first = int(widths[0])
    if first and len(widths) > 1:
        slope = (values[0] - values[1]) / (widths[1] - widths[0])
        slope = max(slope, 0.5 * values[0] / first)
        found[:first] = values[0] + slope * (first - np.arange(first))
    return found


@dataclass(frozen=True)
class Damage:
    """What pruning each group alone does to the outputs, against the original's.

    Attributes:
        groups: of each prunable group, in the order of running.
        are_classes: whether the outputs are classes, so that there is a divergence.
        examples: on how many it was measured.
        theta, selection, reconstruction, lam: how the groups were pruned.
    """

    groups: tuple[GroupDamage, ...]
    are_classes: bool
    examples: int
    theta: float
    selection: str
    reconstruction: str
    lam: float | None

    @property
    def now(self) -> float:
        """D_now, of the network as it stands; 0 for the original."""
        return decayed(self.groups[0].now.change[0]) if self.groups else 0.0

    def decay_at(self, widths: Mapping[str, int]) -> float:
        """Σ_g D_g(w_g); a group that is not named keeps all its units."""
        return sum(float(one.curve[widths.get(one.name, one.width)]) for one in self.groups)

    def change_at(self, widths: Mapping[str, int]) -> float:
        """Predicted relative squared change of the outputs: 1 − exp(−(D_now + Σ_g D_g(w_g)))."""
        return float(-np.expm1(-(self.now + self.decay_at(widths))))

    def of(self, name: str) -> GroupDamage:
        """The group's. Raises ValueError listing the names."""
        for one in self.groups:
            if one.name == name:
                return one
        raise ValueError(f"no damage of {name!r} was measured; of {', '.join(g.name for g in self.groups)}")


@dataclass(frozen=True)
class Way:
    """How groups are pruned when their damage is measured: what trials are kept under."""

    theta: float
    selection: str
    reconstruction: str
    lam: float | None
    examples: int = EXAMPLES

    def __post_init__(self) -> None:
        """As plain numbers, which can be written. Raises ValueError for a λ that is none."""
        lam = self.lam
        if lam is not None and not (isinstance(lam, Real) and isfinite(lam) and lam > 0):
            raise ValueError(
                "λ over the trace must be a positive finite number, or None, where it follows from each "
                f"width; got {lam!r}"
            )
        object.__setattr__(self, "lam", None if lam is None else float(lam))
        object.__setattr__(self, "theta", float(self.theta))
        object.__setattr__(self, "examples", int(self.examples))

    @property
    def options(self) -> Options:
        return Options(self.theta, self.selection, self.reconstruction)


@dataclass
class Measured:
    """What was measured in one way on one state: `trials` by group and width. Filled as it is asked for."""

    now: Trial | None = None
    are_classes: bool = False
    examples: int = 0
    trials: dict[str, dict[int, Trial]] = field(default_factory=dict)


def width_at(width: int, share: float) -> int:
    """The width that stands for `share` of `width`: one unit at least."""
    return max(1, round(share * width))


def grid(width: int, shares: Iterable[float] = SHARES) -> list[int]:
    """The widths below `width` that stand for `shares` of it, ascending. Raises ValueError outside (0, 1]."""
    shares = list(shares)
    for share in shares:
        if not (isinstance(share, Real) and 0 < share <= 1):
            raise ValueError(f"shares of the width lie in (0, 1], got {share!r}")
    return sorted({width_at(width, share) for share in shares} - {width})


def wanted_widths(
    state: State, shares: float | Iterable[float], widths: Mapping[str, int | Sequence[int]]
) -> dict[str, list[int]]:
    """The widths that are to be measured, by group; those of `widths` beside those of `shares`, one or more.

    Raises:
        ValueError: a group that does not exist or cannot be pruned, or a width that it cannot have.
    """
    shares = shares if isinstance(shares, Iterable) else [shares]
    beside = {name: one if isinstance(one, Iterable) else [one] for name, one in widths.items()}
    for name, asked in beside.items():
        group = named_group(state.groups, name)
        if not group.prunable:
            raise ValueError(f"{name} is not prunable: {group.why_not}")
        for width in asked:
            if not (isinstance(width, Integral) and 1 <= width <= group.width):
                raise ValueError(f"{name} has {group.width} units; it cannot get {width!r}")
    return {
        group.name: sorted(
            {*grid(group.width, shares), *map(int, beside.get(group.name, ()))} - {group.width}
        )
        for group in state.groups
        if group.prunable
    }


def measure_damage(
    ground: Ground,
    state: State,
    wanted: Mapping[str, Sequence[int]],
    way: Way,
    reference: Callable[[], Reference],
    score: Score | None = None,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> Damage:
    """Each group of `wanted` alone at its widths; what `state.damages` has already is not measured again.

    Args:
        ground: what a choice is carried out against.
        state: what is pruned; its network stays as it is.
        wanted: widths by group, in the order in which they are measured.
        way: how they are pruned, and on how many examples the outputs are compared.
        reference: the original's outputs on them, made where something is to be measured.
        score: also takes the score of each.

    Raises:
        Cancelled: `cancel` was set; what was measured by then is kept in `state.damages`.
        ValueError, NotMeasuredError: as a commit.
    """
    kept = state.damages.setdefault(way, Measured())
    scored = score is not None
    missing = [(n, w) for n, widths in wanted.items() for w in widths if _is_missing(kept, n, w, scored)]
    if missing or _is_open(kept, score):
        _measure(ground, state, missing, way, reference(), kept, score, progress, cancel)
    return damage_of(state, way)


def damage_of(state: State, way: Way) -> Damage:
    """What is measured so far in this way; of no group, where that is nothing."""
    kept = state.damages.get(way, Measured())
    groups = []
    for group in state.groups:
        trials = kept.trials.get(group.name, {})
        if kept.now is not None and group.prunable and (trials or group.width == 1):
            now = replace(kept.now, width=group.width)
            groups.append(GroupDamage(group.name, group.width, now, tuple(trials[w] for w in sorted(trials))))
    return Damage(
        tuple(groups), kept.are_classes, kept.examples, way.theta, way.selection, way.reconstruction, way.lam
    )


def _is_open(kept: Measured, score: Score | None) -> bool:
    """Whether the network as it is has not been measured."""
    return kept.now is None or (score is not None and np.isnan(kept.now.score))


def _is_missing(kept: Measured, name: str, width: int, scored: bool) -> bool:
    found = kept.trials.get(name, {}).get(width)
    return found is None or (scored and np.isnan(found.score))


def whole_groups(state: State, wanted: Mapping[str, Sequence[int]], way: Way, scored: bool) -> int:
    """How many groups of `wanted` are measured at all their widths; `scored`: with their scores."""
    kept = state.damages.get(way, Measured())
    return sum(not any(_is_missing(kept, name, w, scored) for w in widths) for name, widths in wanted.items())


def _measure(
    ground: Ground,
    state: State,
    missing: Sequence[tuple[str, int]],
    way: Way,
    reference: Reference,
    kept: Measured,
    score: Score | None,
    progress: Progress | None,
    cancel: Event | None,
) -> None:
    kept.examples, kept.are_classes = reference.examples, reference.are_classes
    if _is_open(kept, score):
        kept.now = trial_of(state.running().model, 0, 0.0, reference, score, cancel)
    if way.reconstruction == "original":  # the original runs once for all fits of all groups
        readers = {
            r.module: None
            for name in dict.fromkeys(n for n, _ in missing)
            for r in named_group(state.groups, name).readers
        }
        ground = ground.caching(list(readers), progress, cancel)
    for done, (name, width) in enumerate(missing):
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"measuring damage was cancelled, {done} of {len(missing)} done, which are kept")
        if progress is not None:
            share = width / named_group(state.groups, name).width
            progress(done, len(missing), f"{name} at {share:.0%}")
        began = perf_counter()
        choice = choice_at(state, name, width, way)
        model = applied(ground, state, choice, None, cancel).model
        found = trial_of(model, width, choice.output_loss, reference, score, cancel)
        kept.trials.setdefault(name, {})[width] = replace(found, seconds=perf_counter() - began)


def choice_at(state: State, name: str, width: int, way: Way) -> Choice:
    """The choice of `width` units as a plan makes it: λ relative to the group's trace."""
    problem = state.problem(name)
    absolute = problem.absolute(way.lam, width)
    options = way.options
    order = problem.prefix(absolute, width, options.theta, options.selection)
    return chosen(state, name, width, absolute, options, order)


def trial_of(
    model: nn.Module, width: int, loss: float, reference: Reference, score: Score | None, cancel: Event | None
) -> Trial:
    """How far `model`, which is run here alone, is from the original, and its score where it is asked for."""
    found: Distance = reference.distance(model, cancel)
    taken = None if score is None else score(model)
    change, divergence = (tuple(float(v) for v in part) for part in (found.change, found.divergence))
    return Trial(width, change, divergence, loss, float("nan") if taken is None else taken)  # type: ignore[arg-type]


def count_trials(state: State) -> int:
    """How many numbers were measured on this state, in whatever way, the scores too."""
    measured = [one for one in list(state.damages.values()) if one.now is not None]
    trials = [
        trial for one in measured for each in list(one.trials.values()) for trial in list(each.values())
    ]
    return len(measured) + len(trials) + sum(not np.isnan(trial.score) for trial in trials)


def forecast(state: State, wanted: Mapping[str, Sequence[int]], way: Way) -> tuple[int, float | None]:
    """How many trials of `wanted` are not measured yet, and their seconds by those that are; None by none."""
    kept = state.damages.get(way, Measured())
    missing = sum(_is_missing(kept, name, w, False) for name, widths in wanted.items() for w in widths)
    took = [one.seconds for each in list(kept.trials.values()) for one in list(each.values()) if one.seconds]
    return missing, missing * float(np.mean(took)) if took else None
