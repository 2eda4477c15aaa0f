"""Batch norms re-estimated on calibration data, in batches of any size."""

import copy

import numpy as np
import pytest
import torch
from networks import conv_net, images, mlp
from torch import nn

from workbench.fitting.norms import reestimate_norms
from workbench.network.running import joined


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(13)


def test_norms_get_the_statistics_of_all_examples():
    model = conv_net()
    x = images(31, seed=3) * 2 + 1
    before = copy.deepcopy(model)
    found = reestimate_norms(model, [x[:17], x[17:]])
    expected = copy.deepcopy(model)
    expected.drop.p = 0.0
    expected.train()
    with torch.no_grad():
        for batch, share in ((x[:17], 1.0), (x[17:], 14 / 31)):  # every example counts the same
            for norm in (expected.bn1, expected.bn2):
                norm.momentum = share
            expected(batch)
    for norm in (expected.bn1, expected.bn2):
        norm.num_batches_tracked.fill_(2)
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], value)
    assert not torch.equal(found.bn1.running_mean, model.bn1.running_mean)
    assert found.bn1.momentum == model.bn1.momentum == 0.1
    assert not any(module.training for module in found.modules())
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.state_dict().items())


def samples_of(model, x):
    """What the norm receives in all its calls, (channels, samples)."""
    received = []
    handle = model.norm.register_forward_pre_hook(
        lambda _m, args: received.append(args[0].detach().transpose(0, 1).flatten(1).double())
    )
    with torch.no_grad():
        model(x)
    handle.remove()
    return torch.cat(received, 1).numpy()


class Repeated(nn.Module):
    """One norm, called several times a pass on inputs of other distributions and sizes."""

    def __init__(self, scales, pooled=(), dims=2):
        super().__init__()
        self.conv = (nn.Conv2d if dims == 2 else nn.Conv1d)(2, 3, 1)
        self.norm = (nn.BatchNorm2d if dims == 2 else nn.BatchNorm1d)(3)
        self.scales, self.pooled = scales, pooled

    def forward(self, x):
        outputs = []
        for index, scale in enumerate(self.scales):
            one = x[..., ::2] if index in self.pooled else x
            outputs.append(self.norm(self.conv(one * scale + index)).flatten(2).mean(2))
        return sum(outputs)


REPEATED = {
    "twice": Repeated((1.0, 4.0)),
    "three times": Repeated((1.0, -2.0, 0.5)),
    "at two sizes": Repeated((1.0, 3.0), pooled=(1,)),
    "the smaller first": Repeated((1.0, 3.0, 2.0), pooled=(0,)),
    "one axis": Repeated((1.0, 4.0), dims=1),
    "once": Repeated((1.0,)),
}


