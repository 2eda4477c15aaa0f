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
from workbench.pruning.least_loss import comparable_readout
from workbench.spectral.bounds import local_error, removal_error
from workbench.spectral.greedy import GreedySelector
from workbench.spectral.losses import losses_along
from workbench.spectral.moment import Moment
from workbench.spectral.reconstruction import reconstruction_matrix
from workbench.spectral.regression import FIT_LAM, shared_ridges
from workbench.spectral.selection import GREEDY, SELECTIONS, SWAPPED, Evidence
from workbench.spectral.spectrum import Spectrum
from workbench.spectral.swapping import Swapped, swap_refine

WHOLE_PATH = 512  # units up to which a greedy path takes all of them
# Readers · units³ up to which swaps are tried. 1,024 units of one reader take 1.3 s on one core, beside 0.1 s
# of their greedy path; 2,048 take 12 s, and 4,096 would take minutes.
SWAPS_WORK = 1024**3

# λ over the trace in plans, comparisons and sweeps: the paper's Figure 1 (method.md §2), and the most that
# the fits use (§10), so that a plan's λ is the one that every reconstruction takes.
BUDGET_LAM = FIT_LAM


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

    With several readers the spectrum shown is that of their mean moment Σ, and a λ means the same share of
    the trace at each of them: reader r has λ_r = λ·Tr Σ_r/Tr Σ, and τ_r = λ_r·m♯·τ'(λ_r) by its own Σ_r
    (method.md §10).
    """

    def __init__(
        self, group: UnitGroup, statistics: GroupStatistics, model: nn.Module, units: tuple[int, ...]
    ):
        self.group, self.statistics, self.units = group, statistics, units
        weights = [_weight(model, reader.module) for reader in group.readers]
        self.readouts = [
            reader.readout(weight) for reader, weight in zip(group.readers, weights, strict=True)
        ]
        self.scales = [norm_scale(model, reader.norm) for reader in group.readers]
        self._width_losses: dict[tuple[float | None, float, str], np.ndarray] = {}
        self._prefixes: dict[tuple[float, int, float, str], list[int]] = {}
        self._swapped: dict[tuple[float, int, float], Swapped] = {}
        self._predicted: dict[tuple[int, float | None, float, str], float] = {}
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
        return self.reader_spectra[0] if len(self.moments) == 1 else mean_spectrum(self.moments)

    @cached_property
    def comparable_losses(self) -> np.ndarray:
        """The objective of least loss per cost at every width, (m+1,): least_loss.py.

        Σ_readers Tr[Z C_J Zᵀ] along the greedy path of θ = 0 with Z on the comparable scale, at the λ of the
        paper's Figure 1 and the ridge of the whole width. Its first entry is what there is to lose.
        """
        readouts = [
            comparable_readout(z, moment.matrix, scale, len(weight))
            for moment, z, scale, weight in zip(
                self.moments, self.readouts, self.scales, self.evidence.readers or (), strict=True
            )
        ]
        pairs = list(zip(self.moments, readouts, strict=True))
        whole = sum(float(((z @ m.matrix) * z).sum()) for m, z in pairs)  # Σ Tr[Z Σ Zᵀ]
        ridges = self.ridges(BUDGET_LAM * self.spectrum.trace or 1.0, self.group.width)
        path = GreedySelector(list(self.moments), readouts).path(ridges, theta=0.0)
        return path.losses.numpy() * whole

    def absolute(self, lam: float | None, width: int) -> float:
        """λ in the units of Σ, for one relative to the trace; None: the λ with N(λ) = `width`."""
        trace = self.spectrum.trace
        if trace == 0:
            return 1.0
        return self.spectrum.lam_for(width) if lam is None else lam * trace

    def width_losses(self, lam: float | None, theta: float, selection: str) -> np.ndarray:
        """Relative output losses at every width w, (m+1,), by the units that are kept at w and its ridge.

        τ = λ·w·τ'(λ) grows with w, and a path has one τ, so an exact curve takes m paths. Here it takes
        log₂ m: one at each of m, m/2, m/4, …, 1 units, up to twice its width; between two of them the loss of
        each is weighed by how near its τ is, which is linear in w. Against m paths, for all groups of the
        tested families at λ = 1e-6·Tr Σ: apart by 1e-3 of the whole at most, 1e-6 at most in twenty of the
        twenty-six; exact at m, m/2, … themselves. Swaps are made at those alone, so that with "greedy-swap"
        it is 3e-2 between them. What is shown of a chosen width is computed for it.

        Args:
            lam: λ over the trace; None: it follows from each width.
            theta: θ of the selections "greedy" and "greedy-swap".
            selection: one of `SELECTIONS`.

        Raises:
            NotMeasuredError: the selection needs gradients that are not measured.
        """
        key = (lam, theta, selection)
        if key not in self._width_losses:
            self._width_losses[key] = self._find_width_losses(lam, theta, selection)
        return self._width_losses[key]

    def predicted_loss(self, width: int, lam: float | None, theta: float, selection: str) -> float:
        """`Choice.output_loss` of the choice of `width` units; arguments and errors as for `width_losses`."""
        key = (width, lam, theta, selection)
        if key not in self._predicted:
            absolute = self.absolute(lam, width)
            order = self.prefix(absolute, width, theta, selection)
            self._predicted[key] = float(self.curve(order, absolute, width, theta).output[width])
        return self._predicted[key]

    def _find_width_losses(self, lam: float | None, theta: float, selection: str) -> np.ndarray:
        m = self.group.width
        anchors = [m]
        while anchors[-1] > 1:
            anchors.append(anchors[-1] // 2)
        losses = np.empty(m + 1)
        above: np.ndarray | None = None  # the losses of the anchor above, at its own ridge
        order: list[int] = []
        for anchor, limit in zip(anchors, [m, *anchors], strict=False):
            absolute = self.absolute(lam, anchor)
            order = self._order_from(order, absolute, anchor, limit, theta, selection)
            here = self.curve(order[:limit], absolute, anchor, theta).output.numpy()
            widths = np.arange(anchor, limit + 1)
            far = (widths - anchor) / max(limit - anchor, 1)  # (τ_w − τ_anchor)/(τ_limit − τ_anchor)
            other = here if above is None else above
            losses[widths] = (1 - far) * here[widths] + far * other[widths]
            losses[0] = here[0]
            above = here
        return losses

    def _order_from(
        self, above: list[int], lam: float, width: int, limit: int, theta: float, selection: str
    ) -> list[int]:
        """`limit` units or more in the order of `width`; a long greedy path ends in the order `above`."""
        if selection not in (GREEDY, SWAPPED):
            return self.order(lam, width, theta, selection)
        reach = limit if limit <= WHOLE_PATH else width
        first = self._path(lam, width, theta, selection, reach)
        chosen = set(first)
        return first + [unit for unit in above if unit not in chosen]

    @cached_property
    def selector(self) -> GreedySelector:
        return GreedySelector(list(self.moments), self.readouts)

    def ridges(self, lam: float, width: int) -> list[Tensor]:
        """τ (m,) at every reader, for the absolute λ of the shown spectrum: λ_r = λ·Tr Σ_r/Tr Σ."""
        return shared_ridges(self.reader_spectra, self.spectrum.trace, lam, width)

    def order(self, lam: float, width: int, theta: float, selection: str) -> list[int]:
        """Units, the ones to keep first: all of them, but for a greedy path through a wide group."""
        if selection in (GREEDY, SWAPPED):
            return self._path(lam, width, theta, selection, self._reach(width))
        if selection == "taylor" and self.statistics.taylor is None:
            raise NotMeasuredError(
                "the Taylor criterion needs gradients of a task loss: call session.measure_gradients() first"
            )
        evidence = replace(self.evidence, leverage=self.spectrum.leverage(lam))
        return SELECTIONS[selection].order(evidence).tolist()

    def prefix(self, lam: float, width: int, theta: float, selection: str) -> list[int]:
        """`order`; of a path through a wide group the units up to the width, found once."""
        if selection not in (GREEDY, SWAPPED) or self.group.width <= WHOLE_PATH:
            return self.order(lam, width, theta, selection)
        key = (lam, width, theta, selection)
        if key not in self._prefixes:
            self._prefixes[key] = self._path(lam, width, theta, selection, width)
        return self._prefixes[key]

    def _path(self, lam: float, width: int, theta: float, selection: str, reach: int) -> list[int]:
        """`reach` units of a greedy path; with swaps it goes through the refined set first."""
        ridges = self.ridges(lam, width)
        swapped = self.swapped(lam, width, theta) if selection == SWAPPED else None
        if swapped is None or swapped.swaps == 0:
            return self.selector.path(ridges, theta, reach).order.tolist()
        return self.selector.path(ridges, theta, reach, first=swapped.kept).order.tolist()

    @property
    def tries_swaps(self) -> bool:
        """Whether "greedy-swap" answers in time here; in a wider group it keeps what "greedy" does."""
        return len(self.moments) * self.group.width**3 <= SWAPS_WORK

    def swapped(self, lam: float, width: int, theta: float) -> Swapped | None:
        """What swaps make of the greedy path's first `width` units, found once; None where none is tried."""
        if not self.tries_swaps:
            return None
        key = (lam, width, theta)
        if key not in self._swapped:
            ridges = self.ridges(lam, width)
            kept = self.selector.path(ridges, theta, width).kept(width)
            self._swapped[key] = swap_refine(self.selector, None, ridges, kept, theta)
        return self._swapped[key]

    def swaps_found(self, lam: float, width: int, theta: float) -> Swapped | None:
        """`swapped`, if it has been asked for before."""
        return self._swapped.get((lam, width, theta))

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


def mean_spectrum(moments: Sequence[Moment]) -> Spectrum:
    """The spectrum of the mean moment of a group's readers, each of them (m, m)."""
    return Spectrum.of(torch.stack([moment.matrix for moment in moments]).mean(0))


def _weight(model: nn.Module, name: str) -> Tensor:
    return layer_weight(model.get_submodule(name)).detach().cpu()  # where the moments are


def norm_scale(model: nn.Module, name: str) -> Tensor | None:
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
