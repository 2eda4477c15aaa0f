"""Refitting on patches: against plain least squares in float64, and what must come back unchanged."""

import pytest
import torch
from fits import CHANNELS, OUTPUTS, layers, network, patches, ridge_solution, seen, targets, whole_reader
from networks import conv_net, images
from torch import nn
from torch.nn import functional

from workbench.fitting.least_squares import fit_original, fit_present
from workbench.network.groups import Reader
from workbench.network.layers import kind_of, layer_weight
from workbench.spectral.moment import Moment
from workbench.spectral.reconstruction import fold, reconstruction_matrix


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(13)


@layers
@pytest.mark.parametrize("tau", [0.0, 0.1])
def test_the_kernel_fit_is_least_squares_on_patches(layer, tau):
    model, x = network(layer)
    order = torch.tensor([3, 0, 6, 1, 2, 5, 4])
    reader = Reader("layer", kind_of(model.layer), order[:, None])
    alive, kept = torch.tensor([0, 2, 3, 5, 6]), torch.tensor([1, 4, 2])
    weight = torch.randn_like(reader.group_weight(layer_weight(model.layer.double()))[:, : len(alive)])
    ridge = tau * torch.rand(5).double()
    found = fit_present(model, reader, weight, alive, kept, ridge, [x[:23], x[23:]])

    inputs, _ = seen(model, "layer", x)
    features = patches(model.layer, inputs)
    features = features.reshape(len(features), CHANNELS, -1)[:, order[alive]]
    blocks = weight.shape[2] if "upward" in layer else 1
    readout = weight.reshape(OUTPUTS, 5, -1, blocks)
    y = torch.einsum("ncp,ocpb->nob", features, readout).flatten(1)
    tau_features = ridge[kept].repeat_interleave(features.shape[2])
    expected = ridge_solution(features[:, kept].flatten(1), y, tau_features)
    expected = expected.reshape(OUTPUTS, blocks, 3, -1).movedim(1, -1).flatten(2)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_the_features_of_a_flattened_unit_are_fitted_together():
    model = conv_net().double()
    x = images(257).double()
    reader = whole_reader(model.fc1, "fc1", positions=4)
    weight, kept, ridge = reader.group_weight(model.fc1.weight), [0, 3, 4, 10], torch.full((11,), 0.01)
    found = fit_present(model, reader, weight, range(11), kept, ridge, x)
    inputs, _ = seen(model, "fc1", x)
    columns = reader.columns[kept].flatten()
    y = inputs @ model.fc1.weight.detach().T
    expected = ridge_solution(inputs[:, columns], y, torch.full((16,), 0.01, dtype=torch.float64))
    torch.testing.assert_close(found, expected.reshape(13, 4, 4), rtol=1e-7, atol=1e-8)


def test_units_of_several_channels_stay_together_in_a_convolution():
    model = nn.Sequential(nn.Conv2d(6, OUTPUTS, 3).double())
    x = torch.randn(31, 6, 5, 5, dtype=torch.float64)
    reader = whole_reader(model[0], "0", positions=2)
    weight = reader.group_weight(layer_weight(model[0]))
    found = fit_present(model, reader, weight, range(3), [2, 0], torch.full((3,), 0.02), x)
    features = functional.unfold(x, 3).transpose(1, 2).reshape(-1, 6 * 9)
    columns = torch.cat([torch.arange(36, 54), torch.arange(18)])
    y = features @ model[0].weight.detach().flatten(1).T
    expected = ridge_solution(features[:, columns], y, torch.full((36,), 0.02, dtype=torch.float64))
    torch.testing.assert_close(found.flatten(1), expected, rtol=1e-8, atol=1e-8)


@layers
def test_at_full_width_without_a_ridge_the_weight_comes_back(layer):
    model, x = network(layer)
    reader = whole_reader(model.layer)
    weight = reader.group_weight(layer_weight(model.layer)).detach()
    found = fit_present(model, reader, weight, range(CHANNELS), range(CHANNELS), torch.zeros(CHANNELS), x)
    torch.testing.assert_close(found, weight, rtol=0, atol=1e-8)


