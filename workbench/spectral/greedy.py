"""The greedy choice of units, exact and fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.spectral.losses import readout_weights
from workbench.spectral.moment import Moment, Units, second_moment, unit_indices
from workbench.spectral.regression import SPENT, ridge_vector

_TIE = 1e-12  # gains this near the best one, relatively, are equal up to rounding
_NO_GAIN = 1e-15  # share of the whole loss below which a gain is rounding
# Matrix-vector products in blocks this small are not spread over threads by the BLAS: waiting for each other
# costs the threads more than it gains, and many times more on a busy machine.
_BLOCK_ELEMENTS = 1 << 17
_SMALLEST_BLOCK = 256
_REFRESH = 1e-9  # a gain's numerator shrunk to this share of its start has lost nine of its sixteen digits


@dataclass(frozen=True, eq=False)
class Path:
    """Units in the order they are chosen, and the combined loss of every prefix.

    Attributes:
        order: (k,) int64.
        losses: (k+1,) float64, relative to keeping nothing: losses[0] is 1, then non-increasing in [0, 1].
    """

    order: Tensor
    losses: Tensor

    def kept(self, width: int) -> tuple[int, ...]:
        """The kept set J of a width.

        Args:
            width: |J|, at most the path's length.

        Returns:
            The first `width` units of the path, sorted.

        Raises:
            ValueError: the path is shorter than `width`, or `width` is negative.
        """
        if not 0 <= width <= len(self.order):
            raise ValueError(f"This path keeps 0 to {len(self.order)} units, but {width} were asked for.")
        return tuple(sorted(self.order[:width].tolist()))


def greedy_path(
    moment: Moment | Tensor | Sequence[Moment | Tensor],
    readout: Tensor | Sequence[Tensor] | None,
    ridge: Tensor | Sequence[Tensor],
    theta: float = 0.5,
    width: int | None = None,
) -> Path:
    """Greedy minimisation of the combined loss L^θ = θ L^A + (1−θ) L^B.

    Several readers: give equally long lists of moments, readouts and ridges; their losses add and one set of
    units is kept. Use `GreedySelector` to try many θ and λ on the same layer.

    Args:
        moment: what each reader receives, or Σ (m, m).
        readout: Z, (outputs, m), a reader; None for the input loss alone, whatever θ.
        ridge: τ, (m,), >= 0, a reader.
        theta: weight of the input loss, in [0, 1].
        width: k, how many units to choose; None means all m.

    Returns:
        The path: k units in order, and the k+1 losses of its prefixes, relative to keeping none.

    Raises:
        ValueError: shapes that do not fit each other, θ outside [0, 1], a width outside [0, m].

    Source:
        method.md §3 and §4.
    """
    return GreedySelector(moment, readout).path(ridge, theta, width)


class GreedySelector:
    """Everything about a group that depends on neither θ nor λ, computed once for many paths.

    Per reader it holds Σ, Σ² and ΣZᵀZΣ. The readouts are scaled by one common factor so that
    Σ_r Tr Z_rΣ_rZ_rᵀ = Σ_r Tr Σ_r: with one reader that is the method's normalisation (both losses start
    equal, so θ means the same on every layer); with several, readers keep their weight relative to each
    other. Without readouts, or with all-zero ones, the combined loss is the input loss, whatever θ.
    """

    def __init__(
        self,
        moments: Moment | Tensor | Sequence[Moment | Tensor],
        readouts: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        """Take a moment (or Σ, (m, m)) and a readout Z (outputs, m) a reader; readouts may be None.

        Raises:
            ValueError: no reader, lists of different length, or shapes that do not fit each other.
        """
        moments = [moments] if isinstance(moments, Moment | Tensor) else list(moments)
        readouts = [readouts] if isinstance(readouts, Tensor) else readouts
        if not moments:
            raise ValueError("At least one reader's moment is needed to choose units; the list is empty.")
        if readouts is not None and (len(readouts) != len(moments) or any(z is None for z in readouts)):
            raise ValueError(
                f"Every reader needs a moment and a readout, but there are {len(moments)} moments and "
                f"{sum(z is not None for z in readouts)} readouts; for the input loss alone pass None."
            )
        matrices = [second_moment(moment) for moment in moments]
        self.width: int = matrices[0].shape[0]
        for matrix in matrices:
            if matrix.shape[0] != self.width:
                raise ValueError(
                    f"All readers read the same units, but their moments have {self.width} and "
                    f"{matrix.shape[0]} of them."
                )
        self.total = sum(float(matrix.trace()) for matrix in matrices)
        metrics = [None] * len(matrices) if readouts is None else _metrics(matrices, readouts, self.total)
        self.readers = [
            ReaderProducts(matrix, metric) for matrix, metric in zip(matrices, metrics, strict=True)
        ]

    def path(
        self,
        ridges: Tensor | Sequence[Tensor],
        theta: float = 0.5,
        width: int | None = None,
        first: Units = (),
    ) -> Path:
        """The greedy path at these ridges and this θ, O(m·width) a step.

        Live units come in the order of their gain, then units that add nothing to those chosen, then dead
        ones (Σ_jj = 0); ties go to the lower index. If every unit is dead, keeping any one loses nothing.

        Args:
            ridges: τ, (m,), a reader (a single tensor for one reader).
            theta: weight of the input loss, in [0, 1].
            width: how many units to choose; None means all m.
            first: units that come before all others, in the order of their gain too.

        Returns:
            The path, as of `greedy_path`.

        Raises:
            ValueError: a ridge a reader is missing or does not fit, θ outside [0, 1], width outside [0, m],
                a unit of `first` that is not there.

        Source:
            method.md §4.
        """
        taus = self.checked_ridges(ridges, theta)
        steps = self.width if width is None else int(width)
        if not 0 <= steps <= self.width or (width is not None and steps != width):
            raise ValueError(f"The width must be a whole number in [0, {self.width}], but {width} was given.")
        residuals = [
            _Residual(reader, tau.numpy(), float(theta), steps)
            for reader, tau in zip(self.readers, taus, strict=True)
        ]
        free = np.zeros(self.width, dtype=bool)
        free[unit_indices(first, self.width).numpy()] = True
        order: list[int] = []
        gains: list[float] = []
        for wanted in (free, ~free):
            chosen, found = _choose(residuals, steps - len(order), self.total, wanted)
            rest = self._without_gain(wanted, chosen)[: steps - len(order) - len(chosen)]
            order += chosen + rest
            gains += found + [0.0] * len(rest)
        losses = np.zeros(steps + 1)
        losses[0] = 1.0
        if self.total > 0:
            losses[1:] = 1.0 - np.cumsum(gains) / self.total
        return Path(torch.tensor(order, dtype=torch.int64), torch.from_numpy(losses.clip(0.0, 1.0)))

    def checked_ridges(self, ridges: Tensor | Sequence[Tensor], theta: float) -> list[Tensor]:
        """One ridge a reader, (m,) float64 on the CPU each.

        Raises:
            ValueError: as for `path`, of ridges and θ.
        """
        taus = [ridges] if isinstance(ridges, Tensor) else list(ridges)
        if len(taus) != len(self.readers):
            raise ValueError(
                f"Every reader needs its own ridge, but there are {len(self.readers)} readers and "
                f"{len(taus)} ridges."
            )
        if not 0 <= theta <= 1:
            raise ValueError(f"θ weighs input against output loss and lies in [0, 1], but {theta} was given.")
        return [ridge_vector(tau, self.width).cpu() for tau in taus]

    def _without_gain(self, wanted: np.ndarray, chosen: list[int]) -> list[int]:
        dead = np.all([reader.variances <= 0 for reader in self.readers], axis=0)
        rest = np.setdiff1d(np.flatnonzero(wanted), chosen)
        return [*rest[~dead[rest]].tolist(), *rest[dead[rest]].tolist()]


class _Metric:
    """X → XᵀZᵀZX, by whichever of Z and ZᵀZ needs fewer operations."""

    def __init__(self, weights: Tensor) -> None:
        outputs, width = weights.shape
        self._tall = outputs > 2 * width
        self._factor = weights.T @ weights if self._tall else weights  # ZᵀZ (m, m), or Z (outputs, m)

    def __call__(self, matrix: Tensor) -> Tensor:
        matrix = matrix.to(self._factor.device)
        image = self._factor @ matrix  # ZᵀZX (m, m), or ZX (outputs, m)
        return matrix.T @ image if self._tall else image.T @ image  # XᵀZᵀZX   (m, m)

    def image(self, columns: Tensor) -> Tensor:
        """ZᵀZX, (m, n), of n columns X (m, n) on the CPU."""
        factor = self._factor.cpu()
        return factor @ columns if self._tall else factor.T @ (factor @ columns)


class ReaderProducts:
    """One reader's Σ, Σ² and ΣZᵀZΣ, stacked on the CPU; the last only where there is a readout."""

    def __init__(self, matrix: Tensor, metric: _Metric | None) -> None:
        self.metric = metric
        self.stack = self.stack_of(matrix)
        self.variances = self.stack[0].diagonal().copy()

    def stack_of(self, matrix: Tensor) -> np.ndarray:
        """(C, C², CZᵀZC) of a symmetric matrix C, (2 or 3, m, m)."""
        images = [] if self.metric is None else [self.metric(matrix)]
        return torch.stack([part.cpu() for part in (matrix, matrix @ matrix, *images)]).numpy()


