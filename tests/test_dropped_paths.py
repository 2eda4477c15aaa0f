"""Layers of known libraries that drop whole examples rest in training mode, as dropout does; no others do."""

import torch
from torch import nn
from transformers.models.swin.modeling_swin import SwinDropPath

from workbench.network.finding.training_proof import training_trials
from workbench.network.training import training_at_rest


class DropPath(nn.Module):
    """The user's own, of whose training nothing is known."""

    def forward(self, x):
        return x * (torch.rand(len(x), 1) > 0.5) if self.training else x


def network(layer):
    return nn.Sequential(nn.Linear(4, 6), layer, nn.Linear(6, 3)).eval()


def test_a_librarys_dropped_paths_leave_nothing_for_training_mode_to_show():
    model, x = network(SwinDropPath(0.5)), torch.randn(64, 4)
    with torch.no_grad():
        torch.testing.assert_close(training_at_rest(model)(x), model(x), rtol=0, atol=0)
        assert not torch.equal(model.train()(x), model.eval()(x))
    assert training_trials(model, x) is None


def test_a_layer_of_the_users_own_is_tried_in_training_mode_whatever_its_name():
    trials = training_trials(network(DropPath()), torch.randn(64, 4))
    assert trials is not None
    assert trials.random
