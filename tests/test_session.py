"""A session: previews, commits, undo and redo."""

import math

import pytest
import torch
from networks import images, mlp
from sessions import TARGETS, conv_session, same, state_of

from workbench.network.cost import count_cost
from workbench.session.session import Session
from workbench.spectral.selection import SELECTIONS


def test_preview_touches_nothing():
    session = conv_session()
    before = state_of(session)
    choice = session.preview("conv2", width=4)
    session.try_choice(choice)
    assert same(state_of(session), before)
    assert session.position == 0
    assert len(session.history) == 1


def test_width_and_lam_follow_from_each_other():
    session = conv_session()
    by_width = session.preview("conv2", width=4)
    assert by_width.degrees_of_freedom == pytest.approx(4, abs=1e-8)
    by_lam = session.preview("conv2", lam=by_width.lam * 1.0001)
    assert (by_lam.width, by_lam.suggested_width) == (4, 4)
    both = session.preview("conv2", width=9, lam=by_width.lam)
    assert (both.width, both.lam) == (9, by_width.lam)


def test_the_choices_numbers_are_those_of_the_formulas():
    session = conv_session()
    choice = session.preview("fc1", width=5, lam=0.01, theta=0.3)
    sigma = session.moment("fc1").matrix
    eigenvalues = torch.linalg.eigvalsh(sigma)
    freedom = (eigenvalues / (eigenvalues + 0.01)).sum().item()
    assert choice.degrees_of_freedom == pytest.approx(freedom)
    assert choice.guaranteed_width == math.ceil(5 * freedom * math.log(80 * freedom))
    assert choice.lam_relative == pytest.approx(0.01 / sigma.trace().item())
    leverage = (sigma @ torch.linalg.inv(sigma + 0.01 * torch.eye(13))).diag() / freedom
    tau = 0.01 * 5 * leverage
    kept = list(choice.kept)
    gram = sigma[kept][:, kept] + tau[kept].diag()
    residual = sigma - sigma[:, kept] @ torch.linalg.inv(gram) @ sigma[kept]
    z = session.model.fc2.weight.detach().double()
    input_loss = residual.trace() / sigma.trace()
    output_loss = (z @ residual @ z.T).trace() / (z @ sigma @ z.T).trace()
    assert choice.input_loss == pytest.approx(input_loss.item())
    assert choice.output_loss == pytest.approx(output_loss.item())
    assert choice.combined_loss == pytest.approx(0.3 * input_loss.item() + 0.7 * output_loss.item())


def measured_change(session, choice, layer):
    """Relative root-mean-square change of a layer's output when one choice is committed."""

    def output(model):
        seen = []
        handle = model.get_submodule(layer).register_forward_hook(lambda _m, _i, out: seen.append(out))
        with torch.no_grad():
            model(images(64))
        handle.remove()
        bias = model.get_submodule(layer).bias
        return (seen[0] - bias).double()

    before = output(session.model)
    session.commit(choice)
    after = output(session.model)
    return ((after - before).square().mean().sqrt() / before.square().mean().sqrt()).item()


@pytest.mark.parametrize("reconstruction", ["channel", "none"])
def test_predicted_error_bounds_the_measured_one_at_a_linear_reader(reconstruction):
    session = conv_session()
    choice = session.preview("fc1", width=5, lam=1e-9, reconstruction=reconstruction)
    assert choice.predicted_error_exact
    # At a vanishing ridge the bound is the measured change itself.
    measured = measured_change(session, choice, "fc2")
    assert choice.predicted_error == pytest.approx(measured, rel=1e-3)


def test_with_a_ridge_the_prediction_is_an_upper_bound():
    session = conv_session()
    choice = session.preview("fc1", width=5, lam=0.05)
    assert measured_change(session, choice, "fc2") <= choice.predicted_error * (1 + 1e-6)


def test_a_convolutional_reader_gets_an_estimate():
    assert not conv_session().preview("conv1", width=3).predicted_error_exact


@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_selection_keeps_the_wanted_width(selection):
    session = conv_session()
    session.measure_gradients([(images(64), TARGETS)])
    choice = session.preview("conv2", width=4, selection=selection)
    assert len(set(choice.kept)) == 4
    assert list(choice.kept) == sorted(choice.kept)
    curve = choice.curve
    assert len(curve.widths) == 12
    for losses in (curve.input, curve.output, curve.combined):
        assert losses[0] == 1
        assert (losses.diff() <= 1e-12).all()
    assert curve.output[4].item() == choice.output_loss


