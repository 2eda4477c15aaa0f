"""Training mode, looked at without leaving a mark: a copy of the network in it, random numbers kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from workbench.network.copying import copied

RESTING = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
)
"""Layers that training mode makes random or dependent on the batch, and nothing else."""

DROPPED_PATHS = {"torchvision": "StochasticDepth", "timm": "DropPath", "transformers": "DropPath"}
"""By the library, how the names of layers end that drop whole examples in training, and do nothing else."""

DROPOUTS = (
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
    functional.multi_head_attention_forward,
)
ATTENTION = functional.scaled_dot_product_attention


class DropoutAtRest(TorchFunctionMode):
    """Within: dropout that code calls as a function, also that of attention, lets everything pass."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in DROPOUTS and "training" in kwargs:
            kwargs["training"] = False
        elif func is ATTENTION and len(args) > 4:
            args = (*args[:4], 0.0, *args[5:])
        elif func is ATTENTION:
            kwargs["dropout_p"] = 0.0
        return func(*args, **kwargs)


def training_at_rest(model: nn.Module) -> nn.Module:
    """A copy of `model` in training mode, but for norms and dropout: only what else it does differs.

    What it writes into its parameters, averages of weights say, are its own: memory is copied when written.
    """
    memo = {
        id(parameter): nn.Parameter(copied_when_written(parameter.detach()), parameter.requires_grad)
        for parameter in model.parameters()
        if type(parameter) is nn.Parameter
    }
    copy = copied(model, memo).train()
    for module in copy.modules():
        if isinstance(module, RESTING) or _drops_paths(module):
            module.training = False
    return copy


def _drops_paths(module: nn.Module) -> bool:
    kind = type(module)
    ending = DROPPED_PATHS.get(kind.__module__.partition(".")[0])
    return ending is not None and kind.__name__.endswith(ending)


def copied_when_written(tensor: Tensor) -> Tensor:
    """A copy that lies in the same memory until either of both is written to, where torch can do that."""
    lazy: Callable[[Tensor], Tensor] = getattr(torch, "_lazy_clone", torch.clone)
    return lazy(tensor) if tensor.device.type == "cpu" else tensor.clone()


def seed(number: int) -> None:
    """Seed what draws random numbers now; `torch.manual_seed` also notes it for devices nobody has."""
    if torch.accelerator.is_available():
        torch.manual_seed(number)
    else:
        torch.default_generator.manual_seed(number)


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Within: random numbers may be drawn; afterwards every global generator is where it was."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
