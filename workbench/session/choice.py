"""A choice for one group: which units are kept, what that loses, and what it saves. Touches nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.measure.moments import GroupStatistics
from workbench.network import UnitGroup, layer_weight
from workbench.spectral import (
    SELECTIONS as RULES,
)
from workbench.spectral import (
    Evidence,
    GreedySelector,
    Moment,
    Spectrum,
    guaranteed_width,
    losses_along,
    reconstruction_matrix,
    ridge,
)

SELECTIONS = tuple(RULES)
RECONSTRUCTIONS = ("channel", "kernel", "original", "none")
"""The paper's Â; [beyond] least squares on patches; [beyond] against the original's outputs; nothing."""
WHOLE_PATH = 512  # units up to which a greedy path takes all of them
BUDGET_LAM = 1e-6  # of the trace, as in the paper's Figure 1
DEFAULT_THETA = 0.3  # the paper's best for VGG-13 on CIFAR-10 (method.md §3)


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


@dataclass(frozen=True)
class Choice:
    """What `Session.preview` found for one group; `Session.commit` carries it out.

    `kept`: ascending unit indices in [0, `of`), `width` of them, where `of` is the group's present width;
    `units`: the same as they are numbered in the original network.
    `reestimate`: running statistics of batch norms are measured anew on the calibration data afterwards.
    `lam` is absolute, `lam_relative` is λ/Tr Σ. Losses are relative to keeping none, in [0, 1].
    `predicted_error` is the root-mean-square change at the readers' outputs over their root mean square
    (biases left out), as the paper's Â leaves it, on the activations that were measured: an upper bound there
    where `predicted_error_exact`, else an estimate, since channel moments ignore the correlation between
    kernel positions (method.md §6). Under the simultaneous procedure these are the original's, which is not
    what a reader behind an earlier commit receives.
    `parameters_saved`, `macs_saved`: counts, exact.
    """

    group: str
    of: int
    kept: tuple[int, ...] = field(repr=False)
    units: tuple[int, ...] = field(repr=False)
    width: int
    lam: float
    lam_relative: float
    theta: float
    selection: str
    reconstruction: str
    reestimate: bool
    degrees_of_freedom: float
    suggested_width: int
    guaranteed_width: int
    input_loss: float
    output_loss: float
    combined_loss: float
    predicted_error: float
    predicted_error_exact: bool
    parameters_saved: int
    macs_saved: int
    curve: LossCurve = field(repr=False, compare=False)


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
        trace = self.spectrum.trace
        if trace == 0:
            return [torch.zeros(self.group.width, dtype=torch.float64) for _ in self.moments]
        return [
            ridge(s, lam * s.trace / trace, width) if s.trace > 0 else torch.zeros_like(s.eigenvalues)
            for s in self.reader_spectra
        ]

    def order(self, lam: float, width: int, theta: float, selection: str) -> list[int]:
        """Units, the ones to keep first: all of them, but for a greedy path through a wide group."""
        if selection == "greedy":
            return self.selector.path(self.ridges(lam, width), theta, self._reach(width)).order.tolist()
        if selection == "taylor" and self.statistics.taylor is None:
            raise NotMeasuredError(
                "the Taylor criterion needs gradients of a task loss: call session.measure_gradients() first"
            )
        evidence = replace(self.evidence, leverage=self.spectrum.leverage(lam))
        return RULES[selection].order(evidence).tolist()

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

    def corrections(self, choice: Choice) -> list[Tensor]:
        """Â (m, width) for every reader."""
        kept = list(choice.kept)
        taus = self.ridges(choice.lam, choice.width)
        return [reconstruction_matrix(m, kept, tau) for m, tau in zip(self.moments, taus, strict=True)]

    def predicted_error(self, kept: Sequence[int], output_loss: float, reconstruction: str) -> float:
        """Relative root-mean-square change at the readers' outputs."""
        if reconstruction != "none":
            return math.sqrt(output_loss)
        lost = sorted(set(range(self.group.width)) - set(kept))
        change = total = 0.0
        for moment, readout in zip(self.moments, self.readouts, strict=True):
            sigma, z = moment.matrix, readout
            total += float(((z @ sigma) * z).sum())
            change += float(((z[:, lost] @ sigma[lost][:, lost]) * z[:, lost]).sum())
        return math.sqrt(max(change, 0.0) / total) if total > 0 else 0.0


def make_choice(
    problem: GroupProblem,
    saved: tuple[int, int],
    *,
    lam: float,
    width: int,
    theta: float,
    selection: str,
    reconstruction: str,
    reestimate: bool = False,
    order: Sequence[int] | None = None,
) -> Choice:
    """The choice of `width` units at `lam` (absolute); `order` overrules the selection, for a replay."""
    spectrum, group = problem.spectrum, problem.group
    if order is None:
        order = problem.order(lam, width, theta, selection)
    kept = tuple(sorted(order[:width]))
    curve = problem.curve(order, lam, width, theta)
    freedom = spectrum.degrees_of_freedom(lam)
    output_loss = float(curve.output[width])
    return Choice(
        group=group.name,
        of=group.width,
        kept=kept,
        units=tuple(problem.units[j] for j in kept),
        width=width,
        lam=lam,
        lam_relative=lam / spectrum.trace if spectrum.trace > 0 else lam,
        theta=theta,
        selection=selection,
        reconstruction=reconstruction,
        reestimate=reestimate,
        degrees_of_freedom=freedom,
        suggested_width=suggested_width(freedom, group.width),
        guaranteed_width=guaranteed_width(freedom),
        input_loss=float(curve.input[width]),
        output_loss=output_loss,
        combined_loss=float(curve.combined[width]),
        predicted_error=problem.predicted_error(kept, output_loss, reconstruction),
        predicted_error_exact=all(r.kind == "Linear" and r.positions == 1 for r in group.readers),
        parameters_saved=saved[0],
        macs_saved=saved[1],
        curve=curve,
    )


def suggested_width(degrees_of_freedom: float, width: int) -> int:
    """⌈N(λ)⌉ within [1, m]; a hair above a whole number does not ask for one unit more."""
    return min(max(math.ceil(degrees_of_freedom - 1e-9 * width), 1), width)


def resolve(spectrum: Spectrum, width: int | None, lam: float | None) -> tuple[int, float]:
    """Width and λ, each given or following from the other through N(λ) = width.

    Raises ValueError where neither is given, λ is not a positive number, or the width not in [1, m].
    """
    m = spectrum.width
    if width is None and lam is None:
        raise ValueError(f"give a width (1 to {m}), a λ > 0, or both")
    if lam is not None and not (isinstance(lam, Real) and math.isfinite(lam) and lam > 0):
        raise ValueError(f"λ must be a positive finite number, got {lam!r}")
    if width is not None and not (_is_whole(width) and 1 <= width <= m):
        raise ValueError(f"the width must be a whole number from 1 to {m}, got {width!r}")
    if width is None:
        return suggested_width(spectrum.degrees_of_freedom(float(lam)), m), float(lam)  # type: ignore[arg-type]
    if lam is None:
        lam = spectrum.lam_for(width) if spectrum.trace > 0 else 1.0
    return int(width), float(lam)


def _is_whole(number: object) -> bool:
    return isinstance(number, Real) and not isinstance(number, bool) and float(number).is_integer()


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
