"""Reconstruction, folded into Linear and convolutional readers, checked on the samples themselves."""

import pytest
import torch
from torch.nn import functional

from workbench.session.session import Session
from workbench.spectral.moment import Moment
from workbench.spectral.reconstruction import (
    fold,
    readout_matrix,
    reconstruction_matrix,
)
from workbench.spectral.regression import regress_output, ridge
from workbench.spectral.spectrum import Spectrum

M, KEPT = 13, [7, 2, 11, 5]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(n=29, m=M, size=7):
    """Smooth, correlated channels (n, m, size, size)."""
    mixed = torch.einsum("nchw,cd->ndhw", noise(n, m, size, size), noise(m, m, seed=1))
    return functional.avg_pool2d(mixed, 3, stride=1, padding=1).relu()


def ridge_of(moment, relative=1e-3):
    spectrum = Spectrum.of(moment)
    return ridge(spectrum, relative * spectrum.trace, len(KEPT))


def test_reconstruction_is_the_formula():
    moment = Moment.of(noise(101, M).relu())
    sigma, tau = moment.matrix, ridge_of(moment)
    expected = sigma[:, KEPT] @ torch.linalg.inv(sigma[KEPT][:, KEPT] + torch.diag(tau[KEPT]))
    torch.testing.assert_close(reconstruction_matrix(moment, KEPT, tau), expected, rtol=1e-10, atol=1e-12)


def test_without_ridge_the_kept_rows_are_exactly_the_identity():
    matrix = reconstruction_matrix(Moment.of(noise(101, M).relu()), KEPT, torch.zeros(M))
    assert torch.equal(matrix[KEPT], torch.eye(4, dtype=torch.float64))


