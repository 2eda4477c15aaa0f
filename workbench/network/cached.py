"""Tensors that modules keep beside their parameters and make anew when their mode changes.

A bias of attention that is looked up once in evaluation mode, say: of a network that was pruned it must be
looked up again. A module that keeps such a thing throws it away, or computes it, in its own `train`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def refresh(model: nn.Module) -> None:
    """Let modules that keep tensors of their own, and a `train` of their own, make them anew, in place.

    Every module is in the mode in which it was. One that keeps nothing is not asked: it may merge weights.
    """
    for module in model.modules():
        if type(module).train is nn.Module.train or not _keeps_tensors(module):
            continue
        modes = [(inner, inner.training) for inner in module.modules()]
        for mode in (not module.training, module.training):
            module.train(mode)
        for inner, mode in modes:
            inner.training = mode


def _keeps_tensors(module: nn.Module) -> bool:
    own = ("_parameters", "_buffers", "_modules")
    return any(_holds_tensor(value) for key, value in vars(module).items() if key not in own)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        value = tuple(value.values())
    parts = value if isinstance(value, (list, tuple)) else (value,)
    return any(isinstance(part, Tensor) for part in parts)
