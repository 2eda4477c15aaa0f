"""Training mode, looked at without leaving a mark: a copy of the network in it, random numbers kept."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from workbench.network.copying import copied

RESTING = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
)
"""Layers that training mode makes random or dependent on the batch, and nothing else."""


def training_at_rest(model: nn.Module) -> nn.Module:
    """A copy of `model` in training mode, but for norms and dropout: only what else it does differs."""
    copy = copied(model).train()
    for module in copy.modules():
        if isinstance(module, RESTING):
            module.training = False
    return copy


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
