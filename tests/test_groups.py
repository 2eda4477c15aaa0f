"""Unit groups: found, proved, and refused with a reason."""

import re

import pytest
import torch
from networks import Grouped, Mixed, Residual, Tied, conv_net, images, mlp
from torch import nn

from workbench.network.finding.proof import find_groups


def by_name(groups):
    return {group.name: group for group in groups}


def test_a_network_of_modules_and_functions_has_its_groups_in_running_order():
    groups = find_groups(conv_net(), images(4))
    assert [(g.name, g.kind, g.width) for g in groups] == [
        ("conv1", "Conv2d", 7),
        ("conv2", "Conv2d", 11),
        ("fc1", "Linear", 13),
        ("fc2", "Linear", 5),
    ]
    assert [g.prunable for g in groups] == [True, True, True, False]
    assert "outputs" in groups[-1].why_not


def test_norms_and_per_channel_activations_belong_to_the_group():
    conv2 = by_name(find_groups(conv_net(), images(4)))["conv2"]
    assert [norm.module for norm in conv2.norms] == ["bn2", "act"]


def test_the_positions_of_a_channel_after_flatten_are_one_units_features():
    conv2 = by_name(find_groups(conv_net(), images(4)))["conv2"]
    (reader,) = conv2.readers
    assert (reader.module, reader.positions) == ("fc1", 4)
    assert reader.columns.tolist() == [[4 * j + p for p in range(4)] for j in range(11)]


def test_samples_of_a_flattened_reader_are_its_positions():
    conv2 = by_name(find_groups(conv_net(), images(4)))["conv2"]
    inputs = torch.arange(3 * 44, dtype=torch.float32).reshape(3, 44)
    samples = conv2.readers[0].samples(inputs)
    expected = inputs.reshape(3, 11, 4).permute(0, 2, 1).reshape(12, 11)
    assert torch.equal(samples, expected)


def test_samples_of_a_convolution_are_its_pixels():
    conv1 = by_name(find_groups(conv_net(), images(4)))["conv1"]
    inputs = images(3, channels=7, size=5)
    expected = torch.stack([inputs[b, :, i, j] for b in range(3) for i in range(5) for j in range(5)])
    assert torch.equal(conv1.readers[0].samples(inputs), expected)


def test_a_residual_stream_is_one_group_with_all_writers_and_readers():
    torch.manual_seed(0)
    stream = by_name(find_groups(Residual().eval(), images(4)))["stem"]
    assert stream.prunable
    assert [w.module for w in stream.writers] == ["stem", "inner"]
    assert [r.module for r in stream.readers] == ["inner", "head"]


def test_units_mixed_before_their_reader_are_refused_by_the_proof():
    torch.manual_seed(0)
    first = by_name(find_groups(Mixed(), torch.randn(4, 3)))["first"]
    assert not first.prunable
    assert "mixed" in first.why_not


class Products(nn.Module):
    """Every unit of one layer meets every unit of another, or a part of itself, in a product."""

    def __init__(self, join, depthwise=False):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(3, 6), nn.LazyLinear(2)
        self.alone, self.join = nn.Conv1d(4, 4, 1, groups=4) if depthwise else nn.Identity(), join

    def forward(self, x):
        first = self.alone(self.first(x).unsqueeze(2)).squeeze(2)
        return self.last(self.join(first, self.second(x)))


@pytest.mark.parametrize(
    ("join", "reason"),
    [
        (lambda a, b: (a[:, :, None] * b[:, None]).flatten(1), "multiplied with all units of others"),
        (lambda a, b: a.repeat(1, 2) + a.repeat_interleave(2, 1), r"mixed by the network \(add\)"),
        (
            lambda a, b: (a.repeat(1, 2) + a.flip(1).repeat(1, 2)) * a.repeat_interleave(2, 1),
            "mixed|one another",
        ),
        (
            lambda a, b: nn.functional.layer_norm(a + 0 * b[:, :4], [4]),
            r"mixed by the network \(layer norm\)",
        ),
    ],
)
@pytest.mark.parametrize("depthwise", [False, True])
def test_what_made_one_unit_of_several_is_named_and_not_what_only_went_along(join, reason, depthwise):
    torch.manual_seed(0)
    model, x = Products(join, depthwise).eval(), torch.randn(4, 3)
    model(x)
    first = by_name(find_groups(model, x))["first"]
    assert not first.prunable
    assert re.search(reason, first.why_not), first.why_not


