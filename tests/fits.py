"""Layers to be fitted, what they see, and plain least squares beside them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from workbench.fitting.least_squares import fit_original
from workbench.network.groups import Reader
from workbench.network.layers import kind_of, layer_weight, set_layer_weight

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
