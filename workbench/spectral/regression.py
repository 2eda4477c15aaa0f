"""Least squares from summed products, and every ridge that is added to one.

Where a ridge comes from, and where it is used (method.md §2, §3, §5, §10):

| τ | of | § |
|---|---|---|
| `ridge`: λ·m♯·τ'(λ) | losses, the greedy path and Â, with the λ of the choice | 2 |
| `shared_ridges`: the same, λ as a share of each trace | several readers | 10 |
| `light_lam`: min(λ, 10⁻⁶·Tr Σ) instead of λ | the fits `kernel` and `original` **[beyond the paper]** | 10 |
| `spread_ridge`: the kept units' τ, else its mean | a reader's other inputs, `original` **[beyond]** | 10 |
| `uniform_ridge`: 10⁻⁶·Tr Σ/m | every input of every layer, in `refit` **[beyond]** | 10 |

A ridge of 0 is allowed everywhere: directions that hold less than `SPENT` of their own variance are then left
out, instead of dividing by rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.spectral.moment import Moment
from workbench.spectral.spectrum import Spectrum

FIT_LAM = 1e-6
"""Of Tr Σ: the λ of the paper's Figure 1, and the most that a fit on patches takes."""

SPENT = 1e-12
"""A unit whose remaining variance is below this share of its own is spent: what is left is the rounding of
float32 activations (squared, 4e-15) with a margin, and dividing by it would only amplify noise."""


def ridge(spectrum: Spectrum, lam: float, width: float) -> Tensor:
    """Ridge vector τ = λ · width · τ'(λ), in the units of Σ.

    Args:
        spectrum: of the moment that the ridge is added to, m units.
        lam: λ > 0, absolute, in the units of Σ.
        width: m♯, the wanted width, in [0, m].

    Returns:
        τ, (m,) float64, >= 0; it sums to λ·width.

    Raises:
        ValueError: `lam` is not a positive finite number, or `width` is not in [0, m].

    Source:
        method.md §2.
    """
    if not 0 <= width <= spectrum.width:
        raise ValueError(f"A width must lie in [0, {spectrum.width}], but {width} was given.")
    return lam * width * spectrum.leverage(lam)  # τ = λ·m♯·τ'(λ)   (m,)


def shared_ridges(spectra: Sequence[Spectrum], trace: float, lam: float, width: int) -> list[Tensor]:
    """One ridge a reader of the same units: λ is the same share of the trace at each of them.

    Args:
        spectra: of each reader's moment, m units each.
        trace: Tr Σ of the moment that λ was chosen on, their mean.
        lam: λ > 0, absolute, in the units of that moment.
        width: m♯, the wanted width, in [0, m].

    Returns:
        τ, (m,) float64, a reader; zeros at a reader that receives nothing.

    Raises:
        ValueError: as for `ridge`.

    Source:
        method.md §10.
    """
    return [
        ridge(s, lam * s.trace / trace, width)  # λ_r = λ·Tr Σ_r/Tr Σ
        if trace > 0 and s.trace > 0
        else torch.zeros_like(s.eigenvalues)
        for s in spectra
    ]


def light_lam(lam: float, trace: float) -> float:
    """min(λ, 10⁻⁶·Tr Σ), the λ of a fit on patches **[beyond the paper]**; λ itself where the trace is 0.

    Such a fit sees every position of every patch and needs the ridge for a steady solution only; the λ of a
    narrow width would shrink what it fits. There λ chooses the width and nothing else.

    Args:
        lam: λ > 0 of the choice, absolute.
        trace: Tr Σ >= 0 of the moment that it was chosen on.

    Returns:
        λ, absolute, in the units of Σ.

    Source:
        method.md §10.
    """
    return min(lam, FIT_LAM * trace or lam)


def spread_ridge(kept_ridge: Tensor, columns: Tensor, inputs: int) -> Tensor:
    """The ridge of all inputs of a reader, of which only some belong to the group **[beyond the paper]**.

    Args:
        kept_ridge: τ of the k kept units, (k,).
        columns: which inputs are theirs, (k, positions) int64; every position of a unit gets its τ.
        inputs: how many inputs the reader has.

    Returns:
        (inputs,) float64; the mean of `kept_ridge` at inputs that are no unit's of the group.

    Source:
        method.md §10.
    """
    spread = torch.full((inputs,), float(kept_ridge.mean()), dtype=torch.float64)
    spread[columns.flatten()] = kept_ridge.repeat_interleave(columns.shape[1])
    return spread


def uniform_ridge(trace: float, width: int) -> float:
    """10⁻⁶·Tr Σ/m, a share of the mean variance of a unit, for every input alike **[beyond the paper]**.

    Args:
        trace: Tr Σ of the group's moment.
        width: m, its present width.

    Returns:
        One number, in the units of Σ.

    Source:
        method.md §10, of `refit`.
    """
    return FIT_LAM * trace / width


def ridge_vector(ridge: Tensor, width: int) -> Tensor:
    """A ridge as it was given, checked.

    Args:
        ridge: τ, (m,), >= 0, of any dtype.
        width: m.

    Returns:
        τ, (m,) float64, on its own device.

    Raises:
        ValueError: wrong shape, or an entry that is negative or not finite.
    """
    if tuple(ridge.shape) != (width,):
        raise ValueError(
            f"The ridge must have one entry for each of the {width} units, shape ({width},), but has shape "
            f"{tuple(ridge.shape)}; ridge(spectrum, lam, width) makes it."
        )
    tau = ridge.detach().to(torch.float64)
    if not bool(((tau >= 0) & tau.isfinite()).all()):
        raise ValueError(
            "The ridge must be finite and >= 0 everywhere; ridge(spectrum, lam, width) makes it."
        )
    return tau


