"""Layer kinds: what the workbench knows of a module's weight, its axes, and its numbers of channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# One number (or four) a channel and nothing across channels: rows go as a writer's do.
PER_CHANNEL = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.PReLU)
SPATIAL = {"Linear": 0, "Conv1D": 0} | {
    name: dims for dims in (1, 2, 3) for name in (f"Conv{dims}d", f"ConvTranspose{dims}d")
}
"""Reader kinds, with the number of spatial axes behind the channel axis."""

INPUTS = ("in_features", "in_channels", "nx")
OUTPUTS = (
    "out_features",
    "out_channels",
    "nf",
    "embedding_dim",
    "num_features",
    "num_parameters",
    "num_channels",
)


def is_conv1d_of_transformers(module: nn.Module) -> bool:
    """GPT-2's `Conv1D`: a linear layer whose weight is (inputs, outputs)."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf") and hasattr(module, "weight")


def kind_of(module: nn.Module) -> str:
    """The kind under which the workbench knows a module: 'Linear' for subclasses of it too."""
    for kind in (*CONVOLUTIONS, *TRANSPOSED, nn.Linear, nn.Embedding):
        if isinstance(module, kind):
            return kind.__name__
    return type(module).__name__


def is_linear_layer(module: nn.Module) -> bool:
    """A layer that multiplies by a weight: Linear, convolutions and their transposes."""
    return isinstance(module, (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)) or is_conv1d_of_transformers(module)


def is_flipped(module: nn.Module) -> bool:
    """The weight's first axis is the inputs'."""
    return isinstance(module, (*TRANSPOSED, nn.Embedding)) or is_conv1d_of_transformers(module)


def layer_weight(module: nn.Module) -> Tensor:
    """The weight as (outputs, inputs, *kernel), whatever the layer's own order of axes."""
    weight: Any = module.weight
    return weight.transpose(0, 1) if is_flipped(module) else weight


@torch.no_grad()
def set_layer_weight(module: nn.Module, weight: Tensor) -> None:
    """Replace the weight by one given as (outputs, inputs, *kernel); channel numbers are left as they are."""
    old: Any = module.weight
    own = weight.transpose(0, 1) if is_flipped(module) else weight
    module.weight = nn.Parameter(
        own.detach().to(old.device, old.dtype).contiguous(), requires_grad=old.requires_grad
    )


def linear_around(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    """A Linear with these parameters, (outputs, inputs) and (outputs,), and no copies of them."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = weight
    if bias is not None:
        layer.bias = bias
    return layer


def set_count(module: nn.Module, names: tuple[str, ...], count: int) -> None:
    """Write a number of channels into the first of the attributes `names` that the module has."""
    name = _first_of(module, names)
    if name is not None:
        setattr(module, name, count)


def _first_of(module: nn.Module, names: tuple[str, ...]) -> str | None:
    """The first of the names that the module has; asking it for one that it lacks takes it long."""
    own, kind = vars(module), type(module)
    quick = next((name for name in names if name in own or hasattr(kind, name)), None)
    return quick or next((name for name in names if hasattr(module, name)), None)


def output_count(module: nn.Module) -> int:
    """Output rows of a layer, channels of a norm."""
    count: int = getattr(module, _first_of(module, OUTPUTS) or OUTPUTS[0])
    return count


def width_of(module: nn.Module) -> int:
    """Output channels or features of a module, 0 where it has no such number."""
    names = (*OUTPUTS, "hidden_size", "embed_dim")
    return next((n for a in names if isinstance(n := getattr(module, a, None), int)), 0)