class _Residual:
    """C = Σ − LLᵀ along one path, kept as factors, never formed.

    With M = θI + (1−θ)ZᵀZ and Q = ΣMΣ, the state is L, P = ΣML and H = LᵀML, with the diagonals
    d = diag C + τ and g = diag CMC; the gain of unit j is g_j/d_j. Adding j needs v = C e_j and u = CMv, and
    vᵀMv = e_jᵀCMCe_j = g_j comes free as u_j.
    """

    def __init__(self, reader: ReaderProducts, tau: np.ndarray, theta: float, steps: int) -> None:
        self.reader, self.tau = reader, tau
        self.floor = SPENT * reader.variances
        # Mixing Q from its parts only where it is read makes a change of θ free.
        parts = (1.0,) if reader.metric is None else (theta, 1.0 - theta)
        self.mixture = np.array([(1.0, *(0.0 for _ in parts)), (0.0, *parts)])
        self.factors = np.empty((steps, 2 * len(tau)))  # row i: column i of L, then column i of P
        self.inner = np.empty((steps, steps))  # H
        self._start_from(reader.stack)

    def _start_from(self, stack: np.ndarray) -> None:
        self.stack, self.count = stack, 0
        # diag Σ and g = diag ΣMΣ = θ diag Σ² + (1−θ) diag ΣZᵀZΣ   (m,) each
        variances, self.g = self.mixture @ stack.diagonal(axis1=1, axis2=2)
        self.d = variances + self.tau  # d = diag C + τ   (m,)
        self.first_g = self.g.copy()

    def gains(self) -> np.ndarray:
        """What each unit would take off the loss, (m,); 0 for units that are spent."""
        np.putmask(self.d, self.d <= self.floor, np.inf)
        return self.g / self.d

    def is_rounded(self, unit: int) -> bool:
        """Whether so much of g has cancelled that rounding shows in the unit's gain."""
        return self.g.item(unit) < _REFRESH * self.first_g.item(unit) and self.d.item(unit) < np.inf

    def refresh(self) -> None:
        """Form C once and start again from it, which gives its small entries their digits back."""
        left = torch.from_numpy(self.factors[: self.count, : len(self.d)])  # Lᵀ   (t, m)
        self._start_from(self.reader.stack_of(torch.from_numpy(self.stack[0]) - left.T @ left))  # C = Σ − LLᵀ

    def add(self, unit: int) -> float:
        """Keep `unit`; returns what it took off the loss."""
        t, width = self.count, len(self.d)
        factors, row = self.factors[:t], self.factors[t]  # [Lᵀ, Pᵀ]   (t, 2m), and what becomes the next row
        chosen = factors[:, unit].copy()  # l = L[j]   (t,)
        np.matmul(self.mixture, self.stack[:, unit], out=row.reshape(2, width))  # [Σ_j, Q_j]   (2m,)
        _subtract_product(row, chosen, factors)
        v, s = row[:width], row[width:]  # v = Σ_j − Ll = C e_j and s = Q_j − Pl   (m,)
        d = max(v.item(unit), 0.0) + self.tau.item(unit)  # C_jj + τ_j
        if d <= self.floor.item(unit):
            return 0.0
        inner = factors[:, width + unit] - self.inner[:t, :t] @ chosen  # LᵀMv = P[j] − Hl   (t,)
        u = s.copy()
        _subtract_product(u, inner, factors[:, :width])  # u = s − L(P[j] − Hl) = CMv   (m,)
        g = max(u.item(unit), 0.0)  # vᵀMv = u_j
        share = v / d
        self.d -= v * share  # diag C ← diag C − v²/d   (m,)
        u *= -2.0
        u += g * share
        u *= share
        self.g += u  # diag CMC ← diag CMC − 2vu/d + v²(vᵀMv)/d²   (m,)
        root = 1.0 / d**0.5
        row *= root  # the next column of L is v/√d, of P it is s/√d   (2m,)
        inner *= root
        self.inner[t, :t] = self.inner[:t, t] = inner  # H's next row and column: LᵀMv/√d   (t,)
        self.inner[t, t] = g / d  # vᵀMv/d
        self.count += 1
        return g / d


