"""Every ridge there is, against its formula written down with numpy."""

import numpy as np
import pytest
import torch

from workbench.spectral.moment import Moment
from workbench.spectral.regression import light_lam, ridge, shared_ridges, spread_ridge, uniform_ridge
from workbench.spectral.spectrum import Spectrum

M = 7


def moment(scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Moment.of(scale * torch.randn(101, M, generator=generator, dtype=torch.float64).relu())


def by_hand(sigma, lam, width):
    smoothed = sigma @ np.linalg.inv(sigma + lam * np.eye(M))
    return lam * width * np.diag(smoothed) / np.trace(smoothed)


def test_the_ridge_is_lam_times_width_times_leverage():
    sigma = moment().matrix.numpy()
    found = ridge(Spectrum.of(moment()), 0.03, 4)
    np.testing.assert_allclose(found.numpy(), by_hand(sigma, 0.03, 4), rtol=1e-10)
    assert float(found.sum()) == pytest.approx(0.03 * 4)


def test_readers_share_a_lam_as_a_share_of_their_traces():
    small, large = moment(seed=1), moment(scale=10.0, seed=2)
    traces = [float(one.matrix.trace()) for one in (small, large)]
    mean = sum(traces) / 2
    found = shared_ridges([Spectrum.of(small), Spectrum.of(large)], mean, 0.01 * mean, 3)
    for one, trace, tau in zip((small, large), traces, found, strict=True):
        np.testing.assert_allclose(tau.numpy(), by_hand(one.matrix.numpy(), 0.01 * trace, 3), rtol=1e-10)


def test_a_reader_that_receives_nothing_has_no_ridge():
    nothing = Spectrum.of(torch.zeros(M, M))
    live = Spectrum.of(moment())
    dead, some = shared_ridges([nothing, live], live.trace / 2, 0.1, 3)
    assert not dead.any()
    assert bool((some > 0).all())
    assert not shared_ridges([nothing], 0.0, 0.1, 3)[0].any()


def test_fits_on_patches_take_a_millionth_of_the_trace_at_most():
    assert light_lam(0.5, 100.0) == 1e-6 * 100.0
    assert light_lam(1e-9, 100.0) == 1e-9
    assert light_lam(0.5, 0.0) == 0.5


def test_inputs_of_no_unit_get_the_mean_ridge():
    tau, columns = torch.tensor([1.0, 5.0], dtype=torch.float64), torch.tensor([[0, 1], [4, 3]])
    assert spread_ridge(tau, columns, 6).tolist() == [1, 1, 3, 5, 5, 3]


def test_the_uniform_ridge_is_a_millionth_of_a_unit_s_mean_variance():
    one = moment()
    variances = one.matrix.diagonal()
    assert uniform_ridge(float(one.matrix.trace()), M) == pytest.approx(1e-6 * float(variances.mean()))
