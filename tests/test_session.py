"""The session: preview, commit, undo, stale moments, and its numbers against independent ones."""

import math

import pytest
import torch
from networks import conv_net, images, mlp

from workbench.data.progress import Cancelled
from workbench.network.cost import count_cost
from workbench.pruning.problem import NotMeasuredError
from workbench.pruning.state import StaleMomentsError
from workbench.session.session import Session
from workbench.spectral.selection import SELECTIONS

TARGETS = torch.randint(0, 5, (64,), generator=torch.Generator().manual_seed(1))


def conv_session(**options) -> Session:
    x = images(64)
    session = Session(conv_net(), x, [(x, TARGETS)], **options)
    session.measure()
    return session


def state_of(session):
    """Everything that undo must bring back."""
    return (
        {k: v.clone() for k, v in session.model.state_dict().items()},
        [(g.name, g.width) for g in session.groups],
        {g.name: session.moment(g.name).matrix.clone() for g in session.groups if g.prunable},
        session.parameters,
        session.macs,
        session.stale,
    )


def same(a, b) -> bool:
    weights = all(torch.equal(a[0][k], b[0][k]) for k in a[0] | b[0])
    moments = all(torch.equal(a[2][k], b[2][k]) for k in a[2] | b[2])
    return weights and moments and a[1] == b[1] and a[3:] == b[3:]


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


def test_sequential_marks_downstream_groups_stale_and_measures_them_again():
    session = conv_session(procedure="sequential")
    before = session.moment("fc1").matrix
    session.commit(session.preview("conv2", width=3))
    assert session.stale == {"fc1": "measured before the commit to conv2"}
    with pytest.raises(StaleMomentsError, match="fc1 were measured before the commit to conv2"):
        session.preview("fc1", width=4, remeasure=False)
    session.remeasure()
    assert session.stale == {}
    assert not torch.equal(session.moment("fc1").matrix, before)
    # The fresh moment is that of the pruned network.
    seen = []
    session.model.fc2.register_forward_hook(lambda _m, args, _o: seen.append(args[0]))
    session.evaluate()
    hidden = torch.cat(seen).double()
    torch.testing.assert_close(session.moment("fc1").matrix, hidden.T @ hidden / len(hidden))


def test_a_stale_group_is_measured_again_by_its_preview():
    session = conv_session(procedure="sequential")
    session.commit(session.preview("conv1", width=3))
    assert set(session.stale) == {"conv2", "fc1"}
    session.preview("conv2", width=4)
    assert session.stale == {}


def test_simultaneous_moments_never_go_stale():
    session = conv_session()
    before = session.moment("fc1").matrix
    session.commit(session.preview("conv1", width=3))
    assert session.stale == {}
    assert torch.equal(session.moment("fc1").matrix, before)


def test_readouts_are_the_present_networks():
    """An output unit already removed counts no more (method.md §7)."""
    session = conv_session()
    before = session.preview("conv1", width=3, theta=0.0).output_loss
    session.commit(session.preview("conv2", width=2))
    assert session.preview("conv1", width=3, theta=0.0).output_loss != before


def test_events_tell_what_changed():
    session = Session(conv_net(), images(16))
    events = []
    stop = session.subscribe(events.append)
    session.measure()
    session.commit(session.preview("conv1", width=3))
    session.undo()
    stop()
    session.redo()
    assert events == ["measured", "history", "history"]


def test_without_evaluation_data_there_is_no_score():
    session = Session(conv_net(), images(16))
    session.measure()
    assert session.evaluate() is None
    assert session.commit(session.preview("conv1", width=3)).score is None


def test_a_cancelled_commit_changes_nothing():
    import threading

    session, cancel = conv_session(), threading.Event()
    cancel.set()
    before = state_of(session)
    with pytest.raises(Cancelled):
        session.commit(session.preview("conv2", width=4), cancel=cancel)
    assert same(state_of(session), before)
    assert len(session.history) == 1


