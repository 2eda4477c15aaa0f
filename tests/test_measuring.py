"""Measuring moments and scores: one pass, sums that do not depend on batches, errors that name the place."""

import threading

import pytest
import torch
from networks import conv_net, images, mlp
from oracles import activity, mean_activation, taylor
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from workbench.data.batches import as_batches, first_inputs
from workbench.data.progress import Cancelled
from workbench.measure.evaluation import evaluate, reading_for
from workbench.measure.gradients import measure_taylor
from workbench.measure.moments import GroupStatistics, measure_moments
from workbench.measure.passes import ActivationError
from workbench.network.finding.proof import find_groups
from workbench.network.running import device_of
from workbench.session.session import Session


@pytest.fixture
def net():
    return conv_net()


@pytest.fixture
def groups(net):
    return find_groups(net, images(4))


def inputs_of(model, layer, x):
    """What a layer receives, caught independently of the code under test."""
    seen = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, args, _o: seen.append(args[0]))
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[0]


def test_moments_are_those_of_the_readers_inputs(net, groups):
    x = images(13)
    statistics = measure_moments(net, groups, x)
    pixels = inputs_of(net, "conv2", x).double().permute(0, 2, 3, 1).reshape(-1, 7)
    moment = statistics["conv1"].moments[0]
    torch.testing.assert_close(moment.matrix, pixels.T @ pixels / len(pixels))
    torch.testing.assert_close(moment.mean, pixels.mean(0))
    flat = inputs_of(net, "fc1", x).double().reshape(13, 11, 4).permute(0, 2, 1).reshape(-1, 11)
    torch.testing.assert_close(statistics["conv2"].moments[0].matrix, flat.T @ flat / len(flat))


def test_comparison_statistics_are_those_of_the_samples(net, groups):
    x = images(13)
    statistics = measure_moments(net, groups, [x[:6], x[6:]])["fc1"]
    hidden = inputs_of(net, "fc2", x)
    torch.testing.assert_close(statistics.active, activity(hidden))
    torch.testing.assert_close(statistics.magnitude, mean_activation(hidden))


def test_taylor_scores_are_those_of_the_samples_and_their_gradients(net, groups):
    x, labels = images(13), torch.arange(13) % 5
    seen = []

    def note(_module, args):
        args[0].retain_grad()
        seen.append(args[0])

    handle = net.fc2.register_forward_pre_hook(note)
    functional.cross_entropy(net(x), labels, reduction="sum").backward()
    handle.remove()
    found = measure_taylor(net, groups, [(x[:6], labels[:6]), (x[6:], labels[6:])])["fc1"]
    torch.testing.assert_close(found, taylor(seen[0].detach(), seen[0].grad), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("size", [1, 5, 64])
def test_batches_make_no_difference(net, groups, size):
    x = images(64)
    whole = measure_moments(net, groups, x)["conv2"].moments[0]
    loader = DataLoader(TensorDataset(x), batch_size=size)
    parts = measure_moments(net, groups, loader)["conv2"].moments[0]
    assert parts.count == whole.count
    # The float32 forward pass may round differently for another batch size; the sums do not.
    torch.testing.assert_close(parts.matrix, whole.matrix, rtol=1e-5, atol=1e-6)


def test_progress_counts_batches_and_examples(net, groups):
    calls = []
    measure_moments(net, groups, [images(3), images(4)], progress=lambda *a: calls.append(a))
    assert calls == [(1, 2, "measuring moments, 3 examples"), (2, 2, "measuring moments, 7 examples")]


def test_cancel_stops_between_batches_and_removes_the_hooks(net, groups):
    event = threading.Event()
    with pytest.raises(Cancelled, match="after 1 batches"):
        measure_moments(net, groups, [images(3)] * 5, progress=lambda *_: event.set(), cancel=event)
    assert not any(m._forward_pre_hooks for m in net.modules())


def test_the_models_modes_come_back(net, groups):
    net.train()
    net.bn1.eval()
    measure_moments(net, groups, images(4))
    assert net.training
    assert not net.bn1.training


def test_nan_activation_names_layer_and_batch(net, groups):
    with torch.no_grad():
        net.bn1.bias[3] = float("nan")
    with pytest.raises(ActivationError, match=r"batch 0 has NaN at the input of layer conv2.*conv1"):
        measure_moments(net, groups, images(4))


def test_infinite_activation_is_called_inf(net, groups):
    with torch.no_grad():
        net.bn1.bias[3] = float("inf")
    with pytest.raises(ActivationError, match="Inf at the input of layer conv2"):
        measure_moments(net, groups, images(4))


def test_nan_input_names_its_batch(net, groups):
    bad = images(4)
    bad[2, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="batch 1 has NaN or Inf in its inputs"):
        measure_moments(net, groups, [images(4), bad])


class Masked(nn.Module):
    """Attention with an additive mask among the inputs."""

    def __init__(self, **options):
        super().__init__()
        self.stem, self.head, self.options = nn.Linear(5, 8), nn.Linear(8, 3), options
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, mask):
        hidden = self.stem(x).tanh()
        return self.head(
            self.attention(hidden, hidden, hidden, need_weights=False, **{self.options["as"]: mask})[0]
        )


