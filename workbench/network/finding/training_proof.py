"""Proof of what training mode alone does: a network without some units runs as if they were silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from workbench.network.copying import copied
from workbench.network.groups import UnitGroup
from workbench.network.layers import is_linear_layer, layer_weight
from workbench.network.running import Inputs, call, one_line, tensors_of
from workbench.network.surgery import remove_units
from workbench.network.training import training_at_rest, untouched_randomness

TOLERANCE = 1e-5


def proved_in_training(
    groups: Sequence[UnitGroup], model: nn.Module, example: Inputs
) -> tuple[UnitGroup, ...]:
    """The groups, those refused whose removal training mode cannot stand.

    `model` is in evaluation mode. Nothing is done where training mode, norms and dropout at rest, gives the
    same outputs, is random, or does not run on inputs alone.
    """
    prunable = [group for group in groups if group.prunable]
    if not prunable:
        return tuple(groups)
    with torch.no_grad(), untouched_randomness():
        trained = training_at_rest(model)
        try:
            first = _outputs(trained, example)
            same = _alike(first, _outputs(model, example))
            if same or not _alike(first, _outputs(trained, example, seed=1)):
                return tuple(groups)
        except Exception:
            return tuple(groups)
        reasons: dict[str, str] = {}
        if _failure(prunable, groups, trained, example):
            passed: list[UnitGroup] = []
            for group in prunable:
                reason = _failure([*passed, group], groups, trained, example)
                if reason:
                    reasons[group.name] = reason
                else:
                    passed.append(group)
    return tuple(
        replace(group, prunable=False, why_not=reasons[group.name]) if group.name in reasons else group
        for group in groups
    )


def _failure(chosen: list[UnitGroup], groups: Sequence[UnitGroup], model: nn.Module, example: Inputs) -> str:
    """Why every second unit of the `chosen` groups cannot go in training mode, '' where it can."""
    pruned, left, silenced = model, tuple(groups), copied(model)
    for group in chosen:
        kept = range(0, group.width, 2)
        for layer, columns in _read(group, silenced):
            layer_weight(layer)[:, columns[1::2].flatten()] = 0  # nothing of the lost units arrives
        pruned, left = remove_units(pruned, left, group.name, list(kept))
    try:
        found = _outputs(pruned, example)
    except Exception as error:
        return f"removing its units breaks the network in training mode: {one_line(error)}"
    if not _alike(found, _outputs(silenced, example)):
        return "removing its units is not the same as silencing them in training mode"
    return ""


def _read(group: UnitGroup, model: nn.Module) -> list[tuple[nn.Module, Tensor]]:
    """Layers that read the group's units, in training mode alone too, with the columns of each unit."""
    readers = [(model.get_submodule(reader.module), reader.columns) for reader in group.readers]
    held = [(model.get_submodule(part.module), part.indices) for part in group.held]
    return readers + [(layer, columns) for layer, columns in held if is_linear_layer(layer)]


def _outputs(model: nn.Module, example: Inputs, seed: int = 0) -> list[Tensor]:
    torch.manual_seed(seed)
    return tensors_of(call(model, example))


def _alike(first: list[Tensor], second: list[Tensor]) -> bool:
    """Whether outputs agree; single numbers, penalties on the weights mostly, are passed over."""
    return len(first) == len(second) and all(
        a.shape == b.shape and (not a.dim() or _close(a.detach(), b.detach()))
        for a, b in zip(first, second, strict=True)
    )


def _close(a: Tensor, b: Tensor) -> bool:
    if a.is_complex() or b.is_complex():
        a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
    a, b = a.double(), b.double()
    return torch.allclose(a, b, TOLERANCE, TOLERANCE * _size(b), equal_nan=True)


def _size(tensor: Tensor) -> float:
    finite = tensor[tensor.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0
