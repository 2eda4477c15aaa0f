"""Trying layers on random numbers: whether two compute the same, and one put in the place of another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.duplicating import duplicate
from workbench.network.training import untouched_randomness

ROUNDING = 1e3  # ε of the type, of the largest number: what two ways to the same may differ by


def has_weights_inside(module: nn.Module) -> bool:
    """Whether a child of the module has parameters."""
    return any(True for child in module.children() for _ in child.parameters())


def in_place_of(old: nn.Module, new: nn.Module) -> nn.Module:
    """`new` with what `old` has beside, for code around that asks for it."""
    for key, value in vars(old).items():
        if key not in vars(new) and not isinstance(value, (Tensor, nn.Module)):
            new.__dict__[key] = value
    return new.train(old.training)


def agree(first: nn.Module, second: nn.Module, probes: list[Tensor]) -> bool:
    """Whether both give the same on every probe, not all zeros, also in training mode."""
    for training, probe in [(mode, probe) for mode in (False, True) for probe in probes]:
        with untouched_randomness():
            ours, theirs = first.train(training)(probe), second.train(training)(probe)
        if not isinstance(ours, Tensor) or ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return False
        largest = float(theirs.abs().max())
        allowed = ROUNDING * torch.finfo(ours.dtype).eps * largest
        if not largest > 0 or float((ours - theirs).abs().max()) > allowed:
            return False
    return True


def with_random_parameters(module: nn.Module) -> Any:
    """A copy with other numbers: those of a network that is not trained may hide what it computes."""
    mixed = duplicate(module).eval()
    for index, parameter in enumerate(mixed.parameters()):
        parameter.data = randomly(tuple(parameter.shape), parameter, index + 11)
    return mixed


def randomly(shape: tuple[int, ...], like: Tensor, seed: int) -> Tensor:
    """Normal numbers of the type and on the device of `like`."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.to(like.device, like.dtype)