def causal(length):
    return torch.full((length, length), float("-inf")).triu(1)


def padding(examples, length):
    mask = torch.zeros(examples, length)
    mask[::2, -2:] = float("-inf")
    return mask


MASKS = {
    "causal": ("attn_mask", lambda: causal(7)),
    "padding": ("key_padding_mask", lambda: padding(13, 7)),
    "biases before it": ("attn_mask", lambda: causal(7) - torch.rand(7, 7)),
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("form", ["tuple", "dictionary"])
def test_infinite_numbers_of_a_mask_are_no_fault(kind, form):
    torch.manual_seed(5)
    place, mask = MASKS[kind]
    x, mask, y = torch.randn(13, 7, 5), mask(), torch.randint(3, (13, 7))
    inputs = (x, mask) if form == "tuple" else {"x": x, "mask": mask}
    data = [(inputs, y)] if form == "tuple" else [inputs | {"labels": y}]
    model = Masked(**{"as": place})
    session = Session(model, data, data)
    session.measure()
    session.measure_gradients()
    with torch.no_grad():
        hidden = model.stem(x).tanh().double().flatten(0, 1)
    found = session.original_statistics()[session.groups[0].name].moments[0]
    torch.testing.assert_close(found.matrix, hidden.T @ hidden / len(hidden), rtol=1e-5, atol=1e-7)
    for reconstruction in ("channel", "kernel", "original"):
        choice = session.preview(session.groups[0].name, width=5, reconstruction=reconstruction)
        assert session.try_choice(choice) is not None


def test_a_mask_that_leaves_nothing_is_told_as_such():
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, x, mask):
            return self.head(mask.softmax(-1) @ self.stem(x).tanh())

    x, mask = torch.randn(13, 7, 5), causal(7)
    session = Session(Weighted(), [((x, mask), None)])
    session.measure()
    mask[3] = float("-inf")
    with pytest.raises(ValueError, match=r"NaN at the input of layer head.*a mask must leave something"):
        session.measure()


def test_what_the_network_takes_out_itself_is_no_fault():
    class Filled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(3, 5, 2)

        def forward(self, x):
            return self.net(x.nan_to_num(0.0, 0.0, 0.0))

    x = torch.randn(13, 3)
    gaps = x.clone()
    gaps[2, 1], gaps[5, 0] = float("nan"), float("inf")
    filled, model = x.clone(), Filled()
    filled[2, 1] = filled[5, 0] = 0.0
    groups = find_groups(model, x)
    (name,) = (group.name for group in groups if group.prunable)
    found, expected = (measure_moments(model, groups, data)[name].moments[0] for data in (gaps, filled))
    assert torch.equal(found.matrix, expected.matrix)


