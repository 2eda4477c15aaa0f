"""A session over time: stale moments, cancelled work, refusals, what stays as it was."""

import pytest
import torch
from networks import conv_net, images, mlp
from sessions import conv_session, same, state_of

from workbench.data.progress import Cancelled
from workbench.pruning.problem import NotMeasuredError
from workbench.pruning.state import StaleMomentsError
from workbench.session.session import Session


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
    ({"width": 3, "selection": "best"}, "greedy, greedy-swap, leverage"),
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


def test_a_layer_whose_weight_is_made_anew_by_a_hook_says_what_to_do():
    model = mlp(3, 7, 2)
    layer = model[0]
    layer.register_parameter("raw", layer._parameters.pop("weight"))

    def make(module, _inputs):
        module.weight = 2 * module.raw

    layer.register_forward_pre_hook(make)
    model(torch.randn(2, 3))
    session = Session(model, torch.randn(16, 3))
    assert "made anew at every call: remove that first" in session.groups[0].why_not
    assert [one.name for one in session.stays] == ["0.raw"]


def test_a_mask_of_torchs_own_pruning_is_no_obstacle():
    from torch.nn.utils import prune

    model = mlp(3, 7, 2)
    prune.l1_unstructured(model[0], "weight", 0.5)
    inputs = torch.randn(16, 3)
    session = Session(model, inputs)
    assert session.groups[0].prunable
    torch.testing.assert_close(session.model(inputs), model(inputs))


@pytest.mark.parametrize("options", [{"width": "abc"}, {"width": [3]}, {"lam": [1.0]}])
def test_values_of_another_kind_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        conv_session().preview("conv2", **options)


def test_numpy_scalars_are_numbers():
    import numpy as np

    session = conv_session()
    assert session.preview("conv2", width=np.int64(3), lam=np.float32(0.1)).width == 3
