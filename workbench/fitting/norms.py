"""Batch norms re-estimated: running statistics of the calibration data for the network as it is now."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from workbench.data.batches import as_batches
from workbench.data.progress import Progress
from workbench.measure.passes import ActivationError, each_batch, run_batch
from workbench.network.running import Inputs, batch_length, device_of, evaluating, joined, mapped, tensors_of
from workbench.network.tensors import sharing_copy

FEW = 16  # examples; smaller batches are put together
LARGE = 1 << 22  # numbers that wait for that at most


def has_running_statistics(model: nn.Module) -> bool:
    """Whether a norm keeps statistics of the data, which could be re-estimated.

    Args:
        model: any network; its batch norms count, those that keep no running statistics do not.

    Returns:
        True where there is such a norm, whether the network runs it or not.
    """
    return bool(_running_norms(model))


def reestimate_norms(
    model: nn.Module, data: Any, progress: Progress | None = None, cancel: Event | None = None
) -> nn.Module:
    """A copy whose batch norms have the running statistics of `data`, in which every example counts the same.

    A norm that runs several times in a pass has the statistics of all it receives there. Variances are those
    within a batch, so batches of a few examples are put together; a single one left over does not count.

    Args:
        model: the network, which is left as it was.
        data: batches of inputs, as `as_batches` takes them; targets are passed over.
        progress: called after every batch.
        cancel: set, it ends the work before the next batch.

    Returns:
        The copy, each norm with mean and variance (channels,) in the units of its own input. All else, the
        modes and the momentum too, is as in `model`; norms that keep no running statistics, that do not
        run, or that are frozen, by a `train` or `forward` of their own, are as they were. Its parameters
        lie in the memory of `model`'s: replace them, never write.

    Raises:
        ValueError: data that is empty or does not go through the model.
        ActivationError: statistics that are not finite, a ValueError too.
        Cancelled: `cancel` was set.

    Source:
        method.md §5 **[beyond the paper]**; Wu and Johnson, "Rethinking 'Batch' in BatchNorm" (2021),
        §3: population statistics from means and squares of all batches ("precise BN").
    """
    found = sharing_copy(model)  # norms write into their buffers alone
    norms = _running_norms(found)
    if not norms:
        return found
    before = {name: (copy.deepcopy(norm.state_dict()), norm.momentum) for name, norm in norms.items()}
    calls = {name: _Calls() for name in norms}
    largest = 0

    def use(index: int, inputs: Inputs) -> None:
        nonlocal largest
        count = batch_length(inputs)
        largest = max(largest, count)
        run_batch(found, inputs, index)
        for one in calls.values():
            one.end_pass(count)

    gathered = _Gathered(use)
    with evaluating(found), torch.no_grad(), ExitStack() as hooks:
        for name, norm in norms.items():
            _take_each_call(norm, calls[name], hooks)
        each_batch(as_batches(data), device_of(found), "re-estimating norms", gathered.add, progress, cancel)
        if not (gathered.examples == 1 and largest > 1):  # one example left over has no variance
            gathered.use_all()
    for name, norm in norms.items():
        state, norm.momentum = before[name]
        calls[name].write(norm, state)
        if not bool(norm.running_mean.isfinite().all() and norm.running_var.isfinite().all()):
            raise ActivationError(f"the input of norm {name} has NaN or Inf: check the data and the weights")
    return found


def _take_each_call(norm: Any, calls: _Calls, hooks: ExitStack) -> None:
    """The norm takes the statistics of each call alone, and `calls` notes them, until `hooks` are closed."""
    if not bool(norm.running_mean.isfinite().all() and norm.running_var.isfinite().all()):
        norm.reset_running_stats()  # else they would stay so
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.zero_()
    norm.train()
    norm.momentum = 1.0
    hooks.callback(norm.register_forward_pre_hook(calls.begin).remove)
    hooks.callback(norm.register_forward_hook(calls.note).remove)


def _running_norms(model: nn.Module) -> dict[str, Any]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def _learned(norm: Any) -> list[Tensor]:
    """What a norm writes into where it takes statistics."""
    found = (norm.running_mean, norm.running_var, norm.num_batches_tracked)
    return [tensor for tensor in found if tensor is not None]


class _Calls:
    """What one norm receives: the calls of a pass pooled, the passes weighted by their examples."""

    def __init__(self) -> None:
        self.examples = 0
        self.mean = self.variance = torch.zeros((), dtype=torch.float64)
        self._pass: list[tuple[int, Tensor, Tensor]] = []
        self._before: list[Tensor] = []

    def begin(self, norm: Any, _args: tuple) -> None:
        self._before = [tensor.clone() for tensor in _learned(norm)]

    def note(self, norm: Any, _args: tuple, output: Tensor) -> None:
        """A call: its samples a channel, and their mean and variance, (channels,).

        Nothing where it took no statistics: one that is frozen has those that it had.
        """
        if all(map(torch.equal, self._before, _learned(norm))):
            return
        samples = output.numel() // max(norm.num_features, 1)
        statistics = (value.double().cpu() for value in (norm.running_mean, norm.running_var))
        self._pass.append((samples, *statistics))

    def end_pass(self, examples: int) -> None:
        if not self._pass:
            return
        counts = torch.tensor([count for count, _, _ in self._pass], dtype=torch.float64)[
            :, None
        ]  # (calls, 1)
        means, variances = (torch.stack(values) for values in list(zip(*self._pass, strict=True))[1:])
        total = counts.sum()
        mean = (counts * means).sum(0) / total  # (channels,)
        # Σ(x − x̄)² of all calls: within each, and of its own mean.
        squares = ((counts - 1) * variances + counts * (means - mean).square()).sum(0)
        self.examples += examples
        share = examples / self.examples
        self.mean = (1 - share) * self.mean + share * mean
        self.variance = (1 - share) * self.variance + share * squares / (total - 1)
        self._pass.clear()

    def write(self, norm: Any, before: dict[str, Tensor]) -> None:
        """The norm's statistics, or those of `before` where it was not called."""
        if not self.examples:
            norm.load_state_dict(before)
            return
        norm.running_mean.copy_(self.mean)
        norm.running_var.copy_(self.variance)


@dataclass
class _Gathered:
    """Hands batches of few examples to `use` as one, where they go together; else as they came."""

    use: Callable[[int, Inputs], None]
    waiting: list[tuple[int, Inputs]] = field(default_factory=list)

    @property
    def examples(self) -> int:
        """Those that wait."""
        return sum(batch_length(inputs) for _, inputs in self.waiting)

    def add(self, index: int, inputs: Inputs) -> None:
        few = batch_length(inputs) < FEW
        # A copy, since a loader may fill the same tensors again.
        self.waiting.append((index, mapped(inputs, torch.clone) if few else inputs))
        numbers = sum(tensor.numel() for _, one in self.waiting for tensor in tensors_of(one))
        if self.examples >= FEW or numbers >= LARGE:
            self.use_all()

    def use_all(self) -> None:
        """Use what waits."""
        whole = joined([inputs for _, inputs in self.waiting]) if len(self.waiting) > 1 else None
        for index, inputs in self.waiting if whole is None else [(self.waiting[0][0], whole)]:
            self.use(index, inputs)
        self.waiting.clear()