class Branching(nn.Module):
    """Which of two layers runs depends on the data."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 13), nn.Linear(7, 3)
        self.positive, self.negative = nn.Linear(13, 7), nn.Linear(13, 7)

    def forward(self, x):
        hidden = self.first(x).relu()
        return self.last((self.positive if x.sum() > 0 else self.negative)(hidden).relu())


def test_a_layer_that_only_a_later_batch_reaches_is_told():
    x = torch.rand(40, 5)
    session = Session(Branching(), [x, -x])
    with pytest.raises(
        ValueError, match="layer negative runs on calibration batch 1, but not on the example"
    ):
        session.measure()
    Session(Branching(), [x]).measure()


def test_wrong_shape_names_its_batch(net, groups):
    with pytest.raises(ValueError, match=r"batch 1 of shape \(4, 2, 9, 9, 1\) float32 does not go through"):
        measure_moments(net, groups, [images(4), torch.zeros(4, 2, 9, 9, 1)])


@pytest.mark.parametrize("data", [[], torch.zeros(0, 2, 8, 8)])
def test_empty_data_is_an_error(net, groups, data):
    with pytest.raises(ValueError, match="empty"):
        measure_moments(net, groups, data)


def test_data_that_can_be_read_once_is_refused():
    with pytest.raises(ValueError, match="read only once"):
        as_batches(iter([images(3)]))


@pytest.mark.parametrize("data", ["images", 3, {"x": 1}])
def test_what_is_not_data_is_refused(data):
    with pytest.raises(TypeError, match="give a tensor"):
        as_batches(data)


def test_a_batch_of_something_else_is_refused():
    with pytest.raises(ValueError, match="batch 0 is a str"):
        first_inputs(["a"])


def test_targets_must_be_as_many_as_inputs():
    with pytest.raises(ValueError, match="3 inputs but 2 targets"):
        as_batches((torch.zeros(3, 1), torch.zeros(2)))


def test_a_model_without_weights_is_refused():
    with pytest.raises(ValueError, match="'meta'"):
        device_of(nn.Linear(3, 2, device="meta"))


def test_a_model_on_two_devices_is_refused():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(ValueError, match="several devices"):
        device_of(model)


def test_statistics_come_back_from_their_tensors(net, groups):
    statistics = measure_moments(net, groups, images(5))["conv2"]
    again = GroupStatistics.from_state(statistics.state())
    assert torch.equal(again.moments[0].matrix, statistics.moments[0].matrix)
    assert torch.equal(again.active, statistics.active)


def test_accuracy_is_the_share_of_right_answers():
    model = nn.Identity()
    outputs = torch.eye(4)
    assert evaluate(model, [(outputs, torch.tensor([0, 1, 2, 0]))]) == 0.75
    assert reading_for(model, [(outputs, torch.tensor([0, 1, 2, 0]))]).name == "accuracy"


def test_regression_is_scored_by_r_squared():
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(50, 1, generator=generator), torch.randn(50, 1, generator=generator)
    y = x + 0.5 * noise
    expected = 1 - (0.25 * noise.square().sum() / (y - y.mean()).square().sum()).item()
    assert evaluate(nn.Identity(), [(x[:20], y[:20]), (x[20:], y[20:])]) == pytest.approx(expected, abs=1e-6)
    assert reading_for(nn.Identity(), [(x, y)]).name == "R²"


def test_a_function_scores_as_it_likes():
    assert evaluate(nn.Identity(), lambda model: 0.5) == 0.5
    assert reading_for(nn.Identity(), lambda model: 0.5).name == "score"


def test_scoring_needs_targets_that_fit():
    model = mlp(3, 5, 2)
    with pytest.raises(ValueError, match="no targets"):
        evaluate(model, [torch.zeros(2, 3)])
    with pytest.raises(ValueError, match="evaluation batch 0"):
        evaluate(model, [(torch.zeros(2, 4), torch.zeros(2, dtype=torch.long))])
    with pytest.raises(ValueError, match="empty"):
        evaluate(model, [])


def test_scoring_can_be_cancelled_and_leaves_the_mode():
    model, event = mlp(3, 5, 2).train(), threading.Event()
    event.set()
    with pytest.raises(Cancelled):
        evaluate(model, [(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))], cancel=event)
    assert model.training


@pytest.mark.parametrize("column", [True, False])
def test_targets_may_stand_in_a_column(column):
    outputs = torch.eye(4).repeat(5, 1)
    targets = outputs.argmax(1)
    assert evaluate(nn.Identity(), [(outputs, targets[:, None] if column else targets)]) == 1.0


@pytest.mark.parametrize("kind", [torch.long, torch.bool])
def test_one_output_is_a_logit(kind):
    outputs = torch.tensor([[-2.0], [3.0], [0.5], [-0.1]])
    targets = torch.tensor([0, 1, 0, 0]).to(kind)
    assert evaluate(nn.Identity(), [(outputs, targets)]) == 0.75
    assert evaluate(nn.Identity(), [(outputs, targets[:, None])]) == 0.75


def test_targets_of_another_number_are_refused():
    with pytest.raises(ValueError, match="do not go with targets"):
        evaluate(nn.Identity(), [(torch.eye(4), torch.zeros(4, 3, dtype=torch.long))])


def test_every_output_of_a_regression_counts_by_itself():
    generator = torch.Generator().manual_seed(0)
    shift = torch.tensor([0.0, 100.0])
    targets = torch.randn(200, 2, generator=generator) + shift
    assert abs(evaluate(nn.Identity(), [(shift.expand(200, 2), targets)])) < 0.05
    with pytest.raises(ValueError, match="two examples"):
        evaluate(nn.Identity(), [(torch.randn(1, 1), torch.randn(1, 1))])


def test_evaluation_data_without_targets_is_refused_at_once():
    with pytest.raises(ValueError, match="no targets"):
        reading_for(nn.Identity(), [torch.zeros(2, 3)])


def test_scoring_gives_every_module_its_mode_back(net):
    net.train()
    net.bn1.eval()
    evaluate(net, [(images(4), torch.zeros(4, dtype=torch.long))])
    assert net.training
    assert not net.bn1.training


def test_numpy_arrays_are_data(net, groups):
    statistics = measure_moments(net, groups, images(5).numpy())
    assert statistics["fc1"].moments[0].count == 5
