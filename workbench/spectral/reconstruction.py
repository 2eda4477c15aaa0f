"""Reconstruction: what the kept units say about the lost ones, folded into the readers."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.spectral.moment import Moment, Units, second_moment, unit_indices
from workbench.spectral.regression import ridge_vector, solve


def reconstruction_matrix(moment: Moment | Tensor, kept: Units, ridge: Tensor) -> Tensor:
    """Â_J = Σ_{F,J}(Σ_{J,J}+I_τ)⁻¹: what the kept units say about all of them.

    Â is the A that minimises E‖φ − Aφ_J‖² + Tr[A I_τ Aᵀ]. With a zero ridge the kept units' rows are exactly
    the identity, so that at full width the network is unchanged.

    Args:
        moment: the units' moment, or Σ itself (m, m).
        kept: J, k distinct unit indices in [0, m), at least one; columns follow their order.
        ridge: τ, (m,), >= 0.

    Returns:
        Â, (m, k) float64.

    Raises:
        ValueError: no unit kept, or an index or ridge that does not fit the moment.

    Source:
        method.md §5.
    """
    matrix = second_moment(moment)
    index = _kept_indices(kept, matrix.shape[0]).to(matrix.device)
    return _regress_on(matrix, index, ridge_vector(ridge, matrix.shape[0]).to(matrix.device))


def fold(weight: Tensor, matrix: Tensor) -> Tensor:
    """Fold a reconstruction into a reader: W Â on the channel axis, at each kernel position.

    Args:
        weight: a reader's weight: (outputs, m, *kernel), or (outputs, m·positions) for a Linear reader
            after a Flatten, where the positions of one unit are neighbours.
        matrix: Â, (m, k).

    Returns:
        (outputs, k, *kernel), or (outputs, k·positions), in the weight's dtype and on its device.

    Raises:
        ValueError: the weight does not have the channels of the matrix.

    Source:
        method.md §5.
    """
    width, kept = _matrix_shape(matrix)
    spread = _by_unit(weight, width)  # (outputs, m, positions)
    matrix = matrix.to(weight.device, torch.float64)
    folded = torch.einsum("omp,mk->okp", spread.to(torch.float64), matrix)  # W_p Â at every position p
    return folded.reshape(_folded_shape(weight, kept, width)).to(weight.dtype)


def readout_matrix(weight: Tensor, width: int) -> Tensor:
    """The readout Z of a reader: the weight of every kernel position stacked.

    Args:
        weight: (outputs, m, *kernel), or (outputs, m·positions) for a Linear reader after a Flatten.
        width: m.

    Returns:
        Z, (outputs·positions, m) float64.

    Raises:
        ValueError: the weight does not have `width` channels.

    Source:
        method.md §3.
    """
    spread = _by_unit(weight.detach(), width)
    return spread.transpose(1, 2).reshape(-1, width).to(torch.float64)


def _regress_on(matrix: Tensor, index: Tensor, tau: Tensor) -> Tensor:
    """Σ_{F,J}(Σ_{J,J}+I_τ)⁻¹, with the kept rows written as I − I_τ(Σ_{J,J}+I_τ)⁻¹.

    That form is exact where τ is 0, however near Σ_{J,J} is to singular.
    """
    lost = torch.ones(matrix.shape[0], dtype=torch.bool, device=matrix.device)
    lost[index] = False
    kept_ridge = torch.diag(tau[index])
    gram = matrix[index][:, index] + kept_ridge  # Σ_{J,J} + I_τ   (k, k)
    right = torch.cat([kept_ridge, matrix[index][:, lost]], dim=1)  # [I_τ, Σ_{J,L}]   (k, k + l)
    solution = solve(gram, right, matrix.diagonal()[index]).T  # [I_τ; Σ_{L,J}](Σ_{J,J} + I_τ)⁻¹   (k + l, k)
    kept = len(index)
    result = matrix.new_empty(matrix.shape[0], kept)
    result[index] = torch.eye(kept, dtype=matrix.dtype, device=matrix.device) - solution[:kept]
    result[lost] = solution[kept:]
    return result


def _kept_indices(kept: Units, width: int) -> Tensor:
    index = unit_indices(kept, width)
    if index.numel() == 0:
        raise ValueError("Nothing can be reconstructed from no unit at all: keep at least one.")
    return index


def _matrix_shape(matrix: Tensor) -> tuple[int, int]:
    if matrix.ndim != 2:
        raise ValueError(f"A reconstruction matrix must have shape (m, k), got {tuple(matrix.shape)}.")
    return matrix.shape[0], matrix.shape[1]


def _by_unit(weight: Tensor, width: int) -> Tensor:
    """A reader's weight as (outputs, m, positions)."""
    if weight.ndim < 2:
        raise ValueError(
            f"A reader's weight must have shape (outputs, m, ...), but its shape is {tuple(weight.shape)}."
        )
    if weight.ndim == 2 and width > 0 and weight.shape[1] % width == 0:
        return weight.reshape(weight.shape[0], width, -1)
    if weight.ndim > 2 and weight.shape[1] == width:
        return weight.flatten(2)
    raise ValueError(
        f"The reader should read {width} units, but a weight of shape {tuple(weight.shape)} does not: "
        f"its second dimension must be {width}, or a multiple of it for a Linear reader after a Flatten."
    )


def _folded_shape(weight: Tensor, kept: int, width: int) -> tuple[int, ...]:
    if weight.ndim == 2:
        return (weight.shape[0], weight.shape[1] // width * kept)
    return (weight.shape[0], kept, *weight.shape[2:])
