"""One pass over the calibration data measures the moment of every group at every reader's input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Event

import torch
from torch import Tensor, nn

from workbench.data.batches import as_batches, split_batch
from workbench.data.progress import Cancelled, Progress
from workbench.data.randomness import batch_count, each_of
from workbench.measure.passes import run_batch
from workbench.measure.positions import Positions
from workbench.measure.recording import recording
from workbench.network.finding.assembly import IDLE
from workbench.network.groups import UnitGroup
from workbench.network.running import batch_length, device_of, moved
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


def measure_moments(
    model: nn.Module,
    groups: Sequence[UnitGroup],
    data: Iterable,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> dict[str, GroupStatistics]:
    """Measure every prunable group of `groups` in one pass; by group name.

    `data`: inputs, or (inputs, targets), batch by batch; moved to the model's device. Sums are float64 of
    products in the activations' own precision: of float32 ones, within 1e-7 of the trace in every entry
    (method.md §1). Readers that receive the very same tensors have one moment, one object. Positions that an
    attention mask hides are no samples (`positions`).
    `progress(done, total, what)` is called after every batch; a set `cancel` stops before the next one. The
    model is left as it was, hooks removed, whatever happens.

    Raises ValueError where the data is empty or ends before all it promises, a batch does not go through the
    model, or what a reader receives of a group is not finite (naming batch and layer); Cancelled.
    """
    prunable = [group for group in groups if group.prunable]
    idle = [group.writers[0].module for group in groups if group.why_not.endswith(IDLE)]
    data = as_batches(data)
    total, device, positions = batch_count(data), device_of(model), Positions.of_data(model, data)
    count = 0
    shown = False
    with recording(model, prunable, idle) as found:
        for index, batch in enumerate(each_of(data, "calibration")):
            if cancel is not None and cancel.is_set():
                raise Cancelled(f"measuring was cancelled after {index} batches")
            inputs, _ = split_batch(batch, index, "calibration")
            if batch_length(inputs):
                inputs = moved(inputs, device)
                visible = positions.of(inputs)
                shown = shown or not visible.nothing
                found.start(index, visible)
                with visible.followed():
                    run_batch(model, inputs, index)
                found.end()
                count += batch_length(inputs)
            if progress is not None:
                progress(index + 1, total, f"measuring moments, {count} examples")
    if not count:
        raise ValueError("the calibration data is empty: give at least one batch with one example")
    if not shown and found.missed:
        raise ValueError(
            "the attention mask hides every position of the calibration data; expected 1 or True for what "
            "counts, in torch's key_padding_mask False: name another mask, or mask=False where all count"
        )
    return {name: GroupStatistics(one.moments(), *one.activity()) for name, one in found.recorders.items()}
