"""The best of all subsets, against the loss of each computed on its own."""

from itertools import combinations

import pytest
import torch

import workbench as wb
from workbench.course.subsets import best_subsets


def a_layer(m, seed=3):
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randn(97, m, generator=generator, dtype=torch.float64)
    samples = samples @ torch.randn(m, m, generator=generator, dtype=torch.float64)
    ridge = torch.rand(m, generator=generator, dtype=torch.float64) + 0.1
    return wb.Moment.of(samples), ridge, torch.randn(5, m, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("reads", [False, True])
def test_no_subset_is_better(reads):
    moment, ridge, readout = a_layer(7)
    readout = readout if reads else None
    best = best_subsets(moment, ridge, readout)
    assert best.tried == 128
    for size in range(8):
        every = {
            kept: wb.information_loss(moment, kept, ridge, readout) for kept in combinations(range(7), size)
        }
        assert best.losses[size] == pytest.approx(min(every.values()), rel=1e-9)
        assert every[best.kept[size]] == pytest.approx(min(every.values()), rel=1e-9)
        assert best.medians[size] == pytest.approx(
            float(torch.tensor(list(every.values())).double().median()), rel=1e-6
        )


def test_too_many_units_and_shapes_that_do_not_fit():
    moment, ridge, readout = a_layer(17)
    with pytest.raises(ValueError, match="too many to try"):
        best_subsets(moment, ridge)
    moment, ridge, readout = a_layer(5)
    with pytest.raises(ValueError, match="5 units"):
        best_subsets(moment, ridge[:4])
    with pytest.raises(ValueError, match="5 units"):
        best_subsets(moment, ridge, readout[:, :4])
