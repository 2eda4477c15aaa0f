"""The moment is a sum: however the samples come, the result is the same."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.spectral import moment as moment_module
from workbench.spectral.moment import Moment


def samples(n=101, m=13, seed=0, dtype=torch.float64):
    return torch.randn(n, m, generator=torch.Generator().manual_seed(seed), dtype=dtype).relu()


def assert_same(first, second):
    assert first.count == second.count
    torch.testing.assert_close(first.matrix, second.matrix, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(first.mean, second.mean, rtol=1e-12, atol=1e-14)


def test_moment_is_the_uncentred_mean_of_outer_products():
    x = samples()
    moment = Moment.of(x)
    expected = sum(torch.outer(row, row) for row in x) / len(x)
    torch.testing.assert_close(moment.matrix, expected, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(moment.mean, x.mean(0), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(moment.centred(), torch.cov(x.T, correction=0), rtol=1e-11, atol=1e-13)
    assert (moment.count, moment.width) == (101, 13)
    assert torch.equal(moment.matrix, moment.matrix.T)


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 101), max_size=6), seed=st.integers(0, 10_000))
def test_batched_equals_whole(cuts, seed):
    x = samples(seed=seed)
    edges = [0, *sorted(cuts), 101]
    batched = Moment.zeros(13)
    for start, stop in pairwise(edges):
        batched.update(x[start:stop])
    assert_same(batched, Moment.of(x))


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(1, 100), seed=st.integers(0, 10_000))
def test_merged_equals_whole_either_way_round(cut, seed):
    x = samples(seed=seed)
    first, second = Moment.of(x[:cut]), Moment.of(x[cut:])
    assert_same(first + second, Moment.of(x))
    assert_same(second + first, Moment.of(x))
    assert first.count == cut


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(7)))
def test_order_of_batches_does_not_matter(order):
    batches = samples(n=7 * 17).split(17)
    moment = Moment.zeros(13)
    for number in order:
        moment.update(batches[number])
    assert_same(moment, Moment.of(samples(n=7 * 17)))


def test_merging_with_an_empty_moment_changes_nothing():
    moment = Moment.of(samples())
    assert_same(moment + Moment.zeros(13), moment)


def test_update_returns_the_moment_itself():
    moment = Moment.zeros(13)
    assert moment.update(samples()) is moment


def test_an_empty_batch_adds_nothing():
    moment = Moment.of(samples())
    assert_same(moment.update(torch.empty(0, 13)), Moment.of(samples()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_summed_in_float64(dtype):
    x = samples(dtype=dtype)
    assert_same(Moment.of(x), Moment.of(x.double()))
    assert Moment.of(x).matrix.dtype == torch.float64


def test_large_batches_are_summed_in_chunks(monkeypatch):
    whole = Moment.of(samples())
    monkeypatch.setattr(moment_module, "_CHUNK_ELEMENTS", 40)
    assert_same(Moment.of(samples()), whole)


def test_gradients_are_left_behind():
    moment = Moment.of(samples().requires_grad_())
    assert not moment.matrix.requires_grad


def test_restriction_is_the_moment_of_the_kept_units():
    kept = [11, 2, 7]
    assert_same(Moment.of(samples()).restrict(kept), Moment.of(samples()[:, kept]))


def test_state_round_trip_is_exact_and_independent():
    moment = Moment.of(samples())
    copy = Moment.from_state(moment.state())
    assert torch.equal(copy.total, moment.total)
    assert torch.equal(copy.sum, moment.sum)
    assert copy.count == moment.count
    copy.update(samples(seed=1))
    assert_same(moment, Moment.of(samples()))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e160])
@pytest.mark.parametrize("chunk", [40, 1 << 22])
def test_a_value_that_is_not_finite_is_refused_and_leaves_no_trace(bad, chunk, monkeypatch):
    monkeypatch.setattr(moment_module, "_CHUNK_ELEMENTS", chunk)
    moment, before = Moment.of(samples()), Moment.of(samples()).state()
    x = samples(seed=1)
    x[89, 5] = bad
    with pytest.raises(ValueError, match=r"Sample 89 .* unit 5"):
        moment.update(x)
    assert all(torch.equal(before[key], value) for key, value in moment.state().items())


@pytest.mark.parametrize(
    ("batch", "match"),
    [
        (torch.zeros(5, 17), "13 units, but the batch has 17"),
        (torch.zeros(13), r"shape \(n, m\)"),
        (torch.zeros(5, 13, 1), r"shape \(n, m\)"),
        (torch.zeros(5, 13, dtype=torch.int64), "floating-point"),
    ],
)
def test_a_batch_of_another_kind_is_refused(batch, match):
    moment = Moment.of(samples())
    with pytest.raises(ValueError, match=match):
        moment.update(batch)
    assert_same(moment, Moment.of(samples()))


@pytest.mark.parametrize("read", [lambda m: m.matrix, lambda m: m.mean, lambda m: m.centred()])
def test_a_moment_without_samples_cannot_be_read(read):
    with pytest.raises(ValueError, match="no sample yet"):
        read(Moment.zeros(13))


def test_widths_must_agree_and_be_positive():
    with pytest.raises(ValueError, match="13 and 17"):
        Moment.zeros(13) + Moment.zeros(17)
    with pytest.raises(ValueError, match="at least 1 unit"):
        Moment.zeros(0)
    with pytest.raises(TypeError):
        Moment.zeros(13) + 1


@pytest.mark.parametrize(
    ("kept", "match"),
    [
        ([], "at least one"),
        ([1, 13], "Kept unit 13"),
        ([-1], "Kept unit -1"),
        ([3, 5, 3], "unit 3 occurs more than once"),
        ([1.0], "integer"),
        (torch.ones(13, dtype=torch.bool), "integer"),
        (torch.tensor(3), "sequence"),
    ],
)
def test_kept_units_must_exist_once(kept, match):
    with pytest.raises(ValueError, match=match):
        Moment.of(samples()).restrict(kept)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"total": torch.zeros(13, 17)}, "shapes"),
        ({"sum": torch.zeros(17)}, "shapes"),
        ({"count": torch.tensor(-1)}, "count -1"),
        ({"total": torch.full((13, 13), torch.nan)}, "NaN"),
    ],
)
def test_a_damaged_state_is_refused(change, match):
    with pytest.raises(ValueError, match=match):
        Moment.from_state(Moment.of(samples()).state() | change)


def test_an_incomplete_state_names_what_is_missing():
    with pytest.raises(ValueError, match="count"):
        Moment.from_state({"total": torch.zeros(13, 13), "sum": torch.zeros(13)})
