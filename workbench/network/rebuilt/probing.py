"""Trying layers on random numbers: whether two compute the same, and one put in the place of another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import suppress
from itertools import product
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from workbench.network.duplicating import UNCHANGING, duplicate
from workbench.network.training import untouched_randomness

ROUNDING = 1e3  # ε of the type, of the largest number: what two ways to the same may differ by
SCALES = (1.0, 1e-4, 1e4)  # of a probe: what is clamped, or dropped, shows in one of them
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
FEW_DIGITS = (torch.float16, torch.bfloat16)  # ROUNDING would let everything pass

Found = TypeVar("Found")
Known = dict[Any, Any]  # what was found of modules, by how they were looked at and their form


def found_once(known: Known, module: nn.Module, look: Callable[[Any], Found | None]) -> Found | None:
    """What `look` finds of a module by trying it with random parameters, once for all of one form.

    None where it raises: it may not take the numbers that are tried.
    """
    form = _form_of(module)
    key: Any = None if form is None else (look, form)
    if key is None or key not in known:
        found = None
        with suppress(Exception):
            found = look(module)
        if key is None:
            return found
        known[key] = found
    return known[key]


def _form_of(module: nn.Module) -> Hashable | None:
    """All of a module but the numbers in its parameters; None where other things are in it than values."""
    if module._modules or any(buffer is not None for buffer in module._buffers.values()):
        return None
    parts: list[Any] = [type(module)]
    for key, value in vars(module).items():
        if key == "_parameters":
            parts += [(name, _kind_of(parameter)) for name, parameter in value.items()]
        elif isinstance(value, (list, tuple)) and all(type(part) in UNCHANGING for part in value):
            parts.append((key, type(value), *((type(part), part) for part in value)))
        elif type(value) in UNCHANGING:
            parts.append((key, type(value), value))
        elif value or not isinstance(value, (dict, set)):
            return None
    return tuple(parts)


def _kind_of(parameter: nn.Parameter | None) -> Hashable:
    return parameter is not None and (type(parameter), parameter.shape, parameter.dtype, parameter.device)


def has_weights_inside(module: nn.Module) -> bool:
    """Whether a child of the module has parameters."""
    return any(True for child in module.children() for _ in child.parameters())


def is_wrapped(module: nn.Module) -> bool:
    """Whether hooks or a forward of its own see a module's calls: they would see another module's."""
    return "forward" in vars(module) or any(getattr(module, hooks) for hooks in HOOKS)


def in_place_of(old: nn.Module, new: nn.Module) -> nn.Module:
    """`new` with what `old` has beside, for code around that asks for it."""
    for key, value in vars(old).items():
        if key not in vars(new) and not isinstance(value, (Tensor, nn.Module)):
            new.__dict__[key] = value
    return new.train(old.training)


@torch.no_grad()
def agree(first: nn.Module, second: nn.Module, probes: list[Tensor], beside: Sequence[Tensor] = ()) -> bool:
    """Whether both give the same on every probe, small and large, not all zeros, also in training mode.

    Every two of a probe, a scale and a mode are tried together. Both are for trials alone, and are given
    `beside` behind every probe. Vectors that both have, biases, are scaled with the probes, so that they hide
    nothing.
    """
    shared = {id(parameter) for parameter in first.parameters()}
    vectors, before = [p for p in second.parameters() if p.dim() == 1 and id(p) in shared], 1.0
    for turn, scale in enumerate(SCALES):
        for vector in vectors:
            vector.mul_(scale / before)
        before = scale
        for training, (at, probe) in product((False, True), enumerate(probes)):
            if len(probes) > 1 and (turn + at) % 2 != training:
                continue
            with untouched_randomness():
                ours, theirs = (one.train(training)(scale * probe, *beside) for one in (first, second))
            if not isinstance(ours, Tensor) or not _are_close(ours, theirs):
                return False
    return True


def _are_close(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two results are the same up to rounding, and not all zeros."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    largest = float(theirs.abs().max())
    allowed = ROUNDING * torch.finfo(ours.dtype).eps * largest
    return largest > 0 and float((ours - theirs).abs().max()) <= allowed


@torch.no_grad()
def can_stand_for(old: nn.Module, new: nn.Module, asked: Collection[str], probe: tuple[Tensor, ...]) -> bool:
    """Whether `new` has what code around asks of `old`, and gives numbers of the same type.

    `asked`: the names that the code mentions, of attributes and of classes.
    """
    if any(hasattr(old, name) and not hasattr(new, name) for name in asked):
        return False
    others = {kind.__name__ for kind in type(old).__mro__ if kind not in type(new).__mro__}
    if others & set(asked):
        return False
    kind = next(old.parameters()).dtype
    given = [t.to(kind) if t.is_floating_point() else t for t in probe]
    with untouched_randomness():
        return duplicate(old).eval()(*given).dtype == duplicate(new).eval()(*given).dtype


def with_random_parameters(module: nn.Module) -> Any:
    """A copy with other numbers: those of a network that is not trained may hide what it computes.

    In float32 where the module has fewer digits.
    """
    mixed = duplicate(module).eval()
    if any(parameter.dtype in FEW_DIGITS for parameter in mixed.parameters()):
        mixed = mixed.float()
    for index, parameter in enumerate(mixed.parameters()):
        parameter.data = randomly(tuple(parameter.shape), parameter, index + 11)
    return mixed


def randomly(shape: tuple[int, ...], like: Tensor, seed: int) -> Tensor:
    """Normal numbers of the type and on the device of `like`."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.to(like.device, like.dtype)
