"""What the theory guarantees: widths, errors and generalisation, each with its assumptions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from workbench.spectral.losses import information_loss, readout_weights
from workbench.spectral.moment import Moment, Units, second_moment, unit_indices

COUNT_TOLERANCE = 1e-9  # N(λ) is a sum of m shares: so much a unit above a whole number is rounding


def suggested_width(degrees_of_freedom: float, width: int) -> int:
    """⌈N(λ)⌉ within [1, m]; a hair above a whole number does not ask for one unit more.

    Args:
        degrees_of_freedom: N(λ), units.
        width: m, the group's units.

    Returns:
        A number of units.

    Source:
        method.md §7, the width that a shared λ gives.
    """
    return min(max(math.ceil(degrees_of_freedom - COUNT_TOLERANCE * width), 1), width)


def guaranteed_width(degrees_of_freedom: float) -> int:
    """⌈5 N log(80 N)⌉, the units to sample from the leverage scores for the guarantee.

    With that many units, λ_max(C_J) <= 4λ with probability over 1/2 (`sampling_bound`). N(λ) itself is the
    dimension; this is the guarantee. The formula is meant for N of 1 or more; below, where it would fall
    under one unit (N about 0.06), the answer is 1. It may exceed the layer's width: then it promises nothing.

    Args:
        degrees_of_freedom: N(λ) >= 0.

    Returns:
        A number of units, at least 1.

    Raises:
        ValueError: N is negative or not finite.

    Source:
        method.md §6; the paper's theorem on leverage-score sampling, after Bach, JMLR 2017.
    """
    n = _checked(degrees_of_freedom, "The degrees of freedom")
    if 80 * n <= 1:
        return 1
    return max(1, math.ceil(5 * n * math.log(80 * n)))


def sampling_bound(lam: float) -> float:
    """4λ: the mean square error, at most, of every unit-norm linear read-out of φ.

    It holds with probability over 1/2 when `guaranteed_width(N(λ))` units are sampled from the leverage
    scores.

    Args:
        lam: λ >= 0, absolute, in the units of Σ.

    Returns:
        A mean square, in the units of Σ.

    Raises:
        ValueError: `lam` is negative or not finite.

    Source:
        method.md §6; Bach, JMLR 2017.
    """
    return 4 * _checked(lam, "λ")


def local_error(moment: Moment | Tensor, kept: Units, ridge: Tensor, readout: Tensor) -> float:
    """sqrt(Tr[W C_J Wᵀ]): the root-mean-square change at a reader's output.

    For a Linear reader it is an upper bound on the calibration set (the ridge's part is the slack: with a
    zero ridge it is exact). For a convolution it is an estimate, since channel moments ignore how kernel
    positions correlate.

    Args:
        moment: the units' moment, or Σ (m, m).
        kept: distinct unit indices.
        ridge: τ, (m,).
        readout: W, (outputs, m); `readout_matrix` makes it from a layer's weight.

    Returns:
        A root mean square over samples, in the units of the reader's output.

    Raises:
        ValueError: as for `information_loss`.

    Source:
        method.md §6.
    """
    return math.sqrt(information_loss(moment, kept, ridge, readout))  # sqrt(Tr[W C_J Wᵀ])


def removal_error(moment: Moment | Tensor, kept: Units, readout: Tensor) -> float:
    """sqrt(Tr[W_L Σ_LL W_Lᵀ]): the same where units go and nothing makes up for them.

    Exact for a Linear reader on the calibration set; for a convolution an estimate, as `local_error` is.

    Args:
        moment: the units' moment, or Σ (m, m).
        kept: distinct unit indices; L is the rest.
        readout: W, (outputs, m); `readout_matrix` makes it from a layer's weight.

    Returns:
        A root mean square over samples, in the units of the reader's output.

    Raises:
        ValueError: an index or a readout that does not fit the moment.

    Source:
        method.md §6; Â_J replaced by the matrix that picks the kept units.
    """
    sigma = second_moment(moment)
    weights = readout_weights(readout, len(sigma)).to(sigma.device)
    lost = torch.ones(len(sigma), dtype=torch.bool)
    lost[unit_indices(kept, len(sigma))] = False
    gone = weights[:, lost]  # W_L   (outputs, l)
    change = float(((gone @ sigma[lost][:, lost]) * gone).sum())  # Tr[W_L Σ_LL W_Lᵀ]
    return math.sqrt(max(change, 0.0))


def propagated_error(local_errors: Sequence[float], spectral_norms: Sequence[float]) -> float:
    """Σ_ℓ (product of the spectral norms above ℓ)·local_ℓ: the error at the network's output.

    Assumes activations with Lipschitz constant 1.

    Args:
        local_errors: one a reader, from the input to the output, each at that reader's output.
        spectral_norms: the readers' spectral norms (times the Lipschitz constant of what lies between), in
            the same order; the first one is not above any reader and does not count.

    Returns:
        A bound on the root mean square, in the units of the network's output.

    Raises:
        ValueError: the lengths differ, or a number is negative or not finite.

    Source:
        method.md §6.
    """
    _check_lengths(local_errors, spectral_norms, "local errors", "spectral norms")
    error = 0.0
    for local, norm in zip(local_errors, spectral_norms, strict=True):
        error = error * _checked(norm, "A spectral norm") + _checked(local, "A local error")
    return error


def generalisation_bias(lams: Sequence[float], lipschitz_above: Sequence[float]) -> float:
    """δ₁ = Σ_ℓ (Lipschitz factor above ℓ)·sqrt(λ_ℓ), up to constants.

    Args:
        lams: λ_ℓ, one a layer.
        lipschitz_above: the Lipschitz factor of everything above the layer, one a layer.

    Returns:
        δ₁, up to constants.

    Raises:
        ValueError: the lengths differ, or a number is negative or not finite.

    Source:
        method.md §6, the paper's generalisation bound.
    """
    _check_lengths(lams, lipschitz_above, "λ values", "Lipschitz factors")
    return sum(
        _checked(factor, "A Lipschitz factor") * math.sqrt(_checked(lam, "λ"))
        for lam, factor in zip(lams, lipschitz_above, strict=True)
    )


def generalisation_variance(widths: Sequence[float], samples: int) -> float:
    """δ₂ = sqrt((1/n) Σ_ℓ m♯_ℓ m♯_{ℓ+1} log n), up to constants.

    Args:
        widths: m♯_ℓ of every layer from the input to the output, both included.
        samples: n, the training examples.

    Returns:
        δ₂, up to constants.

    Raises:
        ValueError: fewer than two widths, a negative one, or fewer than one sample.

    Source:
        method.md §6, the paper's generalisation bound.
    """
    if len(widths) < 2:
        raise ValueError(f"At least two widths (in and out) are needed, but {len(widths)} were given.")
    if samples < 1:
        raise ValueError(f"The number of training examples must be at least 1, but {samples} was given.")
    sizes = [_checked(width, "A width") for width in widths]
    products = sum(before * after for before, after in pairwise(sizes))
    return math.sqrt(products * math.log(samples) / samples)


def _checked(value: float, what: str) -> float:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{what} must be finite and not negative, but {value} was given.")
    return float(value)


def _check_lengths(first: Sequence[float], second: Sequence[float], name: str, other: str) -> None:
    if len(first) != len(second):
        raise ValueError(
            f"There must be one of each a layer, but {len(first)} {name} and {len(second)} {other}."
        )
