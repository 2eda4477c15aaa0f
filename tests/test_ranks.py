"""Effective and stable rank against closed forms and numpy; the edge of noise against its own equation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.spectral.moment import Moment
from workbench.spectral.noise import marchenko_pastur_edge
from workbench.spectral.spectrum import Spectrum

EIGENVALUES = st.lists(st.floats(-6, 3), min_size=1, max_size=17).map(
    lambda powers: [10.0**p for p in powers]
)


def diagonal(values):
    return Spectrum.of(torch.diag(torch.as_tensor(values, dtype=torch.float64)))


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1.0, 1e200])
@pytest.mark.parametrize(("equal", "width"), [(1, 7), (5, 13), (13, 13)])
def test_equal_eigenvalues_count_as_themselves(equal, width, scale):
    spectrum = diagonal([scale] * equal + [0.0] * (width - equal))
    assert spectrum.effective_rank == pytest.approx(equal, rel=1e-12)
    assert spectrum.stable_rank == pytest.approx(equal, rel=1e-12)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_a_geometric_spectrum_has_a_closed_form(ratio):
    spectrum = diagonal([ratio**j for j in range(400)])
    assert spectrum.stable_rank == pytest.approx(1 / (1 - ratio), rel=1e-12)
    # The entropy of the geometric distribution: −log(1−q) − q log q/(1−q).
    entropy = -math.log(1 - ratio) - ratio * math.log(ratio) / (1 - ratio)
    assert spectrum.effective_rank == pytest.approx(math.exp(entropy), rel=1e-9)


def test_the_ranks_of_a_moment_are_those_of_its_samples():
    samples = torch.randn(53, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spectrum, values = Spectrum.of(Moment.of(samples)), np.linalg.svd(samples.numpy(), compute_uv=False) ** 2
    share = values / values.sum()
    assert spectrum.effective_rank == pytest.approx(np.prod(share**-share), rel=1e-12)
    norms = np.linalg.norm(samples.numpy()) ** 2 / np.linalg.norm(samples.numpy(), 2) ** 2
    assert spectrum.stable_rank == pytest.approx(norms, rel=1e-12)


@given(values=EIGENVALUES)
def test_the_ranks_are_ordered_and_hold_the_degrees_of_freedom(values):
    spectrum = diagonal(values)
    stable, effective = spectrum.stable_rank, spectrum.effective_rank
    assert 1 - 1e-12 <= stable <= effective * (1 + 1e-12)
    assert effective <= spectrum.rank * (1 + 1e-12)
    at_first = spectrum.degrees_of_freedom(max(values))  # μ/(2μ_1) <= μ/(μ+μ_1) <= μ/μ_1
    assert stable / 2 * (1 - 1e-12) <= at_first <= stable * (1 + 1e-12)


def test_a_layer_that_is_always_zero_has_no_directions():
    spectrum = Spectrum.of(torch.zeros(5, 5))
    assert (spectrum.effective_rank, spectrum.stable_rank) == (0.0, 0.0)


@pytest.mark.parametrize(("width", "samples", "variance"), [(13, 53, 1.0), (300, 2000, 0.02), (170, 17, 3.0)])
def test_the_edge_is_where_the_equation_of_the_law_turns(width, samples, variance):
    """z = −1/s + (m/n) σ²/(1+σ²s) on −1/σ² < s < 0 is least at the edge (Silverstein and Choi 1995)."""
    s = -np.linspace(1e-4, 1 - 1e-4, 400_001) / variance
    z = -1 / s + width / samples * variance / (1 + variance * s)
    assert marchenko_pastur_edge(width, samples, variance) == pytest.approx(z.min(), rel=1e-6)


@pytest.mark.parametrize(("width", "samples"), [(40, 4000), (200, 800), (400, 100)])
def test_noise_reaches_the_edge_and_no_further(width, samples):
    noise = torch.randn(samples, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    largest = float(Spectrum.of(Moment.of(noise * math.sqrt(2))).eigenvalues[0])
    scatter = 3 * min(width, samples) ** (-2 / 3)
    assert largest == pytest.approx(marchenko_pastur_edge(width, samples, 2.0), rel=scatter)


def test_the_edge_is_the_variance_where_samples_abound_and_takes_no_noise():
    assert marchenko_pastur_edge(1, 10**12, 3.0) == pytest.approx(3.0, rel=1e-5)
    assert marchenko_pastur_edge(7, 3, 0.0) == 0.0


@pytest.mark.parametrize("given", [(0, 5), (5, 0), (-1, 5), (3, 5, -1.0), (3, 5, math.nan), (3, 5, math.inf)])
def test_what_is_no_noise_is_refused(given):
    with pytest.raises(ValueError, match=r"are needed|a variance is"):
        marchenko_pastur_edge(*given)
