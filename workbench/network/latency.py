"""Seconds of a forward pass: of a network, of each of its modules, and of two networks side by side.

Two things spoil times on a busy machine. A pass that is interrupted takes many times its time: so a time here
is the fastest of a few passes in a row, a burst. And a machine that is slow for a while slows whatever runs
then: so two networks are compared in rounds, a burst of each in every round, pass by pass in turn, and what
counts is the ratio within a round: the median over the rounds, with an interval for it that supposes nothing
about how the times are spread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import comb
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import nn

from workbench.network.running import Inputs, call, evaluating, tensors_of

WARM_UP = 2  # passes before the first that counts
BURST = 5  # passes of which the fastest counts, unless one takes longer than interruptions do
_LONG = 0.1  # seconds that a burst is to take at the most
_FEWEST, _MOST = 9, 31  # rounds; odd, so that the median is one of them
_NARROW = 0.02  # half the interval's width over the median: more rounds would tell nothing new


def measure_latency(model: nn.Module, inputs: Inputs, repeats: int = 20) -> float:
    """Seconds of a forward pass over `inputs` that nothing interrupts.

    Args:
        model: run in evaluation mode, without gradients; every module keeps the mode it had.
        inputs: one batch, on the model's device.
        repeats: passes, after two that do not count.

    Returns:
        The median over bursts of the fastest pass in each, the device's work included. Bursts are of 5
        passes, of fewer where those take longer than 0.1 s.
    """
    wait = _device_wait(model, inputs)
    with evaluating(model), torch.no_grad():
        burst = _burst([_pass(model, inputs, wait) for _ in range(WARM_UP)])
        seconds = [_pass(model, inputs, wait) for _ in range(repeats)]
    return median(min(seconds[i : i + burst]) for i in range(0, repeats, burst))


def time_by_module(model: nn.Module, inputs: Inputs, repeats: int = 7) -> dict[str, float]:
    """Seconds in every module that `inputs` calls, without its children's, and of the whole under ''.

    A module that is called twice in a pass counts twice; the work that the whole does outside of its modules
    belongs to ''. The watching costs time of its own, so the modules' times are scaled to add up to at most
    the whole as it runs unwatched.

    Args:
        model: as for `measure_latency`.
        inputs: one batch, on the model's device.
        repeats: passes; each module's time is that of its fastest.

    Returns:
        Seconds by the module's name; '' is `measure_latency(model, inputs)`.
    """
    watch = _Watch(model, _device_wait(model, inputs))
    passes: list[dict[str, float]] = []
    try:
        with evaluating(model), torch.no_grad():
            for count in range(WARM_UP + repeats):
                watch.own = {}
                call(model, inputs)
                if count >= WARM_UP:
                    passes.append(watch.own)
    finally:
        watch.end()
    names = {name for one in passes for name in one}
    own = {name: min(one.get(name, 0.0) for one in passes) for name in names}
    watched, whole = sum(own.values()), measure_latency(model, inputs)
    scale = whole / watched if watched > 0 else 0.0  # Σ own = the whole, the work outside included
    return {name: scale * seconds for name, seconds in own.items() if name} | {"": whole}


class _Watch:
    """Hooks that add up the seconds in each module less those in its children, in `own`, until `end`."""

    def __init__(self, model: nn.Module, wait: Callable[[], None]):
        self.own: dict[str, float] = {}
        self._running: list[list[float]] = []  # of each call under way: its start, seconds in its children
        self._wait = wait
        self._handles: list[Any] = []
        for name, module in model.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._begin))
            self._handles.append(module.register_forward_hook(self._ending(name)))

    def _begin(self, _module: nn.Module, _args: Any) -> None:
        self._wait()
        self._running.append([perf_counter(), 0.0])

    def _ending(self, name: str) -> Callable[..., None]:
        def end(_module: nn.Module, _args: Any, _output: Any) -> None:
            self._wait()
            start, inside = self._running.pop()
            seconds = perf_counter() - start
            self.own[name] = self.own.get(name, 0.0) + seconds - inside
            if self._running:
                self._running[-1][1] += seconds

        return end

    def end(self) -> None:
        for handle in self._handles:
            handle.remove()


@dataclass
class PairedTimes:
    """Seconds of two networks, of each in every round."""

    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Second over first, of every round."""
        return [b / a for a, b in zip(self.first, self.second, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return median(self.ratios)

    @property
    def interval(self) -> tuple[float, float]:
        """Where the median of the ratios lies, 95 times in 100."""
        return median_interval(self.ratios)

    @property
    def is_narrow(self) -> bool:
        """Whether the interval is so narrow that more rounds would tell nothing new."""
        low, high = self.interval
        return high - low <= 2 * _NARROW * self.ratio

    def excludes(self, ratio: float) -> bool:
        """Whether `ratio` lies outside of the interval."""
        low, high = self.interval
        return not low <= ratio <= high


def time_pair(
    first: nn.Module,
    second: nn.Module,
    inputs: Inputs,
    enough: Callable[[PairedTimes], bool] = lambda times: times.is_narrow,
    check: Callable[[], None] = lambda: None,
) -> PairedTimes:
    """Bursts of two networks, pass by pass in turn, until `enough` after 9 rounds or more, 31 at the most.

    Which of the two is first changes from pass to pass, so that neither always runs on what the other left
    behind. `check` is called before every round and may raise, to give up.
    """
    times = PairedTimes()
    turns = [(model, _device_wait(model, inputs)) for model in (first, second)]
    with evaluating(first), evaluating(second), torch.no_grad():
        burst = _burst([_pass(model, inputs, wait) for _ in range(WARM_UP) for model, wait in turns])
        while len(times.first) < _MOST:
            check()
            fastest = {0: float("inf"), 1: float("inf")}
            for count in range(burst):
                for which in (0, 1) if (count + len(times.first)) % 2 == 0 else (1, 0):
                    fastest[which] = min(fastest[which], _pass(turns[which][0], inputs, turns[which][1]))
            times.first.append(fastest[0])
            times.second.append(fastest[1])
            if len(times.first) >= _FEWEST and enough(times):
                break
    return times


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median of what `values` are drawn from, whatever its distribution.

    From the (k+1)-th smallest to the (k+1)-th largest of n values, for the largest k with
    Σ_{i≤k} C(n, i)/2ⁿ ≤ 2.5 %: each value lies below the median with probability 1/2, so this is how often k
    or fewer of them do (David and Nagaraja, Order Statistics, 2003, §7.1). Under 6 values: all of them.
    """
    ordered, n = sorted(values), len(values)
    k, below = 0, 1 + n  # how many of the 2ⁿ ways have k + 1 or fewer values below the median
    while below <= 0.025 * 2**n:
        k += 1
        below += comb(n, k + 1)
    return ordered[k], ordered[-1 - k]


def _burst(seconds: Sequence[float]) -> int:
    """How many passes a burst has, by the seconds of a few."""
    return min(BURST, max(1, int(_LONG / max(min(seconds), 1e-9))))


def _pass(model: nn.Module, inputs: Inputs, wait: Callable[[], None]) -> float:
    wait()
    start = perf_counter()
    call(model, inputs)
    wait()
    return perf_counter() - start


def _device_wait(model: nn.Module, inputs: Inputs) -> Callable[[], None]:
    """What waits until the devices of model and inputs have done their work; theirs goes on by itself."""
    tensors: Iterable[torch.Tensor] = (*model.parameters(), *model.buffers(), *tensors_of(inputs))
    devices = {tensor.device for tensor in tensors}
    gpus = [device for device in devices if device.type == "cuda"]
    metal = any(device.type == "mps" for device in devices)

    def wait() -> None:
        for device in gpus:
            torch.cuda.synchronize(device)
        if metal:
            torch.mps.synchronize()

    return wait
