"""One pass over the calibration data measures the moment of every group at every reader's input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any

import torch
from torch import Tensor, nn

from workbench.data.batches import as_batches, batch_count, split_batch
from workbench.data.progress import Cancelled, Progress
from workbench.data.randomness import each_of
from workbench.measure.passes import ActivationError, run_batch
from workbench.network.finding.assembly import IDLE
from workbench.network.groups import Reader, UnitGroup
from workbench.network.running import (
    batch_length,
    device_of,
    evaluating,
    moved,
    received,
)
from workbench.spectral.moment import Moment


@dataclass(frozen=True)
class GroupStatistics:
    """What was measured of one group.

    `moments`: one a reader, in the group's order. `active` (m,): share of samples where a unit is not zero,
    and `magnitude` (m,): mean |φ|, both over the first reader's samples. `taylor` (m,): |mean of gradient ×
    activation|, where it was measured.
    """

    moments: tuple[Moment, ...]
    active: Tensor
    magnitude: Tensor
    taylor: Tensor | None = None

    def restrict(self, kept: Sequence[int]) -> GroupStatistics:
        """The statistics of the kept units alone."""
        index = torch.as_tensor(list(kept))
        moments = tuple(moment.restrict(kept) for moment in self.moments)
        taylor = None if self.taylor is None else self.taylor[index]
        return GroupStatistics(moments, self.active[index], self.magnitude[index], taylor)

    def state(self) -> dict[str, Tensor]:
        """Tensors by name, for a file."""
        out = {"active": self.active, "magnitude": self.magnitude}
        if self.taylor is not None:
            out["taylor"] = self.taylor
        for index, moment in enumerate(self.moments):
            out |= {f"{index}.{key}": value for key, value in moment.state().items()}
        return out

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> GroupStatistics:
        """The inverse of `state`."""
        readers = sorted({int(key.split(".")[0]) for key in state if "." in key})
        parts = [{k.split(".", 1)[1]: v for k, v in state.items() if k.startswith(f"{r}.")} for r in readers]
        moments = tuple(Moment.from_state(part) for part in parts)
        return cls(moments, state["active"], state["magnitude"], state.get("taylor"))


class _Recorder:
    """Sums at one reader's input."""

    def __init__(self, group: UnitGroup, reader: Reader, primary: bool):
        self.group, self.reader, self.primary = group, reader, primary
        self.moment = Moment.zeros(group.width)
        self.active = torch.zeros(group.width, dtype=torch.float64)
        self.magnitude = torch.zeros(group.width, dtype=torch.float64)
        self.batch = 0

    def __call__(self, _module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        samples = self.reader.samples(received(args, kwargs).detach())
        if not torch.isfinite(samples).all():
            what = "NaN" if torch.isnan(samples).any() else "Inf"
            raise ActivationError(
                f"calibration batch {self.batch} has {what} at the input of layer {self.reader.module}: "
                f"check that batch, and the weights of {self.group.name}"
            )
        self.moment.update(samples)
        if self.primary:
            self.active += (samples != 0).sum(0).double().cpu()
            self.magnitude += samples.abs().sum(0, dtype=torch.float64).cpu()


def measure_moments(
    model: nn.Module,
    groups: Sequence[UnitGroup],
    data: Iterable,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> dict[str, GroupStatistics]:
    """Measure every prunable group of `groups` in one pass; by group name.

    `data`: inputs, or (inputs, targets), batch by batch; moved to the model's device. Sums are float64
    (method.md §1). `progress(done, total, what)` is called after every batch; a set `cancel` stops before
    the next one. The model is left as it was, hooks removed, whatever happens.

    Raises ValueError where the data is empty, a batch does not go through the model, or what a reader
    receives of a group is not finite (naming batch and layer); Cancelled.
    """
    prunable = [group for group in groups if group.prunable]
    idle = [group.writers[0].module for group in groups if group.why_not.endswith(IDLE)]
    recorders = {
        group.name: [_Recorder(group, reader, index == 0) for index, reader in enumerate(group.readers)]
        for group in prunable
    }
    data = as_batches(data)
    total, device = batch_count(data), device_of(model)
    count = index = 0
    with _recording(model, [r for group in recorders.values() for r in group], idle) as started:
        for index, batch in enumerate(each_of(data)):
            if cancel is not None and cancel.is_set():
                raise Cancelled(f"measuring was cancelled after {index} batches")
            inputs, _ = split_batch(batch, index, "calibration")
            if batch_length(inputs):
                started(index)
                run_batch(model, moved(inputs, device), index)
                count += batch_length(inputs)
            if progress is not None:
                progress(index + 1, total, f"measuring moments, {count} examples")
    if not count:
        raise ValueError("the calibration data is empty: give at least one batch with one example")
    if total is not None and index + 1 < total:
        raise ValueError(
            f"the calibration data promises {total} batches, but ended after {index + 1}: "
            "nothing was measured"
        )
    return {name: _statistics(parts) for name, parts in recorders.items()}


def _statistics(parts: list[_Recorder]) -> GroupStatistics:
    first = parts[0]
    samples = max(first.moment.count, 1)
    return GroupStatistics(
        tuple(part.moment for part in parts), first.active / samples, first.magnitude / samples
    )


@contextmanager
def _recording(model: nn.Module, recorders: list[_Recorder], idle: Sequence[str] = ()):
    """Hooks in place, the model in evaluation mode; both undone at the end. `idle` layers must not run."""
    batch = 0
    handles = [
        model.get_submodule(r.reader.module).register_forward_pre_hook(r, with_kwargs=True) for r in recorders
    ]

    for name in idle:

        def wake(_module: nn.Module, _args: tuple, name: str = name) -> None:
            raise ActivationError(
                f"layer {name} runs on calibration batch {batch}, but not on the example from which the unit "
                "groups were found: give example_input= with examples that reach every layer"
            )

        handles.append(model.get_submodule(name).register_forward_pre_hook(wake))

    def started(index: int) -> None:
        nonlocal batch
        batch = index
        for recorder in recorders:
            recorder.batch = index

    try:
        with evaluating(model), torch.no_grad():
            yield started
    finally:
        for handle in handles:
            handle.remove()
