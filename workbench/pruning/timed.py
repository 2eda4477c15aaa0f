"""Widths for a target in seconds: networks of the widths in question are built, and measured.

Times of layers, normalised so that they add up to the measured whole, say where to look; what a width is
worth is measured. Every network is timed in turn with the original and judged by the ratio within a round, so
that a machine that is busy slows both (latency.py). The target becomes a ratio too: over the time of the
original by which it was set, or else over the original's median in these rounds.

The cost by the layers' times is bisected between the smallest and the widest network allowed. A network meets
the target where the whole 95 % interval of its ratio lies at or under it; the answer is measured once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median

from torch import nn

from workbench.network.latency import PairedTimes, median_interval, time_pair
from workbench.network.running import Inputs
from workbench.pruning.budget import BudgetPlan

STEPS = 8  # networks that are measured at the most
_NEAR = 0.97  # of the target: no need to look for a wider network
_FAR = 0.9  # of the target: too far below it not to be said
_EDGE = 0.1  # of the bracket: steps keep so far from its ends


@dataclass
class Measured:
    """A network of `plan`'s widths: where its cost by the layers' times lies, and its rounds of times."""

    aim: float
    plan: BudgetPlan
    times: PairedTimes
    settled: bool = False

    def is_met(self, target: float) -> bool:
        return self.times.interval[1] <= target

    def may_meet(self, target: float) -> bool:
        return self.times.ratio <= target


@dataclass
class TimedSearch:
    """The search for the widest network that takes `target` seconds at most.

    `solve`: widths for a cost by the layers' times; `build`: a network of these widths; `lowest` and
    `highest` are the costs of the smallest and the widest network allowed. `reference`: seconds of the
    original by the measurement that set the target. `check(done, steps)` is called before each round and may
    raise.
    """

    solve: Callable[[float], BudgetPlan]
    build: Callable[[Mapping[str, int]], nn.Module]
    original: nn.Module
    inputs: Inputs
    target: float
    lowest: float
    highest: float
    reference: float | None = None
    check: Callable[[int, int], None] = lambda done, steps: None
    found: list[Measured] = field(default_factory=list)

    def plan(self) -> BudgetPlan:
        """The plan, with what was measured of it and what there is to say."""
        widest = self._measure(self.highest) or self.found[0]
        if widest.may_meet(self.ratio):
            self._settle(widest)
        if not widest.is_met(self.ratio):
            smallest = self._measure(self.lowest) or self.found[0]
            if smallest.may_meet(self.ratio):
                self._search(smallest, widest)
        return self._said(self._settled())

    def _search(self, low: Measured, high: Measured) -> None:
        """Measure networks between one that may meet the target and one that does not surely meet it."""
        while len(self.found) < STEPS and not (low.is_met(self.ratio) and self._is_near(low)):
            middle = self._measure(self._between(low, high))
            if middle is None:
                return
            if middle.is_met(self.ratio):
                low = middle
            else:
                high = middle

    def _settled(self) -> Measured:
        """The best network, measured again: the best of several measurements is too good to be true."""
        while not (best := self._best()).settled:
            self._settle(best)
            below = max(self._sure, key=lambda one: one.times.ratio, default=best)
            if not best.is_met(self.ratio) and below.aim < best.aim:
                self._search(below, best)
        return best

    @property
    def whole(self) -> float:
        """Seconds of the original: as they were given, or the median of all its passes."""
        return self.reference if self.reference is not None else median(self._passes)

    @property
    def ratio(self) -> float:
        """What the target is of the original's time."""
        return self.target / self.whole

    @property
    def _passes(self) -> list[float]:
        return [seconds for one in self.found for seconds in one.times.first]

    def _is_near(self, one: Measured) -> bool:
        return one.times.ratio >= _NEAR * self.ratio

    def _between(self, low: Measured, high: Measured) -> float:
        """The cost where a straight line between two measured networks meets the target, or the middle."""
        below, above = low.times.ratio, high.times.ratio
        share = 0.5
        if above > below:
            share = min(max((0.985 * self.ratio - below) / (above - below), _EDGE), 1 - _EDGE)
        if len(self.found) % 2:  # the line may creep along a bend: every other step halves
            share = 0.5
        return low.aim + share * (high.aim - low.aim)

    def _measure(self, aim: float) -> Measured | None:
        """The network whose cost by the layers' times is `aim`; None where it was measured before."""
        plan = self.solve(aim)
        if any(one.plan.widths == plan.widths for one in self.found):
            return None
        one = Measured(aim, plan, self._time(plan, decided=True))
        self.found.append(one)
        return one

    def _settle(self, one: Measured) -> None:
        """Put fresh rounds in the place of those by which it was found."""
        one.times, one.settled = self._time(one.plan, decided=False), True

    def _time(self, plan: BudgetPlan, decided: bool) -> PairedTimes:
        """Rounds until the interval is narrow, or where it is enough to be `decided`, on one side."""

        def check() -> None:
            self.check(min(len(self.found), STEPS - 1), STEPS)

        def enough(times: PairedTimes) -> bool:
            if times.is_narrow or not decided:
                return times.is_narrow
            whole = self.reference if self.reference is not None else median(self._passes + times.first)
            return times.excludes(self.target / whole)

        return time_pair(self.original, self.build(plan.widths), self.inputs, enough, check)

    @property
    def _sure(self) -> list[Measured]:
        return [one for one in self.found if one.is_met(self.ratio)]

    def _best(self) -> Measured:
        """The slowest that meets the target; where that is far below it, the slowest that may meet it.

        Where none may, the fastest.
        """
        best = max(self._sure, key=lambda one: one.times.ratio, default=None)
        if best is not None and best.times.ratio >= _FAR * self.ratio:
            return best
        maybe = [one for one in self.found if one.may_meet(self.ratio)]
        if not maybe:
            return min(self.found, key=lambda one: one.times.ratio)
        return max(maybe, key=lambda one: one.times.ratio)

    def _said(self, one: Measured) -> BudgetPlan:
        whole, times = self.whole, one.times
        seconds = whole * times.ratio
        interval = whole * times.interval[0], whole * times.interval[1]
        met = interval[1] <= self.target
        message, doubtful = self._message(one, seconds, interval)
        return replace(
            one.plan,
            target=self.target,
            cost=seconds,
            seconds=seconds,
            interval=interval,
            met=met,
            message=message,
            doubtful=doubtful,
        )

    def _message(self, one: Measured, seconds: float, interval: tuple[float, float]) -> tuple[str, bool]:
        """What was measured, in words, and whether there is something to doubt in it."""
        low, high = median_interval(self._passes or one.times.first)
        text = (
            f"this network takes {_ms(seconds)} ({_ms(interval[0])} to {_ms(interval[1])}), the target is "
            f"{_ms(self.target)}, the original takes {_ms(self.whole)} (here {_ms(low)} to {_ms(high)})"
        )
        if interval[0] > self.target:
            aim = _ms(self.target)
            return f"{aim} cannot be met: the fastest network found takes {_ms(seconds)}; {text}", True
        if interval[1] > self.target:
            todo = "plan again while the machine is quiet, or with a larger example"
            return f"uncertain: the times spread over the target; {text}; {todo}", True
        if seconds < _FAR * self.target and one.aim < self.highest:
            above = min(
                (other.times.ratio for other in self.found if not other.is_met(self.ratio)),
                default=one.times.ratio,
            )
            wider = _ms(self.whole * above)
            return f"far below the target: {text}; the next wider network measured takes {wider}", True
        return text, False


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
