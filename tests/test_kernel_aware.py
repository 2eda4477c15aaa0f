"""Kernel-aware reconstruction as it runs, against its closed form on the patches' own moment."""

import pytest
import torch
from oracles import fold_patches, patch_reconstruction_matrix
from torch import nn
from torch.nn import functional

from workbench.fitting.least_squares import fit_present
from workbench.network.groups import Reader
from workbench.spectral.losses import information_loss
from workbench.spectral.moment import Moment
from workbench.spectral.reconstruction import fold, reconstruction_matrix

M, KEPT = 13, [2, 5, 7, 11]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(n=29, size=7):
    """Smooth, correlated channels (n, M, size, size)."""
    mixed = torch.einsum("nchw,cd->ndhw", noise(n, M, size, size), noise(M, M, seed=1))
    return functional.avg_pool2d(mixed, 3, stride=1, padding=1).relu()


def patches(phi, kernel=3):
    """(n·positions, M·p), channel-major."""
    return functional.unfold(phi, kernel).transpose(1, 2).flatten(0, 1)


def fitted(layer, phi, kept, tau):
    """What the workbench fits for a convolution that reads all of `phi`'s channels, (outputs, k, *kernel)."""
    reader = Reader("0", type(layer).__name__, torch.arange(M).reshape(M, 1))
    weight = layer.weight.detach().flatten(2)
    found = fit_present(nn.Sequential(layer), reader, weight, range(M), kept, tau, phi)
    return found.reshape(len(weight), len(kept), *layer.weight.shape[2:])


@pytest.mark.parametrize("tau", [0.0, 0.02])
def test_the_fit_is_the_closed_form_on_patches(tau):
    phi, layer = images(), nn.Conv2d(M, 5, 3).double()
    ridge = tau * torch.arange(1, M + 1, dtype=torch.float64)
    sigma = Moment.of(patches(phi)).matrix
    expected = fold_patches(layer.weight.detach(), patch_reconstruction_matrix(sigma, KEPT, ridge))
    torch.testing.assert_close(fitted(layer, phi, KEPT, ridge), expected, rtol=1e-7, atol=1e-9)


def test_its_error_is_predicted_exactly_and_beats_the_channels():
    phi, layer = images(), nn.Conv2d(M, 5, 3, bias=False).double()
    weight, zero = layer.weight.detach(), torch.zeros(M, dtype=torch.float64)
    target = functional.conv2d(phi, weight)

    def error(folded):
        change = functional.conv2d(phi[:, KEPT], folded) - target
        return float(change.square().sum(1).mean())

    kernel_aware = fitted(layer, phi, KEPT, zero)
    features = [unit * 9 + position for unit in KEPT for position in range(9)]
    predicted = information_loss(Moment.of(patches(phi)), features, torch.zeros(M * 9), weight.flatten(1))
    assert error(kernel_aware) == pytest.approx(predicted, rel=1e-9)
    channels = Moment.of(phi.transpose(1, 3).flatten(0, 2))
    assert error(kernel_aware) < error(fold(weight, reconstruction_matrix(channels, KEPT, zero)))


def test_of_every_channel_it_changes_nothing():
    phi, layer = images(), nn.Conv2d(M, 5, 3).double()
    found = fitted(layer, phi, list(range(M)), torch.zeros(M, dtype=torch.float64))
    torch.testing.assert_close(found, layer.weight.detach(), rtol=0, atol=1e-12)
