"""Recurrent layers made of linear ones: against torch's own."""

import copy

import pytest
import torch
from rebuilding import (
    BATCH,
    INPUTS,
    MODES,
    STEPS,
    UNITS,
    assert_same,
    flat,
    rebuilt,
    recurrent,
    removed_units,
    start,
)
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from workbench.network.rebuilt.recurrent import Recurrent


@pytest.fixture(autouse=True)
def _seeded(seed):
    """Every test starts from the same random numbers."""


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("kind", MODES)
def test_both_ways_of_running_give_torchs_outputs_states_and_gradients(
    kind, num_layers, bidirectional, batch_first, bias
):
    options = {"num_layers": num_layers, "bidirectional": bidirectional}
    old = recurrent(kind, batch_first=batch_first, bias=bias, **options)
    shape = (BATCH, STEPS) if batch_first else (STEPS, BATCH)
    x = torch.randn(*shape, INPUTS).double()
    for hx in (None, start(old)):
        expected = old(x, hx)
        sum(t.sum() for t in flat(expected)).backward()
        gradients = sorted(p.grad.norm().item() for p in old.parameters())
        for stepwise in (False, True):
            new = rebuilt(old)
            assert type(new) is Recurrent
            new.stepwise = stepwise
            assert_same(new(x, hx), expected)
            new.zero_grad()
            sum(t.sum() for t in flat(new(x, hx))).backward()
            assert sorted(p.grad.norm().item() for p in new.parameters()) == pytest.approx(gradients)
        old.zero_grad()


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("kind", MODES)
def test_sequences_of_different_lengths_end_where_they_end(kind, bidirectional, stepwise):
    old = recurrent(kind, num_layers=2, bidirectional=bidirectional, batch_first=True)
    new = rebuilt(old)
    new.stepwise = stepwise
    x = torch.randn(BATCH, STEPS, INPUTS).double()
    packed = pack_padded_sequence(x, torch.tensor([2, 5, 3]), batch_first=True, enforce_sorted=False)
    for hx in (None, start(old)):
        (found, state), (expected, expected_state) = new(packed, hx), old(packed, hx)
        assert_same(state, expected_state)
        assert_same(pad_packed_sequence(found), pad_packed_sequence(expected))


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", MODES)
def test_one_sequence_without_a_batch(kind, batch_first, stepwise):
    old = recurrent(kind, num_layers=2, bidirectional=True, batch_first=batch_first)
    new = rebuilt(old)
    new.stepwise = stepwise
    x = torch.randn(STEPS, INPUTS).double()
    for hx in (None, start(old, ())):
        assert_same(new(x, hx), old(x, hx))


@pytest.mark.parametrize("kind", MODES)
def test_a_hook_sees_the_state_before_every_step_and_leaves_no_trace(kind):
    old = recurrent(kind, batch_first=True)
    new = rebuilt(old)
    x = torch.randn(BATCH, STEPS, INPUTS).double()
    layer = new.layers["0"]
    seen, inputs = [], []
    handles = [
        layer.recurrent.register_forward_pre_hook(lambda _, args: seen.append(args[0])),
        layer.input.register_forward_hook(lambda _, args, out: inputs.append(args[0])),
    ]
    out, _ = new(x)
    for handle in handles:
        handle.remove()
    assert_same(inputs, [x])
    assert_same(torch.stack(seen, 1), torch.cat((torch.zeros(BATCH, 1, UNITS).double(), out[:, :-1]), 1))
    new(x)
    assert len(seen) == STEPS


def test_what_a_hook_returns_counts():
    new = rebuilt(recurrent("gru", batch_first=True))
    x = torch.randn(BATCH, STEPS, INPUTS).double()
    before, _ = new(x)
    new.layers["0"].recurrent.register_forward_pre_hook(lambda _, args: (torch.zeros_like(args[0]),))
    assert not torch.allclose(new(x)[0], before)


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("kind", MODES)
def test_layers_of_different_widths_run_and_equal_layers_with_silent_units(kind, stepwise):
    full = rebuilt(recurrent(kind, num_layers=2))
    kept = torch.tensor([1, 2, 5, 7, 11])
    lost = torch.tensor([j for j in range(UNITS) if j not in kept])
    small = copy.deepcopy(full)
    removed_units(small.layers["0"], kept)
    for old, new in ((full.layers["0"].recurrent, None), (full.layers["1"].input, small.layers["1"].input)):
        old.weight.data[:, lost] = 0
        if new is not None:
            new.weight, new.in_features = nn.Parameter(old.weight[:, kept]), len(kept)
    small.stepwise = stepwise
    x = torch.randn(STEPS, BATCH, INPUTS).double()
    (expected, last), (found, last_found) = full(x), small(x)
    assert_same(found, expected)
    h, h_found = (last[0], last_found[0]) if kind == "lstm" else (last, last_found)
    assert isinstance(h_found, tuple)
    assert_same(h_found[0], h[0][:, kept])
    assert_same(h_found[-1], h[-1])
    assert_same(small(x, last_found)[0], full(x, last)[0])


def test_a_state_of_zeros_may_be_wider_than_the_layer_and_no_other_may():
    new = rebuilt(recurrent("gru"))
    removed_units(new.layers["0"], torch.arange(5))
    x = torch.randn(STEPS, BATCH, INPUTS).double()
    zeros = torch.zeros(1, BATCH, UNITS).double()
    assert_same(new(x, zeros), new(x))
    for wrong in (zeros + 1, zeros[..., :3], zeros[:, :2]):
        with pytest.raises(ValueError, match=r"takes \(3, 5\)"):
            new(x, wrong)
    with pytest.raises(ValueError, match="the 1 layers and directions"):
        new(x, torch.cat((zeros, zeros)))


@pytest.mark.parametrize("shape", [(STEPS, BATCH, INPUTS + 1), (INPUTS,), (2, STEPS, BATCH, INPUTS)])
def test_an_input_of_another_shape_is_named(shape):
    with pytest.raises(ValueError, match="with 7 features a step are expected"):
        rebuilt(recurrent("lstm"))(torch.randn(*shape).double())


def test_dropout_stands_between_layers_in_training_alone():
    new = rebuilt(recurrent("lstm", num_layers=2, dropout=0.5))
    x = torch.randn(STEPS, BATCH, INPUTS).double()
    assert_same(new(x), new(x))
    new.train()
    assert not torch.equal(new(x)[0], new(x)[0])
    assert_same(new(x)[1][0][0], new(x)[1][0][0])  # the first layer's state, before any dropout


# Attention
