"""What the sampling theorem speaks of, measured: λ_max(C_J) of a choice, and of units drawn by leverage."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.spectral.losses import residual_factors
from workbench.spectral.moment import Moment, Units, second_moment, unit_indices
from workbench.spectral.regression import ridge_vector
from workbench.spectral.spectrum import Spectrum


def largest_loss(moment: Moment | Tensor, kept: Units, ridge: Tensor) -> float:
    """λ_max(C_J): the mean square error of the unit-norm linear read-out of φ that loses most.

    Args:
        moment: the units' moment, or Σ (m, m).
        kept: J, distinct unit indices in [0, m); none gives μ_1.
        ridge: τ, (m,), >= 0.

    Returns:
        A mean square, in the units of Σ; `sampling_bound` is what the theory allows.

    Raises:
        ValueError: an index or a ridge that does not fit the moment.

    Source:
        method.md §6: sup of wᵀC_Jw over |w| = 1.
    """
    sigma = second_moment(moment)
    tau = ridge_vector(ridge, len(sigma)).to(sigma.device)
    return _largest(sigma, unit_indices(kept, len(sigma)).to(sigma.device), tau)


def sampled_losses(
    moment: Moment | Tensor, spectrum: Spectrum, lam: float, width: int, draws: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """λ_max(C_J) of units sampled from the leverage scores, again and again: what the theorem bounds by 4λ.

    `width` units are sampled one by one, each time among all of them, so one may come several times: c_j
    times divides its ridge by c_j, as a coefficient split over c_j copies has so much less of a norm. So
    `width` may exceed m, and the units kept are fewer than sampled.

    Args:
        moment: the units' moment, or Σ (m, m).
        spectrum: of the same moment.
        lam: λ > 0, absolute, in the units of Σ.
        width: m♯ >= 1, how many are sampled; `guaranteed_width(N(λ))` for the guarantee.
        draws: how often all of this is repeated.
        seed: of the generator, so that runs repeat.

    Returns:
        λ_max(C_J), (draws,) float64, in the units of Σ, and the number of distinct units, (draws,) int64.

    Raises:
        ValueError: `lam` is not a positive finite number, `width` or `draws` is below 1.

    Source:
        method.md §6; Bach, JMLR 2017, proposition 1: penalty λ·m♯·|β|² on the features φ_j/√τ'_j.
    """
    if width < 1 or draws < 1:
        raise ValueError(f"Sample at least 1 unit in 1 draw, not {width} in {draws}.")
    sigma = second_moment(moment)
    scores = spectrum.leverage(lam)
    generator = torch.Generator().manual_seed(seed)
    losses, distinct = [], []
    for _ in range(draws):
        sampled = torch.multinomial(scores, width, replacement=True, generator=generator)
        times = torch.bincount(sampled, minlength=len(scores))  # c   (m,)
        kept = times.nonzero().flatten()
        tau = lam * width * scores / times.clamp(min=1)  # τ_j = λ·m♯·τ'_j(λ)/c_j   (m,)
        losses.append(_largest(sigma, kept.to(sigma.device), tau.to(sigma.device)))
        distinct.append(len(kept))
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(distinct)


def _largest(sigma: Tensor, index: Tensor, tau: Tensor) -> float:
    factors = residual_factors(sigma, index, tau)  # (k, m)
    residual = sigma - factors.T @ factors  # C_J = Σ − Σ_i f_i f_iᵀ   (m, m)
    return max(float(torch.linalg.eigvalsh(residual)[-1]), 0.0)