def test_on_a_kernel_of_one_the_fit_is_the_papers_reconstruction():
    model = nn.Sequential(nn.Conv2d(CHANNELS, OUTPUTS, 1), nn.ReLU())
    x = torch.randn(31, CHANNELS, 5, 5) @ torch.randn(5, 5)
    reader, kept, tau = whole_reader(model[0], "0"), [5, 1, 2], torch.rand(CHANNELS)
    moment = Moment.of(x.movedim(1, -1).reshape(-1, CHANNELS))
    weight = layer_weight(model[0]).detach().double()
    expected = fold(weight, reconstruction_matrix(moment, kept, tau.double()))
    found = fit_present(model, reader, weight.flatten(2), range(CHANNELS), kept, tau, x)
    torch.testing.assert_close(found, expected.flatten(2), rtol=0, atol=1e-8)


@layers
@pytest.mark.parametrize("tau", [0.0, 0.1])
def test_the_fit_to_the_original_is_least_squares_with_a_constant(layer, tau):
    original, x = network(layer)
    rows = torch.tensor([4, 0, 3])
    pruned, _ = network(layer, outputs=3, keep=torch.tensor([6, 1, 2, 4]), seed=1)
    ridge = tau * torch.rand(4).double()
    weight, bias = fit_original(original, pruned, "layer", rows, ridge, [x[:23], x[23:]])

    inputs, now = seen(pruned, "layer", x)
    _, before = seen(original, "layer", x)
    features = patches(pruned.layer, inputs)
    wanted = targets(original.layer, before)[:, rows]  # (samples, outputs, block)
    tau_features = ridge.repeat_interleave(features.shape[1] // 4)
    block = wanted.shape[2]
    # One constant for the targets of a block: rows of the design repeat, a block at a time.
    expected_weight, expected_bias = [], []
    for output in range(3):
        design = torch.zeros(len(features), block, block * features.shape[1] + 1, dtype=torch.float64)
        for part in range(block):
            design[:, part, part * features.shape[1] : (part + 1) * features.shape[1]] = features
        design[:, :, -1] = 1
        stacked = (design.flatten(0, 1), wanted[:, output].reshape(-1, 1))
        # A mean over samples times blocks: the ridge of the sum over blocks is that many times smaller.
        solution = ridge_solution(*stacked, torch.cat([tau_features.repeat(block) / block, torch.zeros(1)]))
        expected_weight.append(solution[0, :-1].reshape(block, 4, -1).movedim(0, -1))
        expected_bias.append(solution[0, -1])
    expected = torch.stack(expected_weight).reshape(layer_weight(pruned.layer).shape)
    torch.testing.assert_close(weight, expected, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(bias, torch.stack(expected_bias), rtol=1e-7, atol=1e-8)
    assert now.shape[0] == before.shape[0]


@layers
def test_where_nothing_was_pruned_weight_and_bias_come_back(layer):
    model, x = network(layer)
    model, x = model.float(), x.float()
    weight, bias = fit_original(model, model, "layer", torch.arange(OUTPUTS), torch.zeros(CHANNELS), x)
    torch.testing.assert_close(weight, layer_weight(model.layer).detach().double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(bias, model.layer.bias.detach().double(), rtol=0, atol=1e-12)


def test_a_layer_without_a_bias_gets_one_from_the_fit():
    original = nn.Sequential(nn.Linear(CHANNELS, OUTPUTS))
    pruned = nn.Sequential(nn.Linear(CHANNELS, OUTPUTS, bias=False))
    x = torch.randn(101, CHANNELS) + 1
    weight, bias = fit_original(original, pruned, "0", torch.arange(OUTPUTS), torch.zeros(CHANNELS), x)
    torch.testing.assert_close(weight.float(), original[0].weight.detach())
    torch.testing.assert_close(bias.float(), original[0].bias.detach())