@pytest.mark.parametrize("kind", REPEATED)
def test_a_norm_called_several_times_has_the_statistics_of_all_it_receives(kind):
    model = REPEATED[kind]
    x = torch.randn(24, 2, 6, 8) if kind != "one axis" else torch.randn(24, 2, 8)
    samples = samples_of(model, x)
    found = reestimate_norms(model, x).norm
    np.testing.assert_allclose(found.running_mean, samples.mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.running_var, samples.var(1, ddof=1), rtol=1e-5)
    assert found.momentum == model.norm.momentum == 0.1
    assert not found._forward_hooks
    # In two batches: every example counts the same, variances are those within a batch.
    halves = [samples_of(model, x[:16]), samples_of(model, x[16:])]
    found = reestimate_norms(model, [x[:16], x[16:]]).norm
    mean = sum(share * half.mean(1) for share, half in zip((2 / 3, 1 / 3), halves, strict=True))
    variance = sum(share * half.var(1, ddof=1) for share, half in zip((2 / 3, 1 / 3), halves, strict=True))
    np.testing.assert_allclose(found.running_mean, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.running_var, variance, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("kind", ["tensor", "dictionary"])
def test_norms_see_small_batches_together(size, kind):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = conv_net()

        def forward(self, pixels):
            return self.net(pixels)

    model = Named()
    x = images(32, seed=3) * 2 + torch.arange(32)[:, None, None, None] / 8
    parts = list(x.split(size))
    whole = [x[:16], x[16:]] if 16 % size == 0 else [x[:18], x[18:]]
    if kind == "dictionary":
        parts, whole = ([{"pixels": part} for part in some] for some in (parts, whole))
    else:
        model = model.net
    one, other = (reestimate_norms(model, data).state_dict() for data in (parts, whole))
    for key, value in one.items():
        torch.testing.assert_close(value, other[key])


def test_norms_take_single_examples_of_several_shapes_one_by_one():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    data = [images(1, 1, size, seed=size) for size in (5, 6, 7)]
    found = reestimate_norms(model, data)
    assert int(found[1].num_batches_tracked) == 3
    expected = torch.stack([model[0](one).var((0, 2, 3)) for one in data]).mean(0)
    torch.testing.assert_close(found[1].running_var, expected.detach())


def test_norms_lose_no_example_among_shapes_that_do_not_go_together():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    data = [images(1, 1, 8, seed=k) for k in range(16)] + [images(1, 1, 5 + k % 2, seed=k) for k in range(8)]
    found = reestimate_norms(model, data)
    assert int(found[1].num_batches_tracked) == 1 + 8
    rows = [model[0](one).mean((0, 2, 3)) for one in data]
    torch.testing.assert_close(found[1].running_mean, torch.stack(rows).mean(0).detach())


def test_norms_do_not_mind_a_loader_that_fills_the_same_tensor_again():
    class Reusing:
        def __init__(self, whole):
            self.whole, self.buffer = whole, torch.empty_like(whole[:4])

        def __iter__(self):
            for part in self.whole.split(4):
                yield self.buffer.copy_(part)

    x = images(32) + torch.arange(32)[:, None, None, None]
    model = conv_net()
    one, other = (reestimate_norms(model, data).state_dict() for data in (Reusing(x), [x[:16], x[16:]]))
    for key, value in one.items():
        torch.testing.assert_close(value, other[key])


def test_batches_go_together_only_where_nothing_else_differs():
    a, b = torch.zeros(2, 3), torch.ones(4, 3)
    whole = joined([{"x": a, "n": 2}, {"x": b, "n": 2}])
    assert torch.equal(whole["x"], torch.cat([a, b]))
    assert whole["n"] == 2
    assert joined([(a, [a]), (b, [b])])[1][0].shape == (6, 3)
    assert joined([{"x": a, "n": 2}, {"x": b, "n": 4}]) is None
    assert joined([{"x": a}, {"y": b}]) is None
    assert joined([a, b[:, :2]]) is None
    assert joined([a, b.double()]) is None
    assert joined([(a, torch.zeros(())), (b, torch.zeros(()))]) is None
    assert joined([(a, torch.zeros(7)), (b, torch.zeros(7))]) is None


def test_norms_that_are_absent_or_idle_stay():
    plain = mlp(3, 7, 5)
    again = reestimate_norms(plain, torch.randn(5, 3))
    assert again is not plain
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in plain.state_dict().items())
    model = conv_net()
    model.idle = nn.BatchNorm1d(3)
    nn.init.ones_(model.idle.running_mean)
    assert torch.equal(reestimate_norms(model, images(5)).idle.running_mean, torch.ones(3))


class Frozen(nn.BatchNorm1d):
    """Keeps its statistics whatever mode is asked for."""

    def train(self, mode=True):
        return super().train(False)


class Fixed(nn.BatchNorm1d):
    """Uses its statistics in training too."""

    def forward(self, x):
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


class FrozenByNetwork(nn.Sequential):
    """Puts its first norm into evaluation mode in every pass."""

    def forward(self, x):
        self[0].eval()
        return super().forward(x)


@pytest.mark.parametrize("kind", ["its train", "its forward", "the network"])
def test_a_frozen_norm_keeps_its_statistics_and_the_next_one_sees_what_it_gives(kind):
    norm = {"its train": Frozen, "its forward": Fixed}.get(kind, nn.BatchNorm1d)(4)
    with torch.no_grad():
        norm.running_mean.copy_(torch.arange(4) + 1.0)
        norm.running_var.copy_(torch.arange(4) + 0.5)
    model = (FrozenByNetwork if kind == "the network" else nn.Sequential)(norm, nn.BatchNorm1d(4))
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(3)) * 3 + 5
    again = reestimate_norms(model, [(x[:20], None), (x[20:], None)])
    for name, before in norm.state_dict().items():
        torch.testing.assert_close(again[0].state_dict()[name], before)
    between = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(again[1].running_mean, between.mean(0))
    assert not torch.equal(again[1].running_var, torch.ones(4))


def test_a_norm_whose_statistics_were_lost_gets_new_ones():
    model = nn.Sequential(nn.BatchNorm1d(4))
    model[0].running_mean.fill_(torch.nan)
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(3))
    again = reestimate_norms(model, x)
    torch.testing.assert_close(again[0].running_mean, x.mean(0))
    torch.testing.assert_close(again[0].running_var, x.var(0))
