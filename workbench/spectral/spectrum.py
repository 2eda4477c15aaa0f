"""Eigenvalues of the moment, degrees of freedom, leverage scores and the ridge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from torch import Tensor

from workbench.spectral.moment import Moment, second_moment

_EPS = float(np.finfo(np.float64).eps)


_ROUNDING = (
    1e-6  # of the largest eigenvalue: moments of float32 activations have 1e-7 of the trace in an entry
)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Spectral decomposition of a second moment (method, §2); all tensors float64 on the CPU.

    Attributes:
        eigenvalues: (m,) descending, >= 0; those under m·eps·μ_1 are set to 0 (the numerical rank).
        eigenvectors: (m, m), one eigenvector a column, in the same order.

    Example:
        >>> spectrum = Spectrum.of(torch.diag(torch.tensor([3.0, 1.0])))
        >>> round(spectrum.degrees_of_freedom(1.0), 12)
        1.25
    """

    eigenvalues: Tensor
    eigenvectors: Tensor

    @classmethod
    def of(cls, moment: Moment | Tensor) -> Spectrum:
        """Decompose a second moment.

        Args:
            moment: a moment, or a symmetric positive semi-definite (m, m) matrix.

        Returns:
            Its spectrum, on the CPU.

        Raises:
            ValueError: no sample yet; a matrix that is not square, finite, symmetric and positive
                semi-definite.
        """
        values, vectors = torch.linalg.eigh(second_moment(moment))
        values, vectors = values.flip(0).cpu(), vectors.flip(1).cpu().contiguous()
        largest, smallest = float(values[0]), float(values[-1])
        if smallest < -_ROUNDING * abs(largest):
            raise ValueError(
                f"A second moment has no negative eigenvalue, but this matrix has {smallest:.3g} "
                f"(largest: {largest:.3g}); pass the uncentred second moment of the activations."
            )
        values = torch.where(values < len(values) * _EPS * largest, 0.0, values.clamp(min=0.0))
        return cls(values, vectors)

    @property
    def width(self) -> int:
        """Number of units m."""
        return len(self.eigenvalues)

    @property
    def trace(self) -> float:
        """Tr Σ, the mean squared norm of the activations."""
        return float(self.eigenvalues.sum())

    @property
    def rank(self) -> int:
        """Number of non-zero eigenvalues, the limit of N(λ) for λ → 0."""
        return int(torch.count_nonzero(self.eigenvalues))

    @property
    def effective_rank(self) -> float:
        """exp(−Σ_j p_j log p_j) with p = μ/Tr Σ, in units: the spectrum's entropy as a number of directions.

        In [1, rank], k for k equal eigenvalues and the rest zero; 0 for an all-zero moment. It does not
        depend on the scale of Σ, and knows no λ. That is the effective rank of Σ; for the one of the samples
        themselves, (n, m), √μ would stand for μ.

        Source:
            Roy and Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007.
        """
        if self.rank == 0:
            return 0.0
        # Divided by the largest first: the sum of very small or large numbers is not one.
        shares = self.eigenvalues / self.eigenvalues[0]
        return math.exp(float(torch.special.entr(shares / shares.sum()).sum()))  # exp(−Σ p log p)

    @property
    def stable_rank(self) -> float:
        """Tr Σ/μ_1, in units: how many directions as strong as the first would make up the trace.

        In [1, effective rank], k for k equal eigenvalues and the rest zero; 0 for an all-zero moment. It is
        ‖Φ‖²_F/‖Φ‖² of the samples Φ (n, m).

        Source:
            Rudelson and Vershynin, Sampling from large matrices, Journal of the ACM 54, 2007 (there the
            numerical rank).
        """
        if self.rank == 0:
            return 0.0
        return float((self.eigenvalues / self.eigenvalues[0]).sum())

    @property
    def lam_floor(self) -> float:
        """The smallest λ worth using, eps·Tr Σ: what `lam_for` returns at a width of the rank or more.

        For an all-zero moment it is eps itself, so that it is always a valid λ.
        """
        return _EPS * (self.trace or 1.0)

    @overload
    def degrees_of_freedom(self, lam: float) -> float: ...
    @overload
    def degrees_of_freedom(self, lam: Tensor) -> Tensor: ...
    def degrees_of_freedom(self, lam: float | Tensor) -> float | Tensor:
        """N(λ) = Σ_j μ_j/(μ_j + λ).

        Args:
            lam: λ > 0, absolute, in the units of Σ: a number, or a tensor of them.

        Returns:
            A float; for a tensor of λ, a float64 tensor of the same shape.

        Raises:
            ValueError: a λ that is not a positive finite number.

        Source:
            method.md §2.
        """
        if isinstance(lam, Tensor):
            lams = lam.detach().to("cpu", torch.float64)
            if not bool(((lams > 0) & lams.isfinite()).all()):
                raise ValueError("Every λ must be a positive finite number.")
            return (self.eigenvalues / (self.eigenvalues + lams[..., None])).sum(-1)
        return float((self.eigenvalues / (self.eigenvalues + _checked_lam(lam))).sum())

    def lam_for(self, width: float) -> float:
        """The λ with N(λ) = width, to about 1e-12 relative, for 0 < width < rank.

        At a width of the rank or more there is none, since N(λ) < rank for every λ > 0: `lam_floor` is
        returned.

        Args:
            width: the degrees of freedom wanted, in (0, m].

        Returns:
            λ, absolute, in the units of Σ.

        Raises:
            ValueError: `width` is not in (0, m].

        Source:
            method.md §2.
        """
        if not 0 < width <= self.width:
            raise ValueError(
                f"A width must lie above 0 and at most at the {self.width} units, but {width} was given."
            )
        if width >= self.rank:
            return self.lam_floor
        scale = float(self.eigenvalues[0])
        return scale * _solve_lam(self.eigenvalues[: self.rank].numpy() / scale, float(width))

    def leverage(self, lam: float) -> Tensor:
        """Leverage scores τ'_j(λ) = [Σ(Σ+λI)⁻¹]_jj / N(λ).

        An all-zero moment prefers no unit: the scores are 1/m each.

        Args:
            lam: λ > 0, absolute, in the units of Σ.

        Returns:
            (m,) float64, >= 0; they sum to 1.

        Raises:
            ValueError: `lam` is not a positive finite number.

        Source:
            method.md §2.
        """
        share = self.eigenvalues / (self.eigenvalues + _checked_lam(lam))  # μ/(μ+λ)   (m,)
        scores = self.eigenvectors.square() @ share  # diag Σ(Σ+λI)⁻¹ = Σ_i V_ji² μ_i/(μ_i+λ)   (m,)
        if self.rank == 0:
            return torch.full_like(scores, 1 / self.width)
        return scores / scores.sum()  # the sum is N(λ)

    def __repr__(self) -> str:
        return f"Spectrum(width={self.width}, rank={self.rank}, trace={self.trace:.6g})"


