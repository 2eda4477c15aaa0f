"""The selection problem of one group: its moments, readouts and losses, ready for any width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.measure.moments import GroupStatistics
from workbench.network.groups import UnitGroup
from workbench.network.layers import layer_weight
from workbench.spectral.bounds import local_error, removal_error
from workbench.spectral.greedy import GreedySelector
from workbench.spectral.losses import losses_along
from workbench.spectral.moment import Moment
from workbench.spectral.reconstruction import reconstruction_matrix
from workbench.spectral.regression import FIT_LAM, shared_ridges
from workbench.spectral.selection import SELECTIONS, Evidence
from workbench.spectral.spectrum import Spectrum

WHOLE_PATH = 512  # units up to which a greedy path takes all of them

BUDGET_LAM = FIT_LAM  # of the trace


class NotMeasuredError(RuntimeError):
    """What a choice needs is not measured yet."""


@dataclass(frozen=True)
class LossCurve:
    """Losses relative to keeping no unit, against the width (method.md §3): every array is (k+1,) float64.

    k is the group's width, or less in a group of more than 512 units. The ridge is that of the chosen λ
    and width at every point of the curve.
    """

    widths: Tensor
    input: Tensor
    output: Tensor
    combined: Tensor


class GroupProblem:
    """All that a choice for one group needs; what does not depend on λ, θ or the width is computed once.

    With several readers the spectrum shown is that of their mean moment, and a λ means the same share of
    the trace at each of them.
    """

    def __init__(
        self, group: UnitGroup, statistics: GroupStatistics, model: nn.Module, units: tuple[int, ...]
    ):
        self.group, self.statistics, self.units = group, statistics, units
        weights = [_weight(model, reader.module) for reader in group.readers]
        self.readouts = [
            reader.readout(weight) for reader, weight in zip(group.readers, weights, strict=True)
        ]
        self.scales = [_norm_scale(model, reader.norm) for reader in group.readers]
        writers = [(_weight(model, w.module), w.rows) for w in group.writers]
        self.evidence = Evidence(
            width=group.width,
            writers=[weight[rows.to(weight.device)] for weight, rows in writers],
            readers=[
                reader.group_weight(weight) for reader, weight in zip(group.readers, weights, strict=True)
            ],
            activity=statistics.active,
            mean_activation=statistics.magnitude,
            taylor=statistics.taylor,
        )

    @property
    def moments(self) -> tuple[Moment, ...]:
        return self.statistics.moments

    @cached_property
    def reader_spectra(self) -> list[Spectrum]:
        return [Spectrum.of(moment) for moment in self.moments]

    @cached_property
    def spectrum(self) -> Spectrum:
        if len(self.moments) == 1:
            return self.reader_spectra[0]
        return Spectrum.of(torch.stack([moment.matrix for moment in self.moments]).mean(0))

    @cached_property
    def budget_losses(self) -> np.ndarray:
        """Output loss of the greedy path at every width, (m+1,), on a scale that compares across layers.

        Each reader's outputs count in standard deviations of the batch norm that takes them, times its
        scale; without one, in root mean squares of all its outputs **[beyond the paper]** (method.md §7).
        """
        readouts = []
        for moment, z, scale, weight in zip(
            self.moments, self.readouts, self.scales, self.evidence.readers or (), strict=True
        ):
            if scale is None:
                mean = float(((z @ moment.matrix) * z).sum()) / len(weight)
                readouts.append(z / mean**0.5 if mean > 0 else z)
            else:
                times = len(z) // len(scale)  # every kernel position of an output stands below the last
                readouts.append(z * scale.repeat_interleave(times)[:, None])
        pairs = list(zip(self.moments, readouts, strict=True))
        whole = sum(float(((z @ m.matrix) * z).sum()) for m, z in pairs)
        ridges = self.ridges(BUDGET_LAM * self.spectrum.trace or 1.0, self.group.width)
        path = GreedySelector(list(self.moments), readouts).path(ridges, theta=0.0)
        return path.losses.numpy() * whole

    @cached_property
    def selector(self) -> GreedySelector:
        return GreedySelector(list(self.moments), self.readouts)

    def ridges(self, lam: float, width: int) -> list[Tensor]:
        """τ (m,) at every reader, for the absolute λ of the shown spectrum."""
        return shared_ridges(self.reader_spectra, self.spectrum.trace, lam, width)

    def order(self, lam: float, width: int, theta: float, selection: str) -> list[int]:
        """Units, the ones to keep first: all of them, but for a greedy path through a wide group."""
        if selection == "greedy":
            return self.selector.path(self.ridges(lam, width), theta, self._reach(width)).order.tolist()
        if selection == "taylor" and self.statistics.taylor is None:
            raise NotMeasuredError(
                "the Taylor criterion needs gradients of a task loss: call session.measure_gradients() first"
            )
        evidence = replace(self.evidence, leverage=self.spectrum.leverage(lam))
        return SELECTIONS[selection].order(evidence).tolist()

    def _reach(self, width: int) -> int:
        """How far a greedy path goes: to the end, in wide groups to twice the width, to answer in time."""
        m = self.group.width
        return m if m <= WHOLE_PATH else min(m, max(2 * width, WHOLE_PATH // 2))

    def curve(self, order: Sequence[int], lam: float, width: int, theta: float) -> LossCurve:
        """Losses of every prefix of `order`."""
        inputs = outputs = torch.zeros(len(order) + 1, dtype=torch.float64)
        for moment, tau, readout in zip(self.moments, self.ridges(lam, width), self.readouts, strict=True):
            inputs = inputs + losses_along(moment, order, tau)
            outputs = outputs + losses_along(moment, order, tau, readout)
        inputs, outputs = _relative(inputs), _relative(outputs)
        return LossCurve(
            torch.arange(len(order) + 1), inputs, outputs, theta * inputs + (1 - theta) * outputs
        )

    def corrections(self, kept: Sequence[int], lam: float) -> list[Tensor]:
        """Â (m, len(kept)) for every reader, at the absolute λ of the shown spectrum."""
        taus = self.ridges(lam, len(kept))
        return [reconstruction_matrix(m, kept, tau) for m, tau in zip(self.moments, taus, strict=True)]

    def predicted_error(self, kept: Sequence[int], lam: float, reconstruction: str) -> float:
        """Relative root-mean-square change at the readers' outputs (method.md §6), all of them together."""
        readers = list(zip(self.moments, self.ridges(lam, len(kept)), self.readouts, strict=True))
        whole = math.hypot(*(local_error(m, (), tau, z) for m, tau, z in readers))
        if reconstruction == "none":
            change = math.hypot(*(removal_error(m, kept, z) for m, _, z in readers))
        else:
            change = math.hypot(*(local_error(m, kept, tau, z) for m, tau, z in readers))
        return change / whole if whole > 0 else 0.0


def _weight(model: nn.Module, name: str) -> Tensor:
    return layer_weight(model.get_submodule(name)).detach().cpu()  # where the moments are


def _norm_scale(model: nn.Module, name: str) -> Tensor | None:
    """|γ|/σ of the batch norm called `name`, (outputs,) float64; None without one."""
    norm: Any = model.get_submodule(name) if name else None
    if norm is None or norm.running_var is None:
        return None
    sigma = (norm.running_var.cpu().double() + norm.eps).sqrt()
    return (1.0 if norm.weight is None else norm.weight.detach().cpu().double().abs()) / sigma


def _relative(losses: Tensor) -> Tensor:
    """Relative to the first entry, within [0, 1]; nothing to lose is lost by none."""
    if losses[0] <= 0:
        return torch.zeros_like(losses)
    return (losses / losses[0]).clamp(0, 1)
