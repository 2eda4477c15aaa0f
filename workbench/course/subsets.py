"""The best of all subsets, where there are few enough to try them all: what greedy choice is held against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from workbench.spectral.moment import Moment, second_moment

MOST_UNITS = 16  # 65,536 subsets


@dataclass(frozen=True)
class BestSubsets:
    """The best subset of every size.

    Attributes:
        losses: (m+1,) float64, absolute: the least information loss of any subset of 0 … m units.
        medians: (m+1,) float64: the median over all subsets of that size, what a random choice gives.
        kept: one best subset a size, ascending.
        tried: how many subsets there were, 2^m.
    """

    losses: Tensor
    medians: Tensor
    kept: tuple[tuple[int, ...], ...]
    tried: int


def best_subsets(moment: Moment | Tensor, ridge: Tensor, readout: Tensor | None = None) -> BestSubsets:
    """Try every subset of the units.

    With M = I (input loss) or ZᵀZ (output loss), L(J) = Tr[MΣ] − Tr[(Σ_JJ + I_τ)⁻¹ (ΣMΣ)_JJ].

    Args:
        moment: the units' moment, or Σ (m, m) with m at most 16.
        ridge: τ, (m,), > 0 where Σ is singular.
        readout: Z, (outputs, m), for the output loss; None for the input loss.

    Returns:
        The best of each size.

    Raises:
        ValueError: more than 16 units, or a ridge or readout of another width.

    Source:
        method.md §3.
    """
    sigma = second_moment(moment)
    m = len(sigma)
    if m > MOST_UNITS:
        raise ValueError(
            f"{m} units have 2^{m} subsets, too many to try; give a moment of {MOST_UNITS} or fewer"
        )
    if ridge.shape != (m,) or (readout is not None and readout.shape[-1:] != (m,)):
        raise ValueError(f"the ridge and the readout must be of the moment's {m} units")
    weight = torch.eye(m, dtype=sigma.dtype) if readout is None else readout.to(sigma).T @ readout.to(sigma)
    gain = sigma @ weight @ sigma  # ΣMΣ   (m, m)
    whole = float((weight * sigma).sum())  # Tr[MΣ]
    steadied = sigma + torch.diag(ridge.to(sigma))
    losses, medians, kept = [whole], [whole], [()]
    for size in range(1, m + 1):
        subsets = torch.tensor(list(combinations(range(m), size)))  # (c, k)
        rows, columns = subsets[:, :, None], subsets[:, None, :]
        kept_part = torch.linalg.solve(steadied[rows, columns], gain[rows, columns])  # (c, k, k)
        lost = whole - kept_part.diagonal(dim1=1, dim2=2).sum(1)  # (c,)
        best = int(lost.argmin())
        losses.append(max(float(lost[best]), 0.0))
        medians.append(max(float(lost.median()), 0.0))
        kept.append(tuple(subsets[best].tolist()))
    as_tensor = partial(torch.tensor, dtype=torch.float64)
    return BestSubsets(as_tensor(losses), as_tensor(medians), tuple(kept), 2**m)
