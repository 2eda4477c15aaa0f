"""What the running code is compared with: the same numbers, written down as their definitions say."""

import torch
from torch import Tensor


def activity(samples: Tensor) -> Tensor:
    """Share of samples (n, m) where a unit is not zero: 1 − APoZ (Hu et al. 2016, average share of zeros)."""
    return (samples != 0).double().mean(0)


def mean_activation(samples: Tensor) -> Tensor:
    """Mean |φ_j| over samples (n, m)."""
    return samples.double().abs().mean(0)


def taylor(samples: Tensor, gradients: Tensor) -> Tensor:
    """|mean of gradient × activation| (Molchanov et al. 2017), both (n, m)."""
    return (samples.double() * gradients.double()).mean(0).abs()


def patch_reconstruction_matrix(sigma: Tensor, kept: list[int], tau: Tensor) -> Tensor:
    """Kernel-aware Â = Σ_{F,J}(Σ_{J,J}+I_τ)⁻¹ on the patch features of the channels `kept`, (m·p, k·p).

    `sigma` (m·p, m·p) is the moment of a patch's features, channel-major; `tau` (m,), a channel's p features
    share it.
    """
    positions = len(sigma) // len(tau)
    index = [channel * positions + position for channel in kept for position in range(positions)]
    gram = sigma[index][:, index] + torch.diag(tau.double().repeat_interleave(positions)[index])
    return sigma[:, index] @ torch.linalg.inv(gram)


def fold_patches(weight: Tensor, matrix: Tensor) -> Tensor:
    """The reader's weight (outputs, m, *kernel) after it: (outputs, k, *kernel)."""
    folded = weight.double().flatten(1) @ matrix
    return folded.reshape(len(weight), -1, *weight.shape[2:])
