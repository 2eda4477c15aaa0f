"""The passes of a fit: samples, memory, hooks, progress, and what is told where one fails."""

import copy
import threading

import pytest
import torch
from fits import (
    CHANNELS,
    OUTPUTS,
    drifted,
    layers,
    network,
    refitted,
    ridge_solution,
    seen,
    whole_reader,
)
from networks import images, mlp
from torch import nn

from workbench.data.progress import Cancelled
from workbench.fitting.least_squares import fit_original, fit_present, required_bytes
from workbench.fitting.patches import PatchLayer, matrix, pieces
from workbench.fitting.watching import watching
from workbench.measure.passes import ActivationError


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(13)


class Twice(nn.Module):
    """One layer, called twice a pass with different inputs, given by name."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(CHANNELS, OUTPUTS)

    def forward(self, *, left, right):
        return self.shared(left) + self.shared(right).tanh()


def test_every_call_of_a_layer_adds_samples():
    model = Twice().double()
    left, right = torch.randn(2, 17, CHANNELS).double()
    reader, weight = whole_reader(model.shared, "shared"), model.shared.weight.detach()[..., None]
    ridge = torch.full((CHANNELS,), 0.1)
    found = fit_present(
        model, reader, weight, range(7), [0, 4], ridge, [({"left": left, "right": right}, None)]
    )
    both = torch.cat([left, right])
    expected = ridge_solution(both[:, [0, 4]], both @ weight[..., 0].T, ridge[:2].double())
    torch.testing.assert_close(found[..., 0], expected)


def test_a_random_choice_of_samples_comes_close_and_repeats():
    original, pruned = drifted(norm=True)
    x = images(128).double()
    reader = whole_reader(original.writer, "writer")
    weight = reader.group_weight(original.writer.weight)
    order = (original, reader, weight, range(7), [0, 1, 4, 5], torch.full((7,), 1e-3), x)
    whole, part, again = (fit_present(*order, samples=n) for n in (None, 2000, 2000))
    assert torch.equal(part, again)
    assert not torch.equal(part, whole)
    assert float((part - whole).norm()) < 0.1 * float(whole.norm())
    refitted(original, pruned, x, samples=2000)
    with torch.no_grad():
        torch.testing.assert_close(pruned(x), original(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("grid", [(5,), (3, 7), (2, 11, 13), (40, 2, 3)])
@pytest.mark.parametrize("features", [1, 700, 300_000, 2_000_000])
def test_pieces_go_through_every_sample_once(grid, features):
    count = torch.zeros(grid)
    for index in pieces(grid, features):
        count[index] += 1
        assert count[index].numel() * features <= max(1 << 23, features * grid[-1])
    assert bool((count == 1).all())
    picked = torch.arange(0, count.numel(), 2)
    for index in pieces(grid, features, picked):
        count[index] += 1
    assert torch.equal(count.flatten()[::2], torch.full((len(picked),), 2.0))


@layers
def test_samples_picked_are_those_of_the_whole(layer):
    model, x = network(layer)
    found = PatchLayer.of(model, "layer")
    view = found.windows(seen(model, "layer", x)[0])
    grid = tuple(view.shape[: found.grid_axes])
    whole = torch.cat([matrix(view, index, found.grid_axes) for index in pieces(grid, 900)], 1)
    assert whole.dtype == torch.float64
    picked = torch.arange(1, whole.shape[1], 3)
    some = torch.cat([matrix(view, index, found.grid_axes) for index in pieces(grid, 900, picked)], 1)
    torch.testing.assert_close(some, whole[:, 1::3])


def test_a_fit_that_needs_too_much_memory_says_what_to_do():
    model, x = network("conv2d")
    reader = whole_reader(model.layer)
    weight = reader.group_weight(model.layer.weight)
    with pytest.raises(ValueError, match=r"layer layer .* 42 features needs .* GB .*'channel'"):
        fit_present(model, reader, weight, range(7), range(7), torch.zeros(7), x, limit=10_000)
    with pytest.raises(ValueError, match=r"42 features"):
        fit_original(model, model, "layer", torch.arange(OUTPUTS), torch.zeros(7), x, limit=10_000)
    assert required_bytes(25_088, 4096) > 4_000_000_000 > required_bytes(4608, 512)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.ConvTranspose2d(CHANNELS, OUTPUTS, 3, stride=2), "overlap"),
        (nn.ConvTranspose2d(CHANNELS, OUTPUTS, 2, stride=2, padding=1), "overlap"),
        (nn.Conv2d(CHANNELS, CHANNELS, 3, groups=CHANNELS), "groups"),
        (nn.PReLU(CHANNELS), "PReLU"),
    ],
)
def test_layers_that_have_no_patches_are_named(layer, words):
    model = nn.Sequential(layer)
    x = torch.randn(3, CHANNELS, 5, 5)
    with pytest.raises(ValueError, match=rf"layer 0 is a .*{words}.*choose 'channel'"):
        fit_original(model, model, "0", torch.arange(OUTPUTS), torch.zeros(CHANNELS), x)


def counted(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_and_modes_are_as_before_whatever_happens():
    original, pruned = drifted(norm=True)
    original.train()
    state = copy.deepcopy(original.state_dict())
    x = images(31).double()
    how = ("writer", torch.arange(7), torch.zeros(7))
    fit_original(original, pruned, *how, x)
    broken = x.clone()
    broken[20, 0, 0, 0] = float("nan")
    stop = threading.Event()
    for data, kind in (([x, x[:, :1]], ValueError), ([x, broken], ValueError), ([], ValueError)):
        with pytest.raises(kind):
            fit_original(original, pruned, *how, data)
    with pytest.raises(Cancelled, match="after 1 batches"):
        fit_original(original, pruned, *how, [x, x], lambda *_: stop.set(), stop)
    assert counted(original) == counted(pruned) == 0
    assert original.training
    assert original.norm.training
    assert not pruned.training
    assert all(torch.equal(value, state[key]) for key, value in original.state_dict().items())


def test_an_activation_that_is_not_finite_names_batch_and_layer():
    model = mlp(3, 7, 5)
    with torch.no_grad():
        model[0].weight[0] = float("inf")
    reader = whole_reader(model[2], "2")
    order = (model, reader, reader.group_weight(model[2].weight), range(7), [0], torch.zeros(7))
    with pytest.raises(ActivationError, match=r"batch 0 .* layer 2"):
        fit_present(*order, torch.ones(5, 3))


def test_progress_counts_batches_and_examples():
    model = mlp(3, 7, 5)
    reader, told = whole_reader(model[2], "2"), []
    order = (model, reader, reader.group_weight(model[2].weight), range(7), [0, 1], torch.ones(7))
    fit_present(*order, [torch.randn(4, 3), torch.randn(2, 3)], lambda *a: told.append(a))
    assert told == [(1, 2, "refitting 2, 4 examples"), (2, 2, "refitting 2, 6 examples")]


def test_a_pass_ends_once_all_has_been_seen():
    model = mlp(3, 7, 5, 4)
    runs = []
    model[4].register_forward_hook(lambda *_: runs.append(1))
    reader = whole_reader(model[2], "2")
    order = (model, reader, reader.group_weight(model[2].weight), range(7), [0, 1], torch.ones(7))
    fit_present(*order, torch.randn(600, 3))
    fit_original(model, model, "2", torch.arange(5), torch.zeros(7), torch.randn(600, 3))
    assert len(runs) == 5  # two examples went through whole, to see that they may be cut too; no batch did


def test_a_layer_that_never_runs_is_named():
    model = mlp(3, 7, 5)
    model.idle = nn.Linear(3, 4)
    model.forward = lambda x: model[2](model[1](model[0](x)))
    with pytest.raises(ValueError, match="layer idle is not called"):
        fit_original(model, model, "idle", torch.arange(4), torch.zeros(3), torch.randn(5, 3))


def test_numbers_that_do_not_fit_are_told():
    model = mlp(3, 7, 5)
    reader, x = whole_reader(model[2], "2"), torch.randn(5, 3)
    weight = reader.group_weight(model[2].weight)
    with pytest.raises(ValueError, match=r"needs a weight \(outputs, 6, 1\)"):
        fit_present(model, reader, weight, range(6), [0], torch.zeros(6), x)
    with pytest.raises(ValueError, match="7 units"):
        fit_present(model, reader, weight, range(7), [0], torch.zeros(6), x)
    with pytest.raises(ValueError, match="5 outputs now, but 4 rows"):
        fit_original(model, model, "2", torch.arange(4), torch.zeros(7), x)
    with pytest.raises(ValueError, match=r"gives \(5, 5\) in the original and \(2, 5\)"):
        fit_original(mlp(3, 7, 5), _other_grid(), "2", torch.arange(5), torch.zeros(7), x)


def _other_grid() -> nn.Module:
    model = mlp(3, 7, 5)
    model[0].register_forward_hook(lambda _m, _a, out: out[:2])
    return model


def test_a_watch_sees_the_stream_that_a_block_meets():
    original, _ = drifted(norm=True)
    x = images(5).double()
    with watching(original, "writer", outputs=True, additions=True) as watch:
        (call,) = watch.run(x, 0)
    torch.testing.assert_close(call.other, original.stem(x).detach())
    torch.testing.assert_close(
        call.scale, original.norm.weight.detach() / (original.norm.running_var + original.norm.eps).sqrt()
    )
    with watching(original, "stem", outputs=True, additions=True) as watch:
        (call,) = watch.run(x, 0)
    assert call.other is None