@pytest.mark.parametrize(
    "kind", [lambda: nn.LSTMCell(3, 5), lambda: nn.GRUCell(3, 5), lambda: nn.EmbeddingBag(9, 5)]
)
def test_layers_that_are_not_taken_apart_are_listed_with_a_reason(kind):
    class Reading(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.last = kind(), nn.Linear(5, 2)

        def forward(self, x):
            hidden = self.layer(x)
            return self.last(hidden[0] if isinstance(hidden, tuple) else hidden)

    torch.manual_seed(0)
    model = Reading().eval()
    x = torch.arange(12).reshape(4, 3) % 9 if isinstance(model.layer, nn.EmbeddingBag) else torch.randn(4, 3)
    group = by_name(find_groups(model, x))["layer"]
    assert (group.width, group.prunable) == (5, False)
    assert f"{type(model.layer).__name__} is not taken apart" in group.why_not


def test_tied_weights_are_refused_and_named():
    torch.manual_seed(0)
    groups = by_name(find_groups(Tied(), torch.randn(4, 3)))
    assert not groups["second"].prunable
    assert "shared with third" in groups["second"].why_not


def test_outputs_and_idle_layers_are_listed_with_a_reason():
    torch.manual_seed(0)
    groups = by_name(find_groups(Grouped().eval(), images(4)))
    assert "does not run" in groups["idle"].why_not
    assert "outputs" in groups["up"].why_not
    assert not any(groups[name].prunable for name in ("idle", "up"))


def test_a_depthwise_stage_belongs_to_the_group_that_it_passes_on():
    torch.manual_seed(0)
    wide = by_name(find_groups(Grouped().eval(), images(4)))["wide"]
    assert wide.prunable
    assert [norm.module for norm in wide.norms] == ["depthwise"]
    assert [reader.module for reader in wide.readers] == ["narrow"]


def test_a_sequential_and_a_linear_over_time_steps():
    torch.manual_seed(0)
    groups = find_groups(mlp(3, 17, 13, 5), torch.randn(4, 6, 3))
    assert [g.prunable for g in groups] == [True, True, False]


def test_a_network_that_cannot_be_traced_stays_whole_and_says_why():
    class Opaque(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 7), nn.Linear(7, 5)

        def forward(self, x):
            return self.second(torch.from_numpy(self.first(x).detach().numpy()))

    groups = by_name(find_groups(Opaque(), torch.randn(4, 3)))
    assert not any(group.prunable for group in groups.values())
    assert all(group.why_not for group in groups.values())


def test_the_model_is_left_as_it_was():
    model = conv_net().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    find_groups(model, images(4))
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_an_example_of_the_wrong_shape_is_said_as_such():
    with pytest.raises(ValueError, match=r"shape \(4, 3, 8, 8\) float32 does not go through"):
        find_groups(conv_net(), images(4, channels=3))


def mixed(**options):
    torch.manual_seed(0)
    model = Mixed()
    with torch.no_grad():
        model.second.bias.fill_(options.get("bias", 0.0))
    return model


def test_a_large_bias_cannot_hide_a_mixture():
    assert not by_name(find_groups(mixed(bias=1e6), torch.randn(4, 3)))["first"].prunable


def test_dead_outputs_cannot_hide_a_mixture():
    model = nn.Sequential(mixed(bias=-50.0), nn.ReLU())
    assert not by_name(find_groups(model, torch.randn(4, 3)))["0.first"].prunable


class Odd(nn.Module):
    """What else people return, and how else they call a layer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 7), nn.Linear(7, 5)

    def forward(self, x):
        y = self.second(input=torch.relu(self.first(x)))
        return y, y[:, 0] > 0, y.new_zeros(0)


def test_odd_outputs_and_calls_by_name_are_no_obstacle():
    torch.manual_seed(0)
    assert by_name(find_groups(Odd(), torch.randn(4, 3)))["first"].prunable


def test_a_random_forward_pass_is_said_as_such():
    class Noisy(Odd):
        def forward(self, x):
            return self.second(nn.functional.dropout(torch.relu(self.first(x)), training=True))

    assert "random" in by_name(find_groups(Noisy(), torch.randn(64, 3)))["first"].why_not


def test_a_parametrized_layer_is_said_as_such():
    model = mlp(3, 7, 5)
    nn.utils.parametrizations.weight_norm(model[0])
    assert "parametrized" in by_name(find_groups(model, torch.randn(4, 3)))["0"].why_not


class Experts(nn.Module):
    """Each example goes to one of the experts, chosen by what the units before say."""

    def __init__(self):
        super().__init__()
        self.inp, self.gate, self.out = nn.Linear(7, 16), nn.Linear(16, 3, bias=False), nn.Linear(16, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 13), nn.ReLU(), nn.Linear(13, 16)) for _ in range(3)
        )

    def forward(self, x):
        x = torch.tanh(self.inp(x))
        which, y = self.gate(x).argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            y[which == number] = expert(x[which == number])
        return self.out(x + y)


@pytest.mark.parametrize("shape", [(61, 7), (11, 23, 7)])
def test_units_whose_silence_sends_examples_to_other_experts_open(shape):
    torch.manual_seed(0)
    model = Experts().double()
    found = by_name(find_groups(model, torch.randn(shape).double()))
    reached = [found[f"experts.{number}.0"] for number in range(3) if found[f"experts.{number}.0"].readers]
    assert reached
    assert all(group.prunable for group in reached), [group.why_not for group in reached]


class FirstPlace(nn.Module):
    """The first unit alone is rectified: it shows on the examples in which that unit is negative."""

    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(9, 12), nn.Linear(12, 3)

    def forward(self, x):
        x = self.a(x).clone()
        x[:, 0] = x[:, 0].relu()
        return self.o(x)


@pytest.mark.parametrize("seed", range(6))
def test_what_few_examples_show_is_seen(seed):
    torch.manual_seed(seed)
    model, x = FirstPlace().double(), torch.randn(32, 9).double()
    assert not by_name(find_groups(model, x))["a"].prunable
