"""Refitting on patches: against plain least squares in float64, and what must come back unchanged."""

import copy
import threading

import pytest
import torch
from networks import conv_net, images, mlp
from torch import nn
from torch.nn import functional

from workbench.data.progress import Cancelled
from workbench.fitting.least_squares import fit_original, fit_present, required_bytes
from workbench.fitting.patches import PatchLayer, matrix, pieces
from workbench.fitting.watching import watching
from workbench.measure.passes import ActivationError
from workbench.network.groups import Reader
from workbench.network.layers import kind_of, layer_weight, set_layer_weight
from workbench.spectral.moment import Moment
from workbench.spectral.reconstruction import fold, reconstruction_matrix

CHANNELS, OUTPUTS = 7, 5
LAYERS = {
    "linear": (lambda i, o: nn.Linear(i, o), (CHANNELS,)),
    "sequence": (lambda i, o: nn.Linear(i, o), (3, CHANNELS)),
    "conv1d": (lambda i, o: nn.Conv1d(i, o, 3, stride=2, padding=1), (CHANNELS, 11)),
    "conv1d-same": (lambda i, o: nn.Conv1d(i, o, 4, padding="same"), (CHANNELS, 11)),
    "conv2d": (lambda i, o: nn.Conv2d(i, o, (3, 2), stride=(2, 1), padding=(1, 2)), (CHANNELS, 7, 5)),
    "conv2d-dilated": (lambda i, o: nn.Conv2d(i, o, 3, dilation=(2, 1), padding=2), (CHANNELS, 7, 5)),
    "conv2d-reflect": (lambda i, o: nn.Conv2d(i, o, 3, padding=1, padding_mode="reflect"), (CHANNELS, 5, 5)),
    "conv2d-circular": (
        lambda i, o: nn.Conv2d(i, o, 3, padding="same", padding_mode="circular", dilation=(1, 2)),
        (CHANNELS, 5, 6),
    ),
    "conv3d": (lambda i, o: nn.Conv3d(i, o, (1, 2, 3), padding=(0, 1, 0)), (CHANNELS, 3, 2, 5)),
    "upward1d": (lambda i, o: nn.ConvTranspose1d(i, o, 3, stride=3), (CHANNELS, 5)),
    "upward2d": (lambda i, o: nn.ConvTranspose2d(i, o, 2, stride=2), (CHANNELS, 3, 5)),
    "upward2d-uneven": (lambda i, o: nn.ConvTranspose2d(i, o, (2, 3), stride=(2, 3)), (CHANNELS, 3, 2)),
}
layers = pytest.mark.parametrize("layer", LAYERS)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(13)


class Front(nn.Module):
    """Inputs that are neither centred nor uncorrelated, then the layer under test as `layer`."""

    def __init__(self, layer: nn.Module, seed: int = 0, keep: torch.Tensor | None = None, axis: int = -1):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        mix = torch.eye(CHANNELS) + 0.3 * torch.randn(CHANNELS, CHANNELS, generator=generator)
        self.register_buffer("mix", mix.double())
        self.layer, self.keep, self.axis = layer, keep, axis

    def forward(self, x):
        x = (x.movedim(self.axis, -1) @ self.mix + 0.3).movedim(-1, self.axis)
        return self.layer(x if self.keep is None else x.index_select(self.axis, self.keep))


def network(name: str, outputs: int = OUTPUTS, keep=None, seed: int = 0) -> tuple[Front, torch.Tensor]:
    make, shape = LAYERS[name]
    inputs = CHANNELS if keep is None else len(keep)
    layer = make(inputs, outputs).double()
    axis = -1 if isinstance(layer, nn.Linear) else 1
    return Front(layer, seed, keep, axis).eval(), torch.randn(61, *shape, dtype=torch.float64)