def test_greedy_loses_less_than_the_other_selections():
    session = conv_session()
    session.measure_gradients([(images(64), TARGETS)])
    losses = {s: session.preview("conv2", width=4, selection=s).combined_loss for s in SELECTIONS}
    assert losses.pop("greedy-swap") <= losses["greedy"] + 1e-12
    assert losses["greedy"] == min(losses.values())


def test_full_width_at_vanishing_ridge_changes_nothing():
    session = conv_session()
    choice = session.preview("conv2", width=11, lam=1e-12)
    session.commit(choice)
    x = images(7)
    torch.testing.assert_close(session.model(x), session.original(x), rtol=1e-4, atol=1e-5)
    assert choice.parameters_saved == choice.macs_saved == 0


def test_commit_makes_the_real_model_smaller_by_what_was_said():
    session = conv_session()
    parameters, macs = session.parameters, session.macs
    choice = session.preview("conv2", width=4)
    step = session.commit(choice)
    counted = count_cost(session.model, images(1))
    assert (counted.parameters, counted.macs) == (step.parameters, step.macs)
    assert parameters - step.parameters == choice.parameters_saved
    assert macs - step.macs == choice.macs_saved
    assert step.label == "conv2 11 → 4"
    assert session.original_width("conv2") == 11


def test_try_is_the_score_of_the_commit():
    session = conv_session()
    choice = session.preview("conv2", width=2)
    tried = session.try_choice(choice)
    assert session.commit(choice).score == tried == session.evaluate()


@pytest.mark.parametrize("procedure", ["simultaneous", "sequential"])
def test_undo_and_redo_are_exact(procedure):
    session = conv_session(procedure=procedure)
    states = []
    for name, width in (("conv2", 6), ("conv1", 4), ("fc1", 5), ("conv2", 3)):
        choice = session.preview(name, width=width)  # measures stale moments again, before the commit
        states.append(state_of(session))
        session.commit(choice)
    states.append(state_of(session))
    for position in (3, 2, 1, 0):
        session.undo()
        assert same(state_of(session), states[position])
    for position in (1, 2, 3, 4):
        session.redo()
        assert same(state_of(session), states[position])
    session.goto(2)
    assert same(state_of(session), states[2])
    session.reset()
    assert same(state_of(session), states[0])
    assert session.history[4].label == "conv2 6 → 3"


def test_a_commit_after_undo_drops_what_redo_had():
    session = conv_session()
    session.commit(session.preview("conv2", width=6))
    session.commit(session.preview("conv1", width=4))
    session.undo()
    session.commit(session.preview("fc1", width=4))
    assert [s.label for s in session.history] == ["original", "conv2 11 → 6", "fc1 13 → 4"]
    assert not session.can_redo


def test_a_duplicate_unit_costs_nothing():
    torch.manual_seed(0)
    model = mlp(5, 7, 3)
    with torch.no_grad():
        model[0].weight[6], model[0].bias[6] = model[0].weight[2], model[0].bias[2]
    x = torch.randn(200, 5)
    session = Session(model, x)
    session.measure()
    choice = session.preview("0", width=6, lam=1e-12)
    session.commit(choice)
    assert choice.output_loss < 1e-9
    torch.testing.assert_close(session.model(x), model(x), rtol=1e-4, atol=1e-5)


def test_dead_units_go_first_and_cost_nothing():
    torch.manual_seed(0)
    model = mlp(5, 7, 3)
    with torch.no_grad():
        model[0].weight[[1, 4]] = 0
        model[0].bias[[1, 4]] = -1
    session = Session(model, torch.randn(200, 5))
    session.measure()
    choice = session.preview("0", width=5, lam=1e-12)
    assert choice.kept == (0, 2, 3, 5, 6)
    assert choice.output_loss < 1e-9


def test_a_group_with_no_activity_at_all_can_still_be_cut():
    torch.manual_seed(0)
    model = mlp(5, 7, 3)
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(-1)
    session = Session(model, torch.randn(50, 5))
    session.measure()
    choice = session.preview("0", width=2)
    assert (choice.input_loss, choice.output_loss, choice.predicted_error) == (0, 0, 0)
    session.commit(choice)
    assert torch.equal(session.model(torch.ones(1, 5)), model(torch.ones(1, 5)))
