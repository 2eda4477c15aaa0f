"""Channels last, for convolutions that train faster: where it is done, and that nothing else changes."""

import copy

import pytest
import torch
from families import FAMILIES
from networks import conv_net, images
from torch import nn

from workbench.tuning import finetuning as finetune_module
from workbench.tuning.finetuning import finetune
from workbench.tuning.layout import lay_channels_last, lay_out_like
from workbench.tuning.settings import Tuning

CONVOLUTIONAL = ["vgg-bn", "resnet20", "resnext", "densenet", "inception", "mobilenetv2", "unet", "vit"]
AS_THEY_ARE = ["lenet", "conv1d-audio", "convnet3d", "gpt", "lstm"]


def strides(model):
    return [parameter.stride() for parameter in model.parameters()]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_a_convolutional_network_gives_the_same_in_the_other_layout(name):
    model, inputs = FAMILIES[name].build(), FAMILIES[name].inputs(4)
    other = copy.deepcopy(model)
    assert lay_channels_last(other, inputs)
    assert strides(other) != strides(model)
    with torch.no_grad():
        wanted = model(inputs)
        assert (other(inputs) - wanted).abs().max() < 1e-4 * wanted.abs().max()
    lay_out_like(other, model)
    assert strides(other) == strides(model)
    assert all(torch.equal(*pair) for pair in zip(other.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_without_such_layers_or_with_a_view_after_them_nothing_changes(name):
    model, inputs = FAMILIES[name].build(), FAMILIES[name].inputs(4)
    model.train()
    before = copy.deepcopy(model.state_dict())
    plain = strides(model)
    assert not lay_channels_last(model, inputs)
    assert strides(model) == plain
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_a_view_after_a_convolution_is_why_lenet_stays():
    model = FAMILIES["lenet"].build()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="view size"):
        model(FAMILIES["lenet"].inputs(4))


@pytest.mark.parametrize("first", [torch.contiguous_format, torch.channels_last])
def test_fine_tuning_returns_the_layout_it_was_given(first):
    model = conv_net().to(memory_format=first)
    done = finetune(model, [(images(16), torch.arange(16) % 5)], Tuning(steps=3), score=lambda model: 0.0)
    assert strides(done.model) == strides(model)


class Viewing(nn.Module):
    """A network that flattens by a `view` while it trains, or of a short batch; else by `flatten`."""

    def __init__(self, training=False, short=0):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(2, 11, 3, bias=False), nn.BatchNorm2d(11), nn.ReLU())
        self.head = nn.Linear(11 * 36, 5)
        self.while_training, self.short = training, short

    def forward(self, x):
        x = self.body(x)
        viewing = (self.while_training and self.training) or len(x) < self.short
        return self.head(x.view(len(x), -1) if viewing else x.flatten(1))


@pytest.mark.parametrize("viewing", [{"training": True}, {"short": 7}], ids=["trains", "short"])
@pytest.mark.parametrize("follows", [{}, {"distill": 0.5}], ids=["labels", "distilled"])
def test_a_view_that_only_training_comes_to_puts_the_plain_layout_back(monkeypatch, viewing, follows):
    data = [(images(size, seed=size), torch.arange(size) % 5) for size in (16, 16, 5, 16)]
    tuning = Tuning(steps=4, rate=1e-3, **follows)

    def tuned(**viewing):
        return finetune(Viewing(**viewing), data, tuning, original=Viewing(**viewing))

    assert lay_channels_last(Viewing(**viewing), images(16))
    found = tuned(**viewing)
    monkeypatch.setattr(finetune_module, "lay_channels_last", lambda *given: False)
    plain = tuned()
    assert found.steps == 4
    assert found.model.body[1].num_batches_tracked == 4
    for one, other in zip(found.model.state_dict().values(), plain.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert strides(found.model) == strides(plain.model)


def test_fine_tuning_is_the_same_to_rounding_in_both_layouts(monkeypatch):
    def tuned():
        data = [(images(32), torch.arange(32) % 5)]
        return finetune(conv_net(), data, Tuning(steps=5, distill=0.3), original=conv_net())

    seen = []
    monkeypatch.setattr(
        finetune_module,
        "lay_channels_last",
        lambda *given: seen.append(lay_channels_last(*given)) or seen[-1],
    )
    last = tuned()
    assert seen == [True, True]  # the trained network and the original
    monkeypatch.setattr(finetune_module, "lay_channels_last", lambda *given: False)
    plain = tuned()
    assert [r.loss for r in plain.reports] == pytest.approx([r.loss for r in last.reports], rel=1e-3)
    assert strides(plain.model) == strides(last.model) == strides(conv_net())