BAD = [
    ({"lam": 0.0}, "positive finite"),
    ({"lam": -1.0}, "positive finite"),
    ({"lam": float("nan")}, "positive finite"),
    ({"lam": float("inf")}, "positive finite"),
    ({"lam": "small"}, "positive finite"),
    ({"width": 0}, "from 1 to 11"),
    ({"width": 12}, "from 1 to 11"),
    ({"width": 2.5}, "from 1 to 11"),
    ({"width": True}, "from 1 to 11"),
    ({}, "give a width"),
    ({"width": 3, "theta": 1.5}, "θ must be"),
    ({"width": 3, "theta": float("nan")}, "θ must be"),
    ({"width": 3, "selection": "best"}, "greedy, leverage"),
    ({"width": 3, "reconstruction": "magic"}, "channel, kernel, original, none"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_previews_are_refused_and_change_nothing(options, message):
    session = conv_session()
    before = state_of(session)
    with pytest.raises(ValueError, match=message):
        session.preview("conv2", **options)
    assert same(state_of(session), before)


def test_unknown_and_unprunable_groups_are_refused():
    session = conv_session()
    with pytest.raises(ValueError, match="conv1, conv2, fc1, fc2"):
        session.preview("conv9", width=1)
    with pytest.raises(ValueError, match="fc2 is not prunable: its units are the network's outputs"):
        session.preview("fc2", width=1)


def test_nothing_works_before_measuring():
    session = Session(conv_net(), images(16))
    with pytest.raises(NotMeasuredError, match="measure"):
        session.preview("conv1", width=3)


def test_an_outdated_choice_is_refused():
    session = conv_session()
    choice = session.preview("conv2", width=4)
    session.commit(choice)
    with pytest.raises(ValueError, match="11 units; it has 4 now"):
        session.commit(choice)
    assert len(session.history) == 2


def test_history_has_ends():
    session = conv_session()
    with pytest.raises(ValueError, match="nothing to undo"):
        session.undo()
    with pytest.raises(ValueError, match="nothing to redo"):
        session.redo()
    with pytest.raises(ValueError, match="steps 0 to 0"):
        session.goto(3)


def test_construction_refuses_what_cannot_work():
    with pytest.raises(ValueError, match="empty"):
        Session(conv_net(), [])
    with pytest.raises(ValueError, match="does not go through the model"):
        Session(conv_net(), images(4, channels=3))
    with pytest.raises(ValueError, match="simultaneous, sequential"):
        Session(conv_net(), images(4), procedure="backward")
    with pytest.raises(ValueError, match="'meta'"):
        Session(conv_net().to("meta"), images(4))


def test_failed_measuring_changes_nothing():
    session = Session(conv_net(), [images(4), images(4) * float("nan")])
    with pytest.raises(ValueError, match="batch 1"):
        session.measure()
    assert not session.measured


def test_measuring_anew_belongs_to_the_original():
    session = conv_session()
    session.commit(session.preview("conv1", width=3))
    with pytest.raises(ValueError, match="reset"):
        session.measure()


def test_the_users_model_is_never_changed():
    model = conv_net().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    session = Session(model, images(16))
    session.measure()
    session.commit(session.preview("conv2", width=3))
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_stream_that_its_own_commit_changes_is_stale_too():
    class Stream(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.inner = torch.nn.Linear(6, 8), torch.nn.Linear(8, 9)
            self.back, self.head = torch.nn.Linear(9, 8), torch.nn.Linear(8, 3)

        def forward(self, x):
            x = self.stem(x)
            return self.head(torch.relu(x + self.back(torch.relu(self.inner(x)))))

    torch.manual_seed(0)
    session = Session(Stream(), torch.randn(64, 6), procedure="sequential")
    session.measure()
    session.commit(session.preview("stem", width=5))
    assert set(session.stale) == {"stem", "inner"}


def test_a_choice_of_another_branch_is_refused():
    session = conv_session()
    session.commit(session.preview("conv2", width=4))
    choice = session.preview("conv2", width=2)
    session.undo()
    session.commit(session.preview("conv2", width=4, selection="random"))
    with pytest.raises(ValueError, match="another branch"):
        session.commit(choice)


def test_calibration_made_in_inference_mode_is_fine():
    with torch.inference_mode():
        x = images(8).clone()
    assert [g.prunable for g in Session(conv_net(), x).groups] == [True, True, True, False]


def test_a_norm_over_the_batch_is_counted():
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 7), torch.nn.BatchNorm1d(7, track_running_stats=False), torch.nn.Linear(7, 2)
    )
    assert Session(model, torch.randn(16, 3)).macs == 3 * 7 + 7 * 2


def test_a_layer_whose_weight_is_made_anew_says_what_to_do():
    from torch.nn.utils import prune

    model = mlp(3, 7, 2)
    prune.l1_unstructured(model[0], "weight", 0.5)
    model(torch.randn(2, 3))
    assert "prune.remove" in Session(model, torch.randn(16, 3)).groups[0].why_not


@pytest.mark.parametrize("options", [{"width": "abc"}, {"width": [3]}, {"lam": [1.0]}])
def test_values_of_another_kind_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        conv_session().preview("conv2", **options)


def test_numpy_scalars_are_numbers():
    import numpy as np

    session = conv_session()
    assert session.preview("conv2", width=np.int64(3), lam=np.float32(0.1)).width == 3