def test_full_width_is_the_identity_even_for_a_singular_moment():
    phi = noise(5, M)  # fewer samples than units
    matrix = reconstruction_matrix(Moment.of(phi), range(M), torch.zeros(M))
    torch.testing.assert_close(matrix, torch.eye(M, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("tiny", [0.0, 1e-18])
def test_repeated_and_dead_units_are_no_obstacle(tiny):
    phi = noise(101, M).relu()
    phi[:, 3], phi[:, 6] = phi[:, 2], 0
    phi[:, 9] = phi[:, 2] + phi[:, 5]
    kept = [2, 3, 5, 6]
    matrix = reconstruction_matrix(Moment.of(phi), kept, torch.full((M,), tiny))
    assert bool(matrix.isfinite().all())
    torch.testing.assert_close(phi[:, kept] @ matrix[9], phi[:, 9], rtol=0, atol=1e-8)
    torch.testing.assert_close(phi[:, kept] @ matrix[3], phi[:, 3], rtol=0, atol=1e-8)


def test_dead_units_do_not_mix_with_repeated_ones():
    """A width that the moment has not the rank for gives a vanishing λ, and dead units ridges like 1e-120."""
    session = Session.example("digits-cnn")
    session.measure()
    moment, spectrum = session.moment("conv2"), session.spectrum("conv2")
    alive = [int(unit) for unit in torch.nonzero(moment.matrix.diagonal()).flatten()]
    for width in range(len(alive) - 4, spectrum.width + 1, 3):
        choice = session.preview("conv2", width=width, selection="random")
        tau = ridge(spectrum, choice.lam, width)
        found = reconstruction_matrix(moment, choice.kept, tau)
        columns = [number for number, unit in enumerate(choice.kept) if unit in alive]
        only = reconstruction_matrix(moment, [choice.kept[number] for number in columns], tau)
        torch.testing.assert_close(found[:, columns], only, atol=1e-9, rtol=0)
        assert float(found.abs().max()) <= 10
        assert session.try_choice(choice) > 0.5


def test_units_of_very_different_scale_are_not_taken_for_repeats():
    phi = noise(101, M) * torch.logspace(0, -9, M, dtype=torch.float64)
    phi[:, 0] = phi[:, 12] * 1e9 + phi[:, 1]
    kept = [1, 12, 11]
    matrix = reconstruction_matrix(Moment.of(phi), kept, torch.zeros(M))
    torch.testing.assert_close(phi[:, kept] @ matrix[0], phi[:, 0], rtol=0, atol=1e-8)


def test_folding_into_a_linear_reader():
    weight, matrix = noise(5, M), noise(M, 4, seed=1)
    torch.testing.assert_close(fold(weight, matrix), weight @ matrix)


def test_folding_into_a_convolution_is_reconstructing_its_input():
    phi, weight = images(), noise(5, M, 3, 3)
    matrix = reconstruction_matrix(Moment.of(phi.transpose(1, 3).flatten(0, 2)), KEPT, torch.zeros(M))
    rebuilt = torch.einsum("nkhw,mk->nmhw", phi[:, KEPT], matrix)
    folded = fold(weight, matrix)
    assert folded.shape == (5, 4, 3, 3)
    torch.testing.assert_close(functional.conv2d(phi[:, KEPT], folded), functional.conv2d(rebuilt, weight))


def test_folding_after_a_flatten_is_reconstructing_every_position():
    phi, weight, matrix = images(size=3), noise(5, M * 9), noise(M, 4, seed=1)
    rebuilt = torch.einsum("nkhw,mk->nmhw", phi[:, KEPT], matrix)
    folded = fold(weight, matrix)
    assert folded.shape == (5, 4 * 9)
    torch.testing.assert_close(phi[:, KEPT].flatten(1) @ folded.T, rebuilt.flatten(1) @ weight.T)


def test_folding_keeps_the_weight_s_dtype():
    assert fold(noise(5, M).float(), noise(M, 4)).dtype == torch.float32


def test_readout_stacks_every_position():
    convolution, flattened = noise(5, M, 2, 3), noise(5, M * 6)
    assert torch.equal(readout_matrix(noise(5, M), M), noise(5, M))
    readout = readout_matrix(convolution, M)
    assert readout.shape == (30, M)
    assert torch.equal(readout[4], convolution[0, :, 1, 1])
    assert torch.equal(readout_matrix(flattened, M)[7], flattened[1].reshape(M, 6)[:, 1])
    assert readout_matrix(convolution.float(), M).dtype == torch.float64


def test_regression_against_the_original_is_least_squares_with_a_bias():
    fed, target = noise(101, 7).relu(), noise(101, 5, seed=1) + 3
    weight, bias = regress_output(
        Moment.of(fed), target.T @ fed / 101, target.mean(0), torch.zeros(7, dtype=torch.float64)
    )
    design = torch.cat([fed, torch.ones(101, 1, dtype=torch.float64)], dim=1)
    expected = torch.linalg.lstsq(design, target).solution
    torch.testing.assert_close(weight, expected[:7].T, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(bias, expected[7], rtol=1e-9, atol=1e-11)


def test_regression_with_a_ridge_minimises_what_it_says():
    fed, target, tau = noise(101, 7).relu(), noise(101, 5, seed=1) + 3, noise(7, seed=2).abs()
    weight, bias = regress_output(Moment.of(fed), target.T @ fed / 101, target.mean(0), tau)

    def objective(weight, bias):
        error = (target - fed @ weight.T - bias).square().sum(1).mean()
        return float(error + (weight.square() @ tau).sum())

    for seed in range(5):
        worse = objective(weight + 1e-3 * noise(5, 7, seed=seed), bias + 1e-3 * noise(5, seed=seed))
        assert worse > objective(weight, bias)


def test_regression_on_constant_or_repeated_regressors_stays_finite():
    fed = noise(101, 7).relu()
    fed[:, 3], fed[:, 5] = fed[:, 2], 4.0
    target = 2 * fed[:, [2]] + 1
    weight, bias = regress_output(Moment.of(fed), target.T @ fed / 101, target.mean(0), torch.zeros(7))
    torch.testing.assert_close(fed @ weight.T + bias, target, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: reconstruction_matrix(torch.eye(3), [], torch.zeros(3)), "at least one"),
        (lambda: reconstruction_matrix(torch.eye(3), [3], torch.zeros(3)), "does not exist"),
        (lambda: reconstruction_matrix(torch.eye(3), [0], torch.zeros(2)), r"shape \(3,\)"),
        (lambda: reconstruction_matrix(torch.eye(3), [0], -torch.ones(3)), ">= 0"),
        (lambda: fold(torch.ones(5, 7), torch.ones(3, 2)), "should read 3 units"),
        (lambda: fold(torch.ones(5, 6, 2), torch.ones(3, 2)), "should read 3 units"),
        (lambda: fold(torch.ones(5), torch.ones(3, 2)), r"\(outputs, m, ...\)"),
        (lambda: fold(torch.ones(5, 3), torch.ones(3)), r"shape \(m, k\)"),
        (lambda: readout_matrix(torch.ones(5, 7), 3), "should read 3 units"),
        (
            lambda: regress_output(
                Moment.of(torch.ones(2, 3)), torch.ones(5, 4), torch.ones(5), torch.ones(3)
            ),
            "cross moment",
        ),
        (
            lambda: regress_output(
                Moment.of(torch.ones(2, 3)), torch.ones(5, 3), torch.ones(4), torch.ones(3)
            ),
            "target means",
        ),
        (
            lambda: regress_output(
                Moment.of(torch.ones(2, 3)), torch.full((5, 3), torch.nan), torch.ones(5), torch.ones(3)
            ),
            "NaN",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