def _subtract_product(target: np.ndarray, vector: np.ndarray, rows: np.ndarray) -> None:
    """target -= vector @ rows, a block of columns at a time."""
    if rows.size <= _BLOCK_ELEMENTS:
        target -= vector @ rows
        return
    block = max(_SMALLEST_BLOCK, _BLOCK_ELEMENTS // len(rows))
    for start in range(0, rows.shape[1], block):
        part = slice(start, start + block)
        target[part] -= vector @ rows[:, part]


def _choose(
    residuals: list[_Residual], steps: int, total: float, wanted: np.ndarray
) -> tuple[list[int], list[float]]:
    """Up to `steps` of the units `wanted`, (m,) bool, by their gain while there is one; and the gains."""
    order: list[int] = []
    taken: list[float] = []
    free = wanted.astype(float)
    while len(order) < steps:
        gains = sum((residual.gains() for residual in residuals[1:]), start=residuals[0].gains())
        gains *= free
        best = gains.max()
        if best <= _NO_GAIN * total:
            break
        unit = int((gains >= best * (1.0 - _TIE)).argmax())
        rounded = [residual for residual in residuals if residual.is_rounded(unit)]
        if rounded:
            for residual in rounded:
                residual.refresh()
            continue
        taken.append(sum(residual.add(unit) for residual in residuals))
        order.append(unit)
        free[unit] = 0.0
    return order, taken


def _metrics(
    matrices: Sequence[Tensor], readouts: Sequence[Tensor], total: float
) -> Sequence[_Metric | None]:
    weights = [
        readout_weights(readout, matrix.shape[0]).to(matrix.device)
        for readout, matrix in zip(readouts, matrices, strict=True)
    ]
    output = sum(float(((z @ s) * z).sum()) for z, s in zip(weights, matrices, strict=True))  # Σ_r Tr ZΣZᵀ
    if output <= 0:
        return [None] * len(weights)
    factor = (total / output) ** 0.5  # Z ← Z·√(Σ_r Tr Σ / Σ_r Tr ZΣZᵀ)
    return [_Metric(z * factor) for z in weights]
