"""Least squares from sums: regressors and targets a batch at a time, the solution at the end."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.spectral.losses import SPENT, ridge_vector
from workbench.spectral.moment import Moment


class Sums:
    """Sums over samples of regressors x (f) and targets t (o): xxᵀ, txᵀ, x and t, in float64."""

    def __init__(self, features: int, targets: int, device: torch.device):
        # Apple's mps has no float64.
        self.device = torch.device("cpu") if device.type == "mps" else device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=self.device)

        self.gram, self.cross = zeros(features, features), zeros(targets, features)
        self.regressor, self.target, self.count = zeros(features), zeros(targets), 0

    def add(self, regressors: Tensor, targets: Tensor) -> None:
        """Add samples: (f, n) and (o, n)."""
        self.gram.addmm_(regressors, regressors.T)
        self.cross.addmm_(targets, regressors.T)
        self.regressor += regressors.sum(1)
        self.target += targets.sum(1)
        self.count += regressors.shape[1]

    def uncentred(self, own: Tensor, tau: Tensor) -> Tensor:
        """The D that minimises E|t − Dx|² + Tr[(own + D) I_τ (own + D)ᵀ], (o, f)."""
        moment = Moment(self.gram.cpu(), torch.zeros_like(self.regressor).cpu(), self.count)
        return regress_output(moment, self._cross() - own * tau, own.new_zeros(len(own)), tau)[0]

    def centred(self, own: Tensor, tau: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """The same with a constant: D (o, f), and b (o / block,), which every target of a block shares."""
        moment = Moment(self.gram.cpu(), self.regressor.cpu(), self.count)
        cross = (self._cross() - own * tau).reshape(-1, block, len(tau))
        mean = (self.target.cpu() / self.count).reshape(-1, block).mean(1)
        change, bias = regress_output(moment, cross.mean(1), mean, tau)
        if block == 1:
            return change, bias
        # The mean over a block decides the constant; what its targets differ by has none.
        apart = (cross - cross.mean(1, keepdim=True)).flatten(0, 1)
        centre = Moment(moment.total, torch.zeros_like(moment.sum), self.count)
        differing, _ = regress_output(centre, apart, apart.new_zeros(len(apart)), tau)
        return change.repeat_interleave(block, 0) + differing, bias

    def _cross(self) -> Tensor:
        return self.cross.cpu() / self.count


def regress_output(
    regressors: Moment, cross: Tensor, target_mean: Tensor, ridge: Tensor
) -> tuple[Tensor, Tensor]:
    """Least squares against the original network's output **[beyond the paper]**.

    Minimises E‖t − W φ' − b‖² + Tr[W I_τ Wᵀ] over W and b, where t is what the unpruned reader gives and φ'
    what the pruned network feeds it.

    Args:
        regressors: moment of φ', f features.
        cross: E[t φ'ᵀ], (outputs, f), over the same samples.
        target_mean: E[t], (outputs,).
        ridge: τ, (f,), >= 0.

    Returns:
        weight (outputs, f) and bias (outputs,), float64.

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.
    """
    features = regressors.width
    if cross.ndim != 2 or cross.shape[1] != features or tuple(target_mean.shape) != (cross.shape[0],):
        raise ValueError(
            f"Expected a cross moment (outputs, {features}) and target means (outputs,), got shapes "
            f"{tuple(cross.shape)} and {tuple(target_mean.shape)}."
        )
    covariance, mean = regressors.centred(), regressors.mean
    cross, target_mean = cross.detach().to(mean), target_mean.detach().to(mean)
    if not bool(cross.isfinite().all() and target_mean.isfinite().all()):
        raise ValueError("The cross moment or the target means hold NaN or infinite values; measure again.")
    gram = covariance + torch.diag(ridge_vector(ridge, features).to(mean.device))
    weight = _solve(gram, (cross - torch.outer(target_mean, mean)).T, regressors.matrix.diagonal()).T
    return weight, target_mean - weight @ mean


def _solve(gram: Tensor, right: Tensor, variances: Tensor) -> Tensor:
    """gram⁻¹ right by Cholesky, or by a pseudo-inverse where units repeat each other without a ridge."""
    factor, failed = torch.linalg.cholesky_ex(gram)
    if not bool(failed) and bool((factor.diagonal().square() > SPENT * variances).all()):
        return torch.cholesky_solve(right, factor)
    # Units of very different scale must be judged each by its own: bring them to unit diagonal first.
    scale = gram.diagonal().clamp(min=0.0).sqrt()
    inverse_scale = torch.where(scale > 0, 1 / scale, 0.0)
    scaled = gram * torch.outer(inverse_scale, inverse_scale)
    values, vectors = torch.linalg.eigh(scaled)
    inverted = torch.where(values > SPENT * max(1.0, float(values[-1])), 1 / values, 0.0)
    return inverse_scale[:, None] * (
        vectors @ (inverted[:, None] * (vectors.T @ (inverse_scale[:, None] * right)))
    )
