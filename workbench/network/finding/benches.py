"""Benches: a network on a batch in one precision, on which trials run and are compared.

Trials run at first in the network's own float32, three times as fast: it decides wherever what differs is no
more than the last digits of the numbers themselves, whatever other groups change beside it. Else, and before
anything is refused, they run in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.cached import refresh
from workbench.network.duplicating import duplicate
from workbench.network.finding.seen import Seen, shifts
from workbench.network.finding.training_proof import TrainingTrials, training_trials
from workbench.network.modes import Watching
from workbench.network.running import Inputs, mapped, tensors_of
from workbench.network.tensors import sizes_beside

TOLERANCE, PRECISE = 1e-5, 1e-9  # of what silencing changes: in float32, in float64 all through
CAREFUL, QUICK = 1e4, 4.0  # ε of the type, of the largest number: what may be rounding
COMPARED = 1 << 20  # numbers at a time
DOUBTFUL = 16.0  # the same, beyond which float32 tells nothing: one group may hide behind what others change
ADDED_UP = 1024.0  # the same: what rounding within each layer may come to behind many, 1e-4 in float32
SMALLEST = 1e-25  # float32 loses digits below


class Bench:
    """A network in evaluation mode, and the batch on which it is tried.

    `quick`: what passes here has passed, what does not is tried elsewhere. `tolerance`: of what silencing
    changes, `PRECISE` where it computes in float64 from its inputs to its outputs. `whole`: what was seen of
    the network with all its units, None before it ran.
    """

    def __init__(self, model: nn.Module, example: Inputs, quick: bool):
        self.model, self.example, self.quick = model, example, quick
        self.whole: Seen | None = None
        self.tolerance = TOLERANCE
        self._shared: dict[Any, Any] = {
            id(parameter): parameter for parameter in model.parameters() if type(parameter) is nn.Parameter
        }
        self._shifts = shifts(model)
        self._training: list[TrainingTrials | None] = []  # made when it is asked for

    def copy(self) -> nn.Module:
        """The network once more, with the same parameters: replace them, never write into them."""
        return duplicate(self.model, dict(self._shared))

    def training(self) -> TrainingTrials | None:
        """Trials of what training mode alone does."""
        if not self._training:
            self._training.append(training_trials(self.model, self.example))
        return self._training[0]

    def differs(self, name: str, whole: Tensor, removed: Tensor, zeroed: Tensor) -> bool:
        """Whether `removed` is not `zeroed`, measured against what zeroing did to `whole`.

        `name`: of the reader that gave them, less its bias. On a quick bench also where that cannot be told.
        """
        if not zeroed.is_floating_point():
            return not torch.equal(removed, zeroed)
        if not zeroed.numel():
            return False
        epsilon = torch.finfo(zeroed.dtype).eps
        rounding = (QUICK if self.quick else CAREFUL) * epsilon
        effect, size, off = _sizes(whole, removed, zeroed)
        if all(map(isfinite, (effect, size, off))):  # so is every number
            lost = 2 * epsilon * self._shifts.get(name, 0.0)  # of a bias that was taken off again
            allowed = self.tolerance * effect + rounding * size
            if self.quick and (off > DOUBTFUL * epsilon * size or _hides(lost, max(effect, size), allowed)):
                return True
            slack = self.tolerance * effect + 4 * lost
            beyond = off > slack + rounding * size
            return beyond or (off > slack and _differs(removed, zeroed, slack, rounding))
        return self.quick or self._differs_where_finite(whole, removed, zeroed, rounding)

    def may_add_up(self, removed: Seen, zeroed: Seen) -> bool:
        """Whether `removed` is so near to `zeroed` everywhere that rounding in many layers may be all."""
        for (_, r), (_, z) in zip(removed, zeroed, strict=True):
            if r.shape != z.shape or not z.is_floating_point():
                return False
            if z.numel():
                _, size, off = _sizes(z, r, z)
                if not off <= ADDED_UP * torch.finfo(z.dtype).eps * size:  # nor NaN
                    return False
        return True

    def _differs_where_finite(self, whole: Tensor, removed: Tensor, zeroed: Tensor, rounding: float) -> bool:
        finite = whole.isfinite() & removed.isfinite() & zeroed.isfinite()
        alike = (removed == zeroed) | (removed.isnan() & zeroed.isnan())  # infinities of a mask
        if not bool((finite | alike).all()):
            return True
        whole, removed, zeroed = (torch.where(finite, t, 0.0) for t in (whole, removed, zeroed))
        effect, size, off = _sizes(whole, removed, zeroed)
        slack = self.tolerance * effect
        return not off <= slack + rounding * size or _differs(removed, zeroed, slack, rounding)


def _hides(lost: float, largest: float, allowed: float) -> bool:
    """Whether rounding in float32 may hide a difference larger than what is allowed.

    `lost`: digits that a bias, large beside what it was added to, took.
    """
    return 0 < largest < SMALLEST or (largest > 0 and lost > 4 * allowed)


def _differs(removed: Tensor, zeroed: Tensor, slack: float, rounding: float) -> bool:
    """Whether a difference is more than `slack` and rounding of the numbers beside it in a column."""
    return bool(((removed - zeroed).abs() > slack + rounding * sizes_beside(zeroed)).any())


def _sizes(whole: Tensor, removed: Tensor, zeroed: Tensor) -> tuple[float, float, float]:
    """max |whole − zeroed|, max |zeroed|, max |removed − zeroed|, NaN where there is one.

    Part by part: outputs may be as wide as a vocabulary, and their differences would stand beside them.
    """
    parts = zip(*(tensor.reshape(-1).split(COMPARED) for tensor in (whole, removed, zeroed)), strict=True)
    found = [tuple(map(_largest, (w - z, z, r - z))) for w, r, z in parts]
    effect, size, off = torch.tensor(found, dtype=torch.float64).amax(0).tolist()  # NaN is the largest
    return effect, size, off


def _largest(tensor: Tensor) -> float:
    """max |x|, NaN where there is one."""
    low, high = torch.aminmax(tensor)
    return max(-float(low), float(high))


def quick_bench(model: nn.Module, example: Inputs) -> Bench | None:
    """A bench in the network's own float32; None where it or its input has numbers of another precision."""
    tensors = [*model.parameters(), *model.buffers(), *tensors_of(example)]
    kinds = {tensor.dtype for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()}
    return Bench(model, example, quick=True) if kinds == {torch.float32} else None


@torch.no_grad()
def careful_bench(model: nn.Module, example: Inputs, look: Callable[[Bench], Seen]) -> Bench:
    """A bench in float64, so that rounding is not taken for a difference.

    A network or a device that fixes its own precision is tried in that one. `look` runs the network of a
    bench and says what was seen of it: the pass that tells whether float64 is taken serves the trials.
    """
    try:
        double = duplicate(model).double()
        refresh(double)
        bench = Bench(double, mapped(example, _wide), quick=False)
        with _Narrowing() as narrowing:
            bench.whole = look(bench)
    except Exception:
        return Bench(model, example, quick=False)
    bench.tolerance = TOLERANCE if narrowing.seen else PRECISE
    return bench


class _Narrowing(Watching):
    """Sees whether anything is computed that has fewer digits than float64 from what has as many."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.seen and any(map(_is_narrow, tensors_of([out]))):
            self.seen = any(tensor.dtype == torch.float64 for tensor in tensors_of([args, kwargs or {}]))
        return out


def _is_narrow(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dtype != torch.float64


def _wide(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor
