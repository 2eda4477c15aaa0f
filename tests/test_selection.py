"""The greedy path's corners, and the selections it is compared with."""

import pytest
import torch
from oracles import activity, mean_activation, taylor

from workbench.spectral import greedy as selection_module
from workbench.spectral.greedy import GreedySelector, greedy_path
from workbench.spectral.losses import information_loss, losses_along
from workbench.spectral.moment import Moment
from workbench.spectral.regression import ridge
from workbench.spectral.selection import (
    SELECTIONS,
    Evidence,
    leverage_order,
    magnitude,
    order_from_scores,
    random_order,
    reader_magnitude,
)
from workbench.spectral.spectrum import Spectrum

M = 13


def activations(n=97, m=M, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, m, generator=generator, dtype=torch.float64)
    return (hidden @ torch.randn(m, m, generator=generator, dtype=torch.float64)).relu()


def reader(outputs=7, m=M, seed=1):
    return torch.randn(outputs, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ridge_of(moment, relative=1e-3, width=5):
    spectrum = Spectrum.of(moment)
    return ridge(spectrum, relative * spectrum.trace, width)


def independent(variances):
    return torch.diag(torch.tensor(variances, dtype=torch.float64))


def test_independent_units_come_by_variance():
    path = greedy_path(independent([1.0, 4.0, 2.0]), None, torch.zeros(3))
    assert path.order.tolist() == [1, 2, 0]
    torch.testing.assert_close(path.losses, torch.tensor([7, 3, 1, 0], dtype=torch.float64) / 7)
    assert path.kept(2) == (1, 2)
    assert path.kept(0) == ()


def test_ties_go_to_the_lower_index():
    assert greedy_path(independent([1.0] * M), None, torch.zeros(M)).order.tolist() == list(range(M))
    nearly = independent([1.0, 1.0 + 1e-13, 1.0])
    assert greedy_path(nearly, None, torch.zeros(3)).order.tolist() == [0, 1, 2]


def test_of_two_equal_units_the_lower_comes_first_and_the_other_counts_as_spent():
    phi = activations()
    phi[:, 3] = phi[:, 9]
    order = greedy_path(Moment.of(phi), reader(), torch.zeros(M)).order.tolist()
    assert order[-1] == 9


def test_spent_units_follow_the_useful_and_dead_ones_come_last():
    phi = activations(m=3)
    dead = torch.zeros(97, 1, dtype=torch.float64)
    phi = torch.cat([dead, phi, dead, phi[:, :1] + phi[:, 1:2], 2 * phi[:, 2:3]], dim=1)
    path = greedy_path(Moment.of(phi), None, torch.zeros(7))
    spent = path.order[3:5].tolist()
    assert spent == sorted(spent)
    assert path.order[5:].tolist() == [0, 4]
    torch.testing.assert_close(path.losses[3:], torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_layer_of_dead_units_loses_nothing_by_keeping_one():
    path = greedy_path(torch.zeros(3, 3), reader(m=3), torch.zeros(3))
    assert path.order.tolist() == [0, 1, 2]
    assert path.losses.tolist() == [1, 0, 0, 0]


def test_a_readout_that_ignores_most_units_still_orders_them_all():
    readout = torch.zeros(1, M)
    readout[0, 4] = 1
    path = greedy_path(independent([1.0] * M), readout, torch.zeros(M), theta=0)
    assert path.order.tolist() == [4, 0, 1, 2, 3, *range(5, M)]
    torch.testing.assert_close(path.losses[1:], torch.zeros(M, dtype=torch.float64), rtol=0, atol=1e-15)


@pytest.mark.parametrize("readout", [None, torch.zeros(7, M)])
def test_without_a_readout_the_combined_loss_is_the_input_loss(readout):
    moment = Moment.of(activations())
    tau = ridge_of(moment)
    expected = greedy_path(moment, reader(), tau, theta=1)
    for theta in (0, 0.3, 1):
        path = greedy_path(moment, readout, tau, theta)
        assert torch.equal(path.order, expected.order)
        torch.testing.assert_close(path.losses, expected.losses, rtol=0, atol=1e-13)


def test_a_shorter_path_is_the_start_of_the_longer():
    moment = Moment.of(activations())
    tau = ridge_of(moment)
    full, short = greedy_path(moment, reader(), tau), greedy_path(moment, reader(), tau, width=5)
    assert torch.equal(short.order, full.order[:5])
    assert torch.equal(short.losses, full.losses[:6])
    assert greedy_path(moment, reader(), tau, width=0).losses.tolist() == [1]


def test_a_path_repeats_exactly():
    moment = Moment.of(activations())
    selector, tau = GreedySelector([moment], [reader()]), ridge_of(moment)
    first, other, again = selector.path(tau, 0.3), selector.path(tau, 0.9), selector.path(tau, 0.3)
    assert torch.equal(first.order, again.order)
    assert torch.equal(first.losses, again.losses)
    assert not torch.equal(first.losses, other.losses)


def test_the_scale_of_readout_and_moment_does_not_matter():
    moment = Moment.of(activations())
    tau = ridge_of(moment)
    plain = greedy_path(moment, reader(), tau, 0.3)
    scaled = greedy_path(moment.matrix * 1e6, 1e-4 * reader(), tau * 1e6, 0.3)
    assert torch.equal(plain.order, scaled.order)
    torch.testing.assert_close(plain.losses, scaled.losses, rtol=1e-9, atol=1e-13)


def test_large_products_are_taken_in_blocks(monkeypatch):
    moment = Moment.of(activations())
    tau = ridge_of(moment)
    whole = greedy_path(moment, reader(), tau)
    monkeypatch.setattr(selection_module, "_BLOCK_ELEMENTS", 1)
    monkeypatch.setattr(selection_module, "_SMALLEST_BLOCK", 3)
    blocked = greedy_path(moment, reader(), tau)
    assert torch.equal(whole.order, blocked.order)
    torch.testing.assert_close(whole.losses, blocked.losses, rtol=0, atol=1e-14)


def test_float32_input_is_taken_in_float64():
    moment = Moment.of(activations().float())
    path = greedy_path(moment, reader().float(), ridge_of(moment).float())
    assert path.losses.dtype == torch.float64
    assert path.order.dtype == torch.int64


def test_an_exhausted_start_leaves_the_rest_its_digits():
    """Steps after a residual of 1e-12 still find the units that carry it (theta 1, no ridge)."""
    phi = activations(n=499) * torch.logspace(0, -5, M, dtype=torch.float64)
    moment = Moment.of(phi)
    path = greedy_path(moment, None, torch.zeros(M))
    along = losses_along(moment, path.order, torch.zeros(M)) / moment.matrix.trace()
    torch.testing.assert_close(path.losses, along, rtol=0, atol=1e-13)
    assert path.order.tolist()[-1] == M - 1


@pytest.mark.parametrize("theta", [0.0, 0.4, 1.0])
def test_the_losses_of_several_readers_add(theta):
    moments = [Moment.of(activations(seed=0)), Moment.of(3 * activations(seed=5))]
    readouts = [reader(7, seed=1), 2 * reader(11, seed=2)]
    ridges = [ridge_of(moment) for moment in moments]
    path = greedy_path(moments, readouts, ridges, theta)
    kept: list[int] = []
    empty = [0.0, 0.0]
    for step in range(M):
        tried = {}
        for unit in set(range(M)) - set(kept):
            parts = list(zip(moments, ridges, readouts, strict=True))
            inputs = sum(information_loss(m, [*kept, unit], t) for m, t, _ in parts)
            outputs = sum(information_loss(m, [*kept, unit], t, z) for m, t, z in parts)
            empty = [
                sum(information_loss(m, [], t) for m, t, _ in parts),
                sum(information_loss(m, [], t, z) for m, t, z in parts),
            ]
            tried[unit] = theta * inputs / empty[0] + (1 - theta) * outputs / empty[1]
        kept.append(min(tried, key=tried.__getitem__))
        assert float(path.losses[step + 1]) == pytest.approx(tried[kept[-1]], abs=1e-11)
    assert path.order.tolist() == kept


def test_the_same_reader_twice_is_that_reader():
    moment = Moment.of(activations())
    tau = ridge_of(moment)
    once = greedy_path(moment, reader(), tau, 0.3)
    twice = greedy_path([moment, moment], [reader(), reader()], [tau, tau], 0.3)
    assert torch.equal(once.order, twice.order)
    torch.testing.assert_close(once.losses, twice.losses, rtol=0, atol=1e-13)


def test_a_unit_dead_for_one_reader_lives_for_the_other():
    path = greedy_path([independent([0, 1, 0]), independent([5, 1, 0])], None, [torch.zeros(3)] * 2)
    assert path.order.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"moment": []}, "At least one reader"),
        ({"moment": [torch.eye(M), torch.eye(7)], "readout": None}, "13 and 7"),
        ({"moment": [torch.eye(M), torch.eye(M)]}, "2 moments and 1 readouts"),
        ({"readout": [None]}, "1 moments and 0 readouts"),
        ({"readout": torch.ones(7, 11)}, r"\(outputs, 13\)"),
        ({"readout": torch.ones(M)}, r"\(outputs, 13\)"),
        ({"readout": torch.full((7, M), torch.nan)}, "readout holds NaN"),
        ({"ridge": [torch.zeros(M)] * 2}, "1 readers and 2 ridges"),
        ({"ridge": torch.zeros(7)}, r"shape \(13,\)"),
        ({"ridge": -torch.ones(M)}, ">= 0"),
        ({"ridge": torch.full((M,), torch.inf)}, "finite"),
        ({"theta": 1.5}, "θ"),
        ({"theta": float("nan")}, "θ"),
        ({"width": -1}, r"\[0, 13\]"),
        ({"width": 14}, r"\[0, 13\]"),
        ({"width": 2.5}, "whole number"),
    ],
)
def test_input_that_does_not_fit_is_refused(change, match):
    given = {"moment": torch.eye(M), "readout": torch.ones(7, M), "ridge": torch.zeros(M)} | change
    with pytest.raises(ValueError, match=match):
        greedy_path(**given)


@pytest.mark.parametrize("width", [-1, 4])
def test_a_path_keeps_no_more_than_it_chose(width):
    with pytest.raises(ValueError, match="0 to 3"):
        greedy_path(torch.eye(M), None, torch.zeros(M), width=3).kept(width)


@pytest.mark.parametrize(
    ("kept", "tau", "readout", "match"),
    [
        ([1, 1], torch.zeros(M), None, "distinct"),
        ([M], torch.zeros(M), None, "does not exist"),
        ([0], torch.zeros(7), None, r"shape \(13,\)"),
        ([0], -torch.ones(M), None, ">= 0"),
        ([0], torch.zeros(M), torch.ones(7, 11), r"\(outputs, 13\)"),
    ],
)
def test_a_loss_of_what_does_not_fit_is_refused(kept, tau, readout, match):
    with pytest.raises(ValueError, match=match):
        information_loss(torch.eye(M), kept, tau, readout)


def test_the_loss_of_singular_sets_is_that_of_what_they_span():
    phi = activations(m=3)
    moment = Moment.of(torch.cat([phi, phi[:, :1], 0 * phi[:, :1]], dim=1))
    zero = torch.zeros(5)
    assert information_loss(moment, [0, 3], zero) == pytest.approx(information_loss(moment, [0], zero))
    assert information_loss(moment, [4], zero) == pytest.approx(float(moment.matrix.trace()))
    assert information_loss(moment, [0, 1, 2, 3, 4], zero) == pytest.approx(0, abs=1e-12)


def test_magnitude_sums_over_all_writers():
    writers = [torch.tensor([[3.0, -4.0], [0.0, 1.0]]), torch.tensor([12.0, -1.0])]
    assert magnitude(writers, 1).tolist() == [19, 2]
    assert magnitude(writers, 2).tolist() == pytest.approx([13, 2**0.5])
    convolution = torch.ones(2, 3, 5, 5)
    assert magnitude([convolution]).tolist() == [75, 75]


def test_reader_magnitude_is_the_norm_of_a_unit_s_columns():
    linear, convolution = reader(7, 3), reader(2, 3 * 4).reshape(2, 3, 2, 2)
    expected = (linear.square().sum(0) + convolution.square().sum((0, 2, 3))).sqrt()
    torch.testing.assert_close(reader_magnitude([linear, convolution], 3), expected)


def test_order_from_scores_is_stable():
    assert order_from_scores(torch.tensor([1.0, 3.0, 1.0, 3.0])).tolist() == [1, 3, 0, 2]


def test_random_orders_repeat_with_their_seed():
    assert torch.equal(random_order(M, 5), random_order(M, 5))
    assert not torch.equal(random_order(M, 5), random_order(M, 6))
    assert sorted(random_order(M, 5).tolist()) == list(range(M))


def test_leverage_orders_are_drawn_from_the_scores():
    scores = torch.tensor([0.5, 0.0, 0.3, 0.2, 0.0])
    orders = [leverage_order(scores, seed).tolist() for seed in range(2000)]
    assert all(sorted(order) == list(range(5)) for order in orders)
    assert all(order[-2:] == [1, 4] for order in orders)
    first = [sum(order[0] == unit for order in orders) / 2000 for unit in range(5)]
    assert first == pytest.approx(scores.tolist(), abs=0.04)
    # Without replacement: after unit 0 (0.5), unit 2 comes with probability 0.3 / (0.3 + 0.2).
    second = [order[1] for order in orders if order[0] == 0]
    assert sum(unit == 2 for unit in second) / len(second) == pytest.approx(0.6, abs=0.06)
    assert leverage_order(scores, 3).tolist() == orders[3]


def evidence():
    phi = activations()
    moment = Moment.of(phi)
    return Evidence(
        width=M,
        moments=[moment],
        readouts=[reader()],
        ridges=[ridge_of(moment)],
        theta=0.3,
        leverage=Spectrum.of(moment).leverage(0.1),
        writers=[reader(M, 7)],
        readers=[reader()],
        activity=activity(phi),
        mean_activation=mean_activation(phi),
        taylor=taylor(phi, phi),
        seed=4,
    )


@pytest.mark.parametrize("name", SELECTIONS)
def test_every_selection_orders_all_units_and_says_what_it_needs(name):
    selection = SELECTIONS[name]
    assert sorted(selection.order(evidence()).tolist()) == list(range(M))
    assert selection.name == name
    assert selection.title
    if selection.needs:
        with pytest.raises(ValueError, match=selection.needs[0]):
            selection.order(Evidence(width=M))


def test_the_greedy_selection_is_the_greedy_path():
    given = evidence()
    expected = greedy_path(given.moments, given.readouts, given.ridges, 0.3).order
    assert torch.equal(SELECTIONS["greedy"].order(given), expected)


def test_evidence_of_another_width_is_refused():
    with pytest.raises(ValueError, match="has 7 units, but the group has 13"):
        SELECTIONS["apoz"].order(Evidence(width=M, activity=torch.ones(7)))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: magnitude([torch.ones(3, 2)], 3), "norm 1 or 2"),
        (lambda: magnitude([]), "at least one writer"),
        (lambda: magnitude([torch.ones(3, 2), torch.ones(5, 2)]), r"\[3, 5\]"),
        (lambda: reader_magnitude([], 3), "at least one reader"),
        (lambda: reader_magnitude([torch.ones(7, 5)], 3), "should read 3 units"),
        (lambda: order_from_scores(torch.tensor([1.0, torch.nan])), "without NaN"),
        (lambda: random_order(0), "at least 1 unit"),
        (lambda: leverage_order(torch.tensor([1.0, -1.0])), ">= 0"),
    ],
)
def test_scores_that_cannot_be_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
