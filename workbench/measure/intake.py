"""Batches brought to a network: on its device, and in its floating type where it takes no other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from workbench.data.batches import Batches, Rewritten, first_inputs, split_batch
from workbench.network.running import call, device_of, evaluating, mapped, moved, tensors_of


class Intake:
    """Brings inputs to `model`: on its device, floating numbers in its type where it does not run on theirs.

    NumPy's numbers are float64, a network's mostly float32. A network that takes another type, and converts
    it itself, gets what was given. Whole numbers stay as they are.
    """

    def __init__(self, model: nn.Module):
        self.model, self.device = model, device_of(model)
        kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
        self.dtype = kinds.pop() if len(kinds) == 1 else None  # several: no one type is the network's
        self._casts: bool | None = None

    def __call__(self, inputs: Any) -> Any:
        inputs = moved(inputs, self.device)
        return converted(inputs, self.dtype) if self.dtype and self.casts(inputs) else inputs

    def casts(self, inputs: Any) -> bool:
        """Whether inputs like these, on the network's device, are converted."""
        if self.dtype is None or all(
            t.dtype == self.dtype or not t.is_floating_point() for t in tensors_of(inputs)
        ):
            return False
        if self._casts is None:
            self._casts = not self._runs(inputs) and self._runs(converted(inputs, self.dtype))
        return self._casts

    def _runs(self, inputs: Any) -> bool:
        try:
            with evaluating(self.model), torch.no_grad():
                call(self.model, inputs)
        except Exception:
            return False
        return True


def converted(inputs: Any, dtype: torch.dtype) -> Any:
    """`inputs` with all floating numbers in `dtype`."""
    return mapped(inputs, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def taken_by(model: nn.Module, data: Iterable) -> Iterable:
    """`data`, from `as_batches`, with inputs in the network's floating type where it takes no other."""
    intake = Intake(model)
    if intake.dtype is None or not intake.casts(moved(first_inputs(data), intake.device)):
        return data
    if isinstance(data, Batches):
        return replace(data, inputs=converted(data.inputs, intake.dtype))
    dtype = intake.dtype

    def form(index: int, batch: Any) -> Any:
        inputs, targets = split_batch(batch, index, "calibration")
        return converted(inputs, dtype), targets

    return Rewritten(data, form)
