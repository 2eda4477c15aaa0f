"""Activations sample by sample: their moment is the one that was measured, and they are the layer's own."""

import copy

import pytest
import torch

from workbench.course import activations, example
from workbench.spectral.moment import Moment


@pytest.mark.parametrize("name", ["conv1", "conv3", "fc1"])
def test_their_moment_is_the_measured_one(name):
    session = example("digits-cnn", say=False)
    found, measured = activations(session, name), session.moment(name)
    assert found.shape == (measured.count, measured.width)
    off = (Moment.of(found).matrix - measured.matrix).abs().max()
    assert off <= 1e-7 * measured.matrix.trace()


def test_they_are_what_the_layer_gives_after_its_nonlinearity_of_another_network_too():
    session = example("digits-mlp", say=False)
    model = copy.deepcopy(session.original).train()
    with torch.no_grad():
        model.fc1.bias += 0.25
        images = session.calibration.inputs.flatten(1)
        expected = torch.relu(images @ model.fc1.weight.T + model.fc1.bias)
    found = activations(session, "fc1", model)
    torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=1e-5)
    assert model.training
    assert not torch.allclose(found, activations(session, "fc1"))
    assert not model.fc2._forward_pre_hooks


def test_a_group_without_readers_and_one_that_is_none_are_told():
    session = example("digits-mlp", say=False)
    with pytest.raises(ValueError, match="fc4 has no activations"):
        activations(session, "fc4")
    with pytest.raises(ValueError, match="fc1"):
        activations(session, "nothing")
