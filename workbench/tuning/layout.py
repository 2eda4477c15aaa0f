"""Weights laid out for convolutions that train faster on a CPU: channels last."""

from __future__ import annotations

import torch
from torch import nn

from workbench.network.running import Inputs, call, evaluating


def lay_channels_last(model: nn.Module, inputs: Inputs) -> bool:
    """Lay out the weights of two-dimensional convolutions channels last, and say whether that was done.

    The numbers stay the same to rounding; what follows a convolution takes over its layout. Nothing changes
    on another device than a CPU, without such layers, and where the model does not run on `inputs` that way:
    a `view` after a convolution may need the plain layout. One forward pass tells.
    """
    weights = _weights(model)
    if not weights or any(weight.device.type != "cpu" for weight in weights):
        return False
    plain = [weight.data for weight in weights]
    for weight in weights:
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    try:
        with evaluating(model), torch.no_grad():
            call(model, inputs)
    except Exception:
        for weight, before in zip(weights, plain, strict=True):
            weight.data = before
        return False
    return True


def lay_plain(model: nn.Module) -> None:
    """Lay out the weights of two-dimensional convolutions as torch does by itself."""
    for weight in _weights(model):
        weight.data = weight.data.contiguous()


def _weights(model: nn.Module) -> list[nn.Parameter]:
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    return [p for m in layers if isinstance(p := m._parameters.get("weight"), nn.Parameter)]


def lay_out_like(model: nn.Module, like: nn.Module) -> None:
    """Give every parameter of `model` the layout that it has in `like`, of the same architecture."""
    for parameter, other in zip(model.parameters(), like.parameters(), strict=True):
        if parameter.stride() != other.stride():
            parameter.data = torch.empty_like(other).copy_(parameter.data)