def _checked_lam(lam: float) -> float:
    if not (lam > 0 and math.isfinite(lam)):
        raise ValueError(f"λ must be a positive finite number, but {lam} was given.")
    return float(lam)


def _solve_lam(values: np.ndarray, width: float) -> float:
    """Newton on log λ, kept inside a bracket; `values` > 0 with largest 1, 0 < width < len(values)."""
    rank = len(values)
    # N(λ) <= Tr/λ bounds the solution from above, N(λ) >= rank·μ_min/(μ_min + λ) from below.
    high = math.log(values.sum() / width)
    low = math.log(values[-1]) + math.log((rank - width) / width)
    x = (low + high) / 2
    for _ in range(200):
        lam = math.exp(x)
        share = values / (values + lam)  # μ/(μ+λ)   (rank,)
        rest = lam / (values + lam)  # λ/(μ+λ) = 1 − μ/(μ+λ)   (rank,)
        # Above half the rank the missing part is the smaller sum, hence the more accurate one.
        excess = share.sum() - width if width < rank / 2 else (rank - width) - rest.sum()
        if excess > 0:
            low = x
        else:
            high = x
        step = excess / (share * rest).sum()  # (N − width)/(−dN/dx), −dN/dx = Σ_j μ_jλ/(μ_j+λ)²
        newton = x + step
        following = newton if low <= newton <= high else (low + high) / 2
        if abs(following - x) <= 4e-15 * max(1.0, abs(x)) or low >= high:
            return math.exp(following)
        x = following
    return math.exp(x)
