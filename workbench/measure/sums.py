"""Least squares from sums: regressors and targets a batch at a time, the solution at the end."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.spectral import Moment, regress_output


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
