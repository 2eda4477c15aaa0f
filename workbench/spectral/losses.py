"""Input and output information loss of a kept set of units."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from workbench.spectral.moment import Moment, Units, second_moment, unit_indices
from workbench.spectral.regression import SPENT, ridge_vector


def information_loss(
    moment: Moment | Tensor, kept: Units, ridge: Tensor, readout: Tensor | None = None
) -> float:
    """Information lost by keeping only the units `kept`.

    With C_J = Σ − Σ_{F,J}(Σ_{J,J}+I_τ)⁻¹Σ_{J,F} it is Tr C_J (input loss), or Tr[Z C_J Zᵀ] (output loss)
    where a readout Z is given.

    Args:
        moment: the units' moment, or Σ itself (m, m).
        kept: J, distinct unit indices in [0, m); none gives Tr Σ or Tr[Z Σ Zᵀ].
        ridge: τ, (m,), >= 0; where it is 0, units that add nothing to the others count as such.
        readout: Z, (outputs, m), the reader's weight; see `readout_matrix` for convolutions.

    Returns:
        The loss, >= 0, absolute: in the units of Σ, or of the square of the reader's output.

    Raises:
        ValueError: an index, a ridge or a readout that does not fit the moment.

    Source:
        method.md §3.
    """
    return float(losses_along(moment, kept, ridge, readout)[-1])


def losses_along(
    moment: Moment | Tensor, order: Units, ridge: Tensor, readout: Tensor | None = None
) -> Tensor:
    """The information loss of every prefix of an order, from one Cholesky factor.

    Args:
        moment: the units' moment, or Σ itself (m, m).
        order: k distinct unit indices in [0, m).
        ridge: τ, (m,), >= 0.
        readout: Z, (outputs, m), for the output loss; None for the input loss.

    Returns:
        (k+1,) float64, absolute, non-increasing, entry i for the first i units.

    Raises:
        ValueError: as for `information_loss`.

    Source:
        method.md §3.
    """
    matrix = second_moment(moment)
    width = matrix.shape[0]
    index = unit_indices(order, width).to(matrix.device)
    tau = ridge_vector(ridge, width).to(matrix.device)
    weights = None if readout is None else readout_weights(readout, width).to(matrix.device)
    factors = residual_factors(matrix, index, tau)  # (k, m)
    if weights is None:
        start, gains = matrix.trace(), factors.square().sum(1)  # Tr Σ, |f_i|²   (k,)
    else:
        start = ((weights @ matrix) * weights).sum()  # Tr[Z Σ Zᵀ]
        gains = (factors @ weights.T).square().sum(1)  # |Z f_i|²   (k,)
    losses = start - torch.cat([gains.new_zeros(1), gains.cumsum(0)])  # Tr[Z C_J Zᵀ] of every prefix   (k+1,)
    return losses.clamp(min=0.0).cpu()


def residual_factors(matrix: Tensor, index: Tensor, tau: Tensor) -> Tensor:
    """Rows f_i with C_J = Σ − Σ_i f_i f_iᵀ for every prefix J of an order.

    A unit that is spent when its turn comes gives a row of zeros.

    Args:
        matrix: Σ, (m, m) float64.
        index: the order, (k,) int64.
        tau: τ, (m,) float64, >= 0.

    Returns:
        (k, m) float64.
    """
    cross = matrix[index]  # Σ_{J,F}   (k, m)
    gram = cross[:, index] + torch.diag(tau[index])  # Σ_{J,J} + I_τ   (k, k)
    factor, failed = torch.linalg.cholesky_ex(gram)  # = FFᵀ
    floor = SPENT * matrix.diagonal()[index]
    if bool(failed) or not bool((factor.diagonal().square() > floor).all()):
        return _factors_skipping_spent(matrix, index, tau)
    return torch.linalg.solve_triangular(factor, cross, upper=False)  # F⁻¹Σ_{J,F}   (k, m)


def _factors_skipping_spent(matrix: Tensor, index: Tensor, tau: Tensor) -> Tensor:
    """The same rows one at a time, for a matrix too near singular for a plain Cholesky factor."""
    sigma, ridge = matrix.cpu().numpy(), tau.cpu().numpy()
    rows = np.zeros((len(index), sigma.shape[0]))
    for step, unit in enumerate(index.tolist()):
        residual = sigma[unit] - rows[:step, unit] @ rows[:step]  # C e_j = Σ e_j − Σ_i f_ij f_i   (m,)
        pivot = residual[unit] + ridge[unit]  # C_jj + τ_j
        if pivot > SPENT * sigma[unit, unit]:
            rows[step] = residual / np.sqrt(pivot)  # f   (m,)
    return torch.from_numpy(rows).to(matrix.device)


def readout_weights(readout: Tensor, width: int) -> Tensor:
    """A readout as it was given, checked.

    Args:
        readout: Z, (outputs, m), of any dtype.
        width: m.

    Returns:
        Z, (outputs, m) float64, on its own device.

    Raises:
        ValueError: wrong shape, or an entry that is not finite.
    """
    if readout.ndim != 2 or readout.shape[1] != width:
        raise ValueError(
            f"A readout must have shape (outputs, {width}), but its shape is {tuple(readout.shape)}; "
            "readout_matrix(weight, width) makes it from a layer's weight."
        )
    weights = readout.detach().to(torch.float64)
    if not bool(weights.isfinite().all()):
        raise ValueError("The readout holds NaN or infinite weights; check the reader's weight.")
    return weights