def seen(model: nn.Module, name: str, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a layer receives and gives."""
    found = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda _m, args, out: found.extend((args[0], out))
    )
    with torch.no_grad():
        model(x)
    handle.remove()
    return found[0].detach(), found[1].detach()


def patches(layer: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """(samples, features): the layer itself with the identity as its weight picks its patches."""
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return inputs.movedim(1, -1).reshape(-1, inputs.shape[1])
    picker = copy.deepcopy(layer)
    weight = layer_weight(layer)
    features = weight[0].numel()
    picker.weight = nn.Parameter(torch.eye(features, dtype=weight.dtype).reshape(features, *weight.shape[1:]))
    picker.bias, picker.out_channels = None, features
    out = picker(inputs).detach()
    return out.reshape(-1, features) if isinstance(layer, nn.Linear) else out.movedim(1, -1).flatten(0, -2)


def targets(layer: nn.Module, outputs: torch.Tensor) -> torch.Tensor:
    """(samples, outputs, block) of a layer's output."""
    if isinstance(layer, nn.Linear):
        return outputs.reshape(-1, outputs.shape[-1], 1)
    if isinstance(layer, nn.ConvTranspose1d):
        blocks = outputs.unfold(2, layer.kernel_size[0], layer.stride[0])
    elif isinstance(layer, nn.ConvTranspose2d):
        (a, b), (c, d) = layer.kernel_size, layer.stride
        blocks = outputs.unfold(2, a, c).unfold(3, b, d).flatten(4)
    else:
        blocks = outputs[..., None]
    return blocks.movedim(1, -2).flatten(0, -3)


def ridge_solution(x: torch.Tensor, y: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
    """argmin E|y − Vx|² + Σ τ|V|², (outputs, features), without a Gram matrix."""
    n = len(x) ** 0.5
    above = torch.cat([x / n, torch.diag(tau.sqrt())])
    below = torch.cat([y / n, y.new_zeros(len(tau), y.shape[1])])
    return torch.linalg.lstsq(above, below, driver="gelsd").solution.T


def whole_reader(layer: nn.Module, name: str = "layer", positions: int = 1) -> Reader:
    inputs = layer_weight(layer).shape[1]
    return Reader(name, kind_of(layer), torch.arange(inputs).reshape(-1, positions))


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


class Stream(nn.Module):
    """A residual stream: `writer` adds to what `stem` wrote, behind a norm or not."""

    def __init__(self, norm: bool, in_place: bool):
        super().__init__()
        self.stem = nn.Conv2d(2, CHANNELS, 1)
        self.writer = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.norm = nn.BatchNorm2d(CHANNELS) if norm else nn.Identity()
        self.in_place = in_place

    def forward(self, x):
        stream = self.stem(x)
        change = functional.dropout(self.norm(self.writer(stream)), training=self.training)
        if self.in_place:
            stream += change
            return stream
        return change + stream


def drifted(norm: bool, in_place: bool = False) -> tuple[Stream, Stream]:
    """A network, and one whose stream has moved linearly, so that a writer can make up for all of it."""
    original = Stream(norm, in_place).double().eval()
    if norm:
        nn.init.uniform_(original.norm.running_var, 0.5, 2)
        nn.init.uniform_(original.norm.weight, -2, -0.5)
        nn.init.uniform_(original.norm.running_mean, -1, 1)
    pruned = copy.deepcopy(original)
    with torch.no_grad():
        mix = torch.eye(CHANNELS).double() + 0.2 * torch.randn(CHANNELS, CHANNELS).double()
        pruned.stem.weight.copy_(torch.einsum("ij,jckl->ickl", mix, original.stem.weight))
        pruned.stem.bias.copy_(mix @ original.stem.bias)
    return original, pruned


def refitted(original, pruned, x, **how) -> nn.Module:
    weight, bias = fit_original(
        original, pruned, "writer", torch.arange(CHANNELS), torch.zeros(CHANNELS), x, **how
    )
    set_layer_weight(pruned.writer, weight)
    pruned.writer.bias = nn.Parameter(bias)
    return pruned


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_a_drifted_stream_is_brought_back(norm, in_place):
    original, pruned = drifted(norm, in_place)
    x = images(31).double()
    without = refitted(original, copy.deepcopy(pruned), x, drift=False)
    refitted(original, pruned, x)
    with torch.no_grad():
        assert float((without(x) - original(x)).norm()) > 0.1 * float(original(x).norm())
        torch.testing.assert_close(pruned(x), original(x), rtol=1e-6, atol=1e-6)


def test_a_channel_that_its_norm_silences_does_not_follow_the_drift():
    original, pruned = drifted(norm=True)
    with torch.no_grad():
        original.norm.weight[3] = pruned.norm.weight[3] = 1e-9
    x = images(31).double()
    refitted(original, pruned, x)
    others = [0, 1, 2, 4, 5, 6]
    with torch.no_grad():
        torch.testing.assert_close(pruned(x)[:, others], original(x)[:, others], rtol=1e-6, atol=1e-6)
    assert float(pruned.writer.weight[3].detach().abs().max()) < 100


class Crossing(nn.Module):
    """Additions that `first` must not make up for: one comes behind a ReLU, one adds its own consequence."""

    def __init__(self, way: str):
        super().__init__()
        self.first, self.second, self.way = nn.Linear(CHANNELS, OUTPUTS), nn.Linear(OUTPUTS, OUTPUTS), way

    def forward(self, x):
        y = self.first(x)
        if self.way == "consequence":
            return y + self.second(torch.relu(y))
        if self.way == "written over":
            return torch.relu_(y) + x[:, :OUTPUTS]
        if self.way == "scaled":
            return torch.add(x[:, :OUTPUTS], y, alpha=2)
        return y + x[:, :1]  # broadcast


@pytest.mark.parametrize("way", ["consequence", "written over", "scaled", "broadcast"])
def test_only_a_plain_sum_with_something_else_counts_as_a_stream(way):
    original, pruned = Crossing(way).double(), Crossing(way).double()
    x = torch.randn(61, CHANNELS).double()
    rows, ridge = torch.arange(OUTPUTS), torch.zeros(CHANNELS)
    weight, bias = fit_original(original, pruned, "first", rows, ridge, x)
    torch.testing.assert_close(weight, original.first.weight.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(bias, original.first.bias.detach(), rtol=0, atol=1e-9)


def test_a_narrower_stream_is_compared_channel_by_channel():
    original, pruned = drifted(norm=True)
    rows = torch.tensor([0, 2, 5])
    narrow = copy.deepcopy(pruned)
    narrow.stem = nn.Conv2d(2, 3, 1).double()
    narrow.writer = nn.Conv2d(3, 3, 3, padding=1).double()
    narrow.norm = nn.BatchNorm2d(3).double().eval()
    with torch.no_grad():
        narrow.stem.weight.copy_(pruned.stem.weight[rows])
        narrow.stem.bias.copy_(pruned.stem.bias[rows])
        narrow.norm.load_state_dict(
            {key: value[rows] if value.dim() else value for key, value in pruned.norm.state_dict().items()}
        )
    x = images(31).double()

    def error(drift):
        weight, bias = fit_original(original, narrow, "writer", rows, torch.zeros(3), x, drift=drift)
        set_layer_weight(narrow.writer, weight)
        narrow.writer.bias = nn.Parameter(bias)
        with torch.no_grad():
            return float((narrow(x) - original(x)[:, rows]).norm())

    assert error(drift=True) < 0.9 * error(drift=False)


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
