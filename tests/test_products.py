"""Sums over activations in their own layout against NumPy's in float64, on data that is hard to sum."""

import numpy as np
import pytest
import torch

from workbench.spectral.products import BLOCK, NotFiniteError, Sums

STATED = 1e-7  # of the trace, in every entry


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def taken(activations):
    sums = Sums(activations.shape[1])
    sums.take(activations, activity=True)
    return sums


def rows(activations):
    """Samples in float64, (n, m), by NumPy alone."""
    values = activations.detach().to(torch.float64).numpy()
    return np.moveaxis(values, 1, 2).reshape(-1, values.shape[1])


def assert_right(activations, share=STATED):
    sums, samples = taken(activations), rows(activations)
    expected = samples.T @ samples
    trace = np.trace(expected)
    assert sums.count == len(samples)
    assert np.abs(sums.full().numpy() - expected).max() <= share * trace
    assert torch.equal(sums.full(), sums.full().T)
    sizes = np.abs(samples).sum(0)
    assert np.all(np.abs(sums.sum.numpy() - samples.sum(0)) <= 1e-6 * sizes)
    assert np.all(np.abs(sums.magnitude.numpy() - sizes) <= 1e-6 * sizes)
    assert np.array_equal(sums.active.numpy(), (samples != 0).sum(0))


LAYOUTS = {
    "a sample a row": lambda: noise(101, 13, 1),
    "one sample": lambda: noise(1, 17, 1),
    "one unit": lambda: noise(997, 1, 1),
    "one unit, positions": lambda: noise(7, 1, 131),
    "channels first": lambda: noise(11, 16, 127).relu(),
    "channels first, few positions": lambda: noise(53, 37, 7).relu(),
    "one position": lambda: noise(211, 131, 1),
    "channels last": lambda: noise(11, 127, 16).transpose(1, 2),
    "a part of more units": lambda: noise(211, 300, 1)[:, 31:160],
    "channels of more": lambda: noise(5, 61, 97)[:, 7:24],
    "every other unit": lambda: noise(211, 60, 1)[:, ::2],
    "every third position": lambda: noise(7, 19, 331)[:, :, ::3],
    "one sample expanded": lambda: noise(1, 19, 1).expand(211, 19, 1),
    "one position expanded": lambda: noise(7, 19, 1).expand(7, 19, 211),
    "one unit expanded": lambda: noise(7, 1, 67).expand(7, 19, 67),
    "turned": lambda: noise(67, 19, 7).permute(2, 1, 0),
    "wide": lambda: noise(67, 521, 1).relu(),
    "wide and long": lambda: noise(2, 263, 197).relu(),
    "no example": lambda: noise(0, 13, 5),
    "no position": lambda: noise(3, 13, 0),
}


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_layout_is_summed_to_the_stated_error(kind, dtype):
    assert_right(LAYOUTS[kind]().to(dtype))


@pytest.mark.parametrize("kind", LAYOUTS)
def test_float64_stays_float64(kind):
    assert_right(LAYOUTS[kind]().double(), share=1e-14)


HARD = {
    "a mean far from zero": lambda n: 100 + noise(n, 7, 1),
    "a constant": lambda n: torch.full((n, 3, 1), 1 / 3),
    "the worst constant": lambda n: torch.full((n, 5, 1), 1.4142),
    "a constant beside noise": lambda n: torch.cat([torch.full((n, 1, 1), 5.3), noise(n, 31, 1)], 1),
    "one unit a thousand times the rest": lambda n: torch.cat([1000 * noise(n, 1, 1), noise(n, 20, 1)], 1),
    "a few samples a thousand times the rest": lambda n: torch.cat(
        [noise(n - n // 32, 24, 1), torch.full((n // 32, 24, 1), 1000.0)]
    )[torch.randperm(n, generator=torch.Generator().manual_seed(1))],
    "one value or none": lambda n: 0.7 * (noise(n, 24, 1) > 0.3),
    "dead units": lambda n: noise(n, 24, 1) * (torch.arange(24) % 3 == 0)[:, None],
    "nothing": lambda n: torch.zeros(n, 17, 1),
    "tiny": lambda n: 1e-30 * noise(n, 17, 1),
    "denormal": lambda n: 1e-41 * noise(n, 17, 1),
    "small": lambda n: 1e-16 * noise(n, 17, 1),
    "huge": lambda n: 1e25 * noise(n, 17, 1),
    "one huge number": lambda n: noise(n, 17, 1).index_fill(0, torch.tensor([n // 2]), 3e38),
    "a hundred scales": lambda n: noise(n, 41, 1) * torch.logspace(-20, 12, 41)[:, None],
}


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("samples", [BLOCK - 1, 2 * BLOCK, 1009])
def test_hard_numbers_are_summed_to_the_stated_error(kind, samples):
    values = HARD[kind](samples)
    assert_right(values)
    assert_right(values.permute(2, 1, 0))  # the same samples, side by side


@pytest.mark.parametrize("ones", [0.3, 0.5, 0.7, 0.9, 0.97, 1.0])
@pytest.mark.parametrize("share", [0.09, 0.2, 0.24, 0.3, 0.5, 0.9])
def test_a_unit_of_two_values_may_carry_any_share_of_the_trace(ones, share):
    chosen = torch.rand(1088, 1, 1, generator=torch.Generator().manual_seed(0)) < ones
    for height in (1.05, 1.4, 1.7, 1.9):
        unit = height * chosen.float()
        rest = (float(unit.square().mean()) * (1 - share) / share / 31) ** 0.5
        assert_right(torch.cat([unit, rest * noise(1088, 31, 1)], 1))


@pytest.mark.parametrize("seed", range(20))
def test_few_units_in_few_samples_are_no_exception(seed):
    assert_right(noise(BLOCK, 1 + seed % 5, 1, seed=seed))


def test_a_small_variance_about_a_large_mean_is_as_exact_as_the_uncentred_moment_lets_it_be():
    values = 1000 + noise(4096, 23, 1)
    sums, samples = taken(values), rows(values)
    centred = sums.full() / 4096 - torch.outer(sums.sum, sums.sum) / 4096**2
    assert np.abs(centred.numpy() - np.cov(samples.T, bias=True)).max() < 1e-7 * 23 * 1000**2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(211, 13, 1), (3, 131, 67)])
def test_what_is_not_finite_is_told(bad, dtype, shape):
    values = noise(*shape).to(dtype)
    values[2, 5, -1] = bad
    with pytest.raises(NotFiniteError):
        taken(values)


def test_squares_beyond_float64_are_told():
    with pytest.raises(NotFiniteError, match="below 1e150"):
        taken(torch.full((3, 2, 1), 1e160, dtype=torch.float64))


def test_the_programs_wish_for_fewer_digits_does_not_reach_the_products():
    values = noise(211, 40, 1)
    expected = taken(values).full()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = taken(values).full()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found, expected)


def test_sums_of_parts_are_those_of_the_whole():
    values = noise(101, 13, 5, dtype=torch.float64)
    whole, parts, part = taken(values), Sums(13), Sums(13)
    for piece in reversed(values.split(17)):
        part.take(piece, activity=True)
        parts.add(part)
    for name in ("total", "sum", "active", "magnitude"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-12, atol=1e-13)
    assert parts.count == whole.count


def test_the_same_activations_give_the_same_bits():
    values = noise(37, 70, 66)
    assert torch.equal(taken(values).full(), taken(values.clone()).full())
