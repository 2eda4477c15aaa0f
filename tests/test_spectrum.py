"""Spectra with planted eigenvalues, where every number is known in closed form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.spectral.moment import Moment
from workbench.spectral.regression import ridge
from workbench.spectral.spectrum import Spectrum

EIGENVALUES = st.lists(st.floats(-6, 3), min_size=2, max_size=17).map(
    lambda exponents: torch.tensor([10.0**e for e in sorted(exponents, reverse=True)], dtype=torch.float64)
)


def planted(values, seed=0):
    m = len(values)
    noise = torch.randn(m, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    basis = torch.linalg.qr(noise).Q
    return basis @ torch.diag(torch.as_tensor(values, dtype=torch.float64)) @ basis.T


def diagonal(values):
    return Spectrum.of(torch.diag(torch.as_tensor(values, dtype=torch.float64)))


def test_planted_eigenvalues_are_found():
    values = torch.logspace(2, -4, 17, dtype=torch.float64)
    spectrum = Spectrum.of(planted(values))
    torch.testing.assert_close(spectrum.eigenvalues, values, rtol=1e-9, atol=1e-13)
    vectors = spectrum.eigenvectors
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(17, dtype=torch.float64), rtol=0, atol=1e-13)
    rebuilt = vectors @ torch.diag(spectrum.eigenvalues) @ vectors.T
    torch.testing.assert_close(rebuilt, planted(values), rtol=0, atol=1e-12)
    assert (spectrum.width, spectrum.rank) == (17, 17)
    assert spectrum.trace == pytest.approx(float(values.sum()), rel=1e-13)


def test_spectrum_of_a_moment_is_that_of_its_matrix():
    moment = Moment.of(torch.randn(53, 13, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(Spectrum.of(moment).eigenvalues, Spectrum.of(moment.matrix).eigenvalues)


def test_rounding_is_not_rank():
    x = torch.randn(5, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spectrum = Spectrum.of(Moment.of(x))
    assert spectrum.rank == 5
    assert bool((spectrum.eigenvalues >= 0).all())
    assert spectrum.degrees_of_freedom(1e-13 * spectrum.trace) == pytest.approx(5, abs=1e-8)


@given(values=EIGENVALUES, exponent=st.floats(-8, 4))
@settings(max_examples=50, deadline=None)
def test_degrees_of_freedom_match_the_closed_form(values, exponent):
    lam = 10.0**exponent
    expected = math.fsum(mu / (mu + lam) for mu in values.tolist())
    assert diagonal(values).degrees_of_freedom(lam) == pytest.approx(expected, rel=1e-13)


def test_degrees_of_freedom_match_the_trace_of_the_definition():
    sigma = planted(torch.logspace(1, -5, 13, dtype=torch.float64))
    eye = torch.eye(13, dtype=torch.float64)
    for lam in (1e-6, 1e-3, 1.0, 50.0):
        expected = float((sigma @ torch.linalg.inv(sigma + lam * eye)).trace())
        assert Spectrum.of(sigma).degrees_of_freedom(lam) == pytest.approx(expected, rel=1e-9)


@given(values=EIGENVALUES, exponent=st.floats(-6, 4))
@settings(max_examples=50, deadline=None)
def test_degrees_of_freedom_strictly_decrease(values, exponent):
    spectrum, lam = diagonal(values), 10.0**exponent
    higher, lower = spectrum.degrees_of_freedom(lam), spectrum.degrees_of_freedom(lam * 1.01)
    assert 0 < lower < higher < spectrum.width


@given(values=EIGENVALUES, share=st.floats(0.001, 0.999))
@settings(max_examples=100, deadline=None)
def test_lam_for_width_inverts_degrees_of_freedom(values, share):
    spectrum = diagonal(values)
    width = share * spectrum.rank
    lam = spectrum.lam_for(width)
    assert spectrum.degrees_of_freedom(lam) == pytest.approx(width, rel=1e-12)


@given(exponent=st.floats(-5, 5))
@settings(max_examples=50, deadline=None)
def test_width_for_lam_inverts_lam_for_width(exponent):
    spectrum = diagonal(torch.logspace(0, -2, 17, dtype=torch.float64))
    lam = 10.0**exponent
    assert spectrum.lam_for(spectrum.degrees_of_freedom(lam)) == pytest.approx(lam, rel=1e-9)


def test_lam_for_a_flat_spectrum_is_exact():
    spectrum = diagonal(torch.full((13,), 2.0))
    for width in (0.5, 1, 6.5, 12, 12.999):
        assert spectrum.lam_for(width) == pytest.approx(2.0 * (13 - width) / width, rel=1e-12)


def test_lam_for_follows_the_scale_of_the_moment():
    values = torch.logspace(0, -3, 13, dtype=torch.float64)
    lam = diagonal(values).lam_for(5)
    for scale in (1e-100, 1e100):
        assert diagonal(values * scale).lam_for(5) == pytest.approx(lam * scale, rel=1e-11)


def test_no_lam_reaches_the_rank():
    spectrum = diagonal([3.0, 1.0, 0.0, 0.0])
    assert spectrum.lam_for(2) == spectrum.lam_for(4) == spectrum.lam_floor
    assert spectrum.lam_floor == pytest.approx(4 * 2.0**-52)


def test_a_tensor_of_lams_gives_a_tensor():
    spectrum = diagonal([3.0, 1.0, 0.5])
    lams = torch.logspace(-3, 3, 6).reshape(2, 3)
    freedom = spectrum.degrees_of_freedom(lams)
    assert freedom.shape == (2, 3)
    assert freedom.dtype == torch.float64
    for lam, value in zip(lams.flatten().tolist(), freedom.flatten().tolist(), strict=True):
        assert spectrum.degrees_of_freedom(lam) == pytest.approx(value, rel=1e-14)


def test_leverage_scores_match_the_definition_and_sum_to_one():
    sigma = planted(torch.logspace(1, -3, 17, dtype=torch.float64))
    spectrum, lam = Spectrum.of(sigma), 0.03
    hat = sigma @ torch.linalg.inv(sigma + lam * torch.eye(17, dtype=torch.float64))
    torch.testing.assert_close(spectrum.leverage(lam), hat.diagonal() / hat.trace(), rtol=1e-10, atol=1e-13)
    assert float(spectrum.leverage(lam).sum()) == pytest.approx(1, rel=1e-14)


def test_ridge_is_lam_times_width_times_leverage():
    spectrum = diagonal([3.0, 1.0, 0.0])
    expected = 0.5 * 2 * torch.tensor([3 / 3.5, 1 / 1.5, 0.0], dtype=torch.float64) / (3 / 3.5 + 1 / 1.5)
    torch.testing.assert_close(ridge(spectrum, 0.5, 2), expected, rtol=1e-14, atol=0)


def test_a_layer_that_is_always_zero_has_a_spectrum_too():
    spectrum = Spectrum.of(torch.zeros(5, 5))
    assert (spectrum.rank, spectrum.trace) == (0, 0.0)
    assert spectrum.degrees_of_freedom(1.0) == 0
    assert spectrum.lam_for(3) == spectrum.lam_floor > 0
    assert spectrum.leverage(1.0).tolist() == [0.2] * 5


@pytest.mark.parametrize("lam", [0.0, -1.0, math.nan, math.inf])
def test_lam_must_be_positive_and_finite(lam):
    spectrum = diagonal([3.0, 1.0])
    with pytest.raises(ValueError, match="λ must be a positive"):
        spectrum.degrees_of_freedom(lam)
    with pytest.raises(ValueError, match="Every λ"):
        spectrum.degrees_of_freedom(torch.tensor([1.0, lam]))
    with pytest.raises(ValueError, match="λ must be a positive"):
        spectrum.leverage(lam)
    with pytest.raises(ValueError, match="λ must be a positive"):
        ridge(spectrum, lam, 1)


@pytest.mark.parametrize("width", [0, -1, 2.001, math.nan])
def test_width_must_fit_the_layer(width):
    with pytest.raises(ValueError, match="width"):
        diagonal([3.0, 1.0]).lam_for(width)


def test_ridge_width_must_fit_the_layer():
    with pytest.raises(ValueError, match=r"\[0, 2\]"):
        ridge(diagonal([3.0, 1.0]), 0.1, 3)


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        (torch.zeros(3, 4), "square"),
        (torch.zeros(3), "square"),
        (torch.tensor([[1.0, 2.0], [0.0, 1.0]]), "symmetric"),
        (torch.tensor([[1.0, 0.0], [0.0, -1.0]]), "negative eigenvalue"),
        (torch.tensor([[1.0, torch.nan], [torch.nan, 1.0]]), "NaN"),
    ],
)
def test_a_matrix_that_is_no_moment_is_refused(matrix, match):
    with pytest.raises(ValueError, match=match):
        Spectrum.of(matrix)