class Sums:
    """Sums over samples of regressors x (f) and targets t (o): xxᵀ, txᵀ, x and t, in float64."""

    def __init__(self, features: int, targets: int, device: torch.device):
        # Apple's mps has no float64.
        self.device = torch.device("cpu") if device.type == "mps" else device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=self.device)

        self.features = features
        self.gram, self.cross = zeros(features, features), zeros(targets, features)
        self.regressor, self.target, self.count = zeros(features), zeros(targets), 0

    def add(self, regressors: Tensor, targets: Tensor) -> None:
        """Add n samples.

        Args:
            regressors: x, (f, n) float64.
            targets: t, (o, n) float64.
        """
        self.gram.addmm_(regressors, regressors.T)  # Σ_i x_i x_iᵀ   (f, f)
        self.cross.addmm_(targets, regressors.T)  # Σ_i t_i x_iᵀ   (o, f)
        self.regressor += regressors.sum(1)
        self.target += targets.sum(1)
        self.count += regressors.shape[1]

    def uncentred(self, own: Tensor, tau: Tensor) -> Tensor:
        """The change of a weight that fits the targets best, without a constant.

        Minimises E|t − Dx|² + Tr[(W + D) I_τ (W + D)ᵀ] over D: the ridge draws all of W + D to zero.

        Args:
            own: W, the weight that the targets are counted from, (o, f).
            tau: τ, (f,), >= 0.

        Returns:
            D, (o, f) float64.

        Raises:
            ValueError: as for `regress_output`.
        """
        moment = Moment(self.gram.cpu(), torch.zeros_like(self.regressor).cpu(), self.count)
        cross = (
            self._cross() - own * tau
        )  # E[t xᵀ] − W I_τ, so that D = (E[t xᵀ] − W I_τ)(Σ_x + I_τ)⁻¹   (o, f)
        return regress_output(moment, cross, own.new_zeros(len(own)), tau)[0]

    def centred(self, own: Tensor, tau: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """The same with a constant that the targets of a block share.

        Args:
            own: W, (o, f).
            tau: τ, (f,), >= 0.
            block: how many neighbouring targets share one constant; 1 for a constant each.

        Returns:
            D (o, f) and b (o / block,), float64.

        Raises:
            ValueError: as for `regress_output`.
        """
        moment = Moment(self.gram.cpu(), self.regressor.cpu(), self.count)
        cross = (self._cross() - own * tau).reshape(-1, block, len(tau))  # E[t xᵀ] − W I_τ   (o/b, b, f)
        mean = (self.target.cpu() / self.count).reshape(-1, block).mean(1)  # E[t], a block   (o/b,)
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
    """Least squares with a constant, from moments **[beyond the paper]**.

    Minimises E‖t − W φ' − b‖² + Tr[W I_τ Wᵀ] over W and b, where t is what the unpruned reader gives and φ'
    what the pruned network feeds it.

    Args:
        regressors: moment of φ', f features.
        cross: E[t φ'ᵀ], (outputs, f), over the same samples.
        target_mean: E[t], (outputs,).
        ridge: τ, (f,), >= 0.

    Returns:
        W (outputs, f) and b (outputs,), float64.

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.

    Source:
        method.md §5, against the original.
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
    gram = covariance + torch.diag(ridge_vector(ridge, features).to(mean.device))  # Cov φ' + I_τ   (f, f)
    together = cross - torch.outer(target_mean, mean)  # Cov(t, φ')   (outputs, f)
    weight = solve(gram, together.T, regressors.matrix.diagonal()).T  # W = Cov(t, φ')(Cov φ' + I_τ)⁻¹
    return weight, target_mean - weight @ mean  # b = E[t] − W E[φ']   (outputs,)


def solve(gram: Tensor, right: Tensor, variances: Tensor) -> Tensor:
    """G⁻¹R by Cholesky, or by a pseudo-inverse where units repeat each other without a ridge.

    Args:
        gram: G = Σ_{J,J} + I_τ, (k, k), symmetric positive semi-definite.
        right: R, (k, r).
        variances: diag Σ_{J,J}, (k,): directions below `SPENT` of them are left out.

    Returns:
        (k, r) float64.
    """
    alive = variances > 0
    if not bool(alive.all()):  # in a pseudo-inverse they would mix with the others, by rounding over τ
        own = gram.diagonal()[:, None]
        solution = torch.where(own > 0, right / own, 0.0)  # τ_j alone: nothing of G is shared   (k, r)
        solution[alive] = solve(gram[alive][:, alive], right[alive], variances[alive])
        return solution
    factor, failed = torch.linalg.cholesky_ex(gram)  # G = FFᵀ   (k, k)
    if not bool(failed) and bool((factor.diagonal().square() > SPENT * variances).all()):
        return torch.cholesky_solve(right, factor)
    # Units of very different scale must be judged each by its own: bring them to unit diagonal first.
    scale = gram.diagonal().clamp(min=0.0).sqrt()
    inverse_scale = torch.where(scale > 0, 1 / scale, 0.0)
    scaled = gram * torch.outer(inverse_scale, inverse_scale)  # S⁻¹GS⁻¹, S = (diag G)^½   (k, k)
    values, vectors = torch.linalg.eigh(scaled)  # = V diag(ν) Vᵀ
    inverted = torch.where(values > SPENT * max(1.0, float(values[-1])), 1 / values, 0.0)
    # S⁻¹ V diag(1/ν) Vᵀ S⁻¹ R   (k, r)
    return inverse_scale[:, None] * (
        vectors @ (inverted[:, None] * (vectors.T @ (inverse_scale[:, None] * right)))
    )
