"""What the theory promises, as numbers."""

import math

import pytest
import torch

from workbench.spectral.bounds import (
    generalisation_bias,
    generalisation_variance,
    guaranteed_width,
    local_error,
    propagated_error,
    removal_error,
    sampling_bound,
)
from workbench.spectral.moment import Moment


@pytest.mark.parametrize(("freedom", "width"), [(1, 22), (2, 51), (10, 335), (100, 4494)])
def test_guaranteed_width_is_the_formula_rounded_up(freedom, width):
    assert guaranteed_width(freedom) == math.ceil(5 * freedom * math.log(80 * freedom)) == width


@pytest.mark.parametrize("freedom", [0, 1e-9, 1 / 80, 0.02])
def test_guaranteed_width_is_at_least_one_unit(freedom):
    assert guaranteed_width(freedom) == 1


def test_guaranteed_width_never_falls():
    widths = [guaranteed_width(n / 100) for n in range(1000)]
    assert widths == sorted(widths)


def test_sampling_bound_is_four_lam():
    assert sampling_bound(0.25) == 1.0


def test_local_error_of_independent_units_is_what_the_lost_ones_carry():
    sigma = torch.diag(torch.tensor([4.0, 9.0, 1.0]))
    readout = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]])
    expected = math.sqrt(9 * (2**2 + 1**2) + 1 * (3**2 + 1**2))
    assert local_error(sigma, [0], torch.zeros(3), readout) == pytest.approx(expected, rel=1e-14)


def test_removal_error_is_what_a_linear_reader_loses():
    generator = torch.Generator().manual_seed(3)
    phi, weight = (torch.randn(n, 7, generator=generator, dtype=torch.float64) for n in (101, 5))
    lost = [0, 2, 3, 6]
    expected = (phi[:, lost] @ weight[:, lost].T).square().sum(1).mean().sqrt()
    found = removal_error(Moment.of(phi), [1, 4, 5], weight)
    assert found == pytest.approx(float(expected), rel=1e-12)
    assert found >= local_error(Moment.of(phi), [1, 4, 5], torch.zeros(7), weight)
    assert removal_error(Moment.of(phi), range(7), weight) == 0


def test_propagated_error_multiplies_by_the_norms_above():
    assert propagated_error([0.1, 0.2, 0.3], [100.0, 2.0, 3.0]) == pytest.approx(0.1 * 2 * 3 + 0.2 * 3 + 0.3)
    assert propagated_error([], []) == 0


def test_generalisation_terms_match_their_formulas():
    assert generalisation_bias([0.04, 0.09], [5.0, 1.0]) == pytest.approx(5 * 0.2 + 0.3)
    expected = math.sqrt((13 * 17 + 17 * 5) * math.log(1000) / 1000)
    assert generalisation_variance([13, 17, 5], 1000) == pytest.approx(expected)


def test_bias_grows_and_variance_falls_as_the_network_shrinks():
    assert generalisation_bias([0.2], [1.0]) > generalisation_bias([0.1], [1.0])
    assert generalisation_variance([13, 7], 1000) < generalisation_variance([13, 17], 1000)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize(
    "call",
    [
        guaranteed_width,
        sampling_bound,
        lambda x: propagated_error([x], [1.0]),
        lambda x: propagated_error([1.0], [x]),
        lambda x: generalisation_bias([x], [1.0]),
        lambda x: generalisation_bias([1.0], [x]),
        lambda x: generalisation_variance([1.0, x], 10),
    ],
)
def test_numbers_must_be_finite_and_not_negative(call, bad):
    with pytest.raises(ValueError, match="finite and not negative"):
        call(bad)


def test_there_is_one_number_a_layer():
    with pytest.raises(ValueError, match="2 local errors and 1 spectral norms"):
        propagated_error([0.1, 0.2], [1.0])
    with pytest.raises(ValueError, match="1 λ values and 2"):
        generalisation_bias([0.1], [1.0, 2.0])
    with pytest.raises(ValueError, match="two widths"):
        generalisation_variance([13], 10)
    with pytest.raises(ValueError, match="at least 1"):
        generalisation_variance([13, 17], 0)
