"""Surgery: a choice of kept units → a new, smaller model. The given model is never changed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.groups import Reader, UnitGroup, renumbered
from workbench.spectral import fold

WIDTH_ATTRIBUTES = ("out_features", "out_channels", "num_features", "num_parameters")


def remove_units(
    model: nn.Module,
    groups: Sequence[UnitGroup],
    name: str,
    kept: Sequence[int],
    corrections: Sequence[Tensor] | None = None,
) -> tuple[nn.Module, tuple[UnitGroup, ...]]:
    """Keep only the units `kept` of group `name`; returns the new model and its groups.

    `kept`: k distinct unit indices in [0, m), in ascending order. `corrections`: one Â (m, k) a reader
    (method.md §5), folded into its weight; None removes the columns and corrects nothing. Rows of writers
    and of every norm between go (weight, bias, running statistics); columns of readers go.

    Raises ValueError for an unknown group, an empty, unsorted or out-of-range `kept`, or a wrong number of
    corrections.
    """
    group = _named(groups, name)
    _check(group, kept, corrections)
    lost = torch.ones(group.width, dtype=torch.bool)
    lost[list(kept)] = False
    pruned = copy.deepcopy(model)
    rows: dict[str, Tensor] = {}
    columns: dict[str, Tensor] = {}
    for index, reader in enumerate(group.readers):
        layer = pruned.get_submodule(reader.module)
        correction = None if corrections is None else corrections[index]
        columns[reader.module] = _shrink_reader(layer, reader, list(kept), lost, correction)
    for writer in (*group.writers, *group.norms):
        rows[writer.module] = _shrink_writer(pruned.get_submodule(writer.module), writer.rows[lost])
    return pruned, renumbered(groups, rows, columns)


def _named(groups: Sequence[UnitGroup], name: str) -> UnitGroup:
    for group in groups:
        if group.name == name:
            return group
    raise ValueError(f"no group is called {name!r}; the groups are {', '.join(g.name for g in groups)}")


def _check(group: UnitGroup, kept: Sequence[int], corrections: Sequence[Tensor] | None) -> None:
    wanted = sorted(set(kept))
    if not wanted or wanted != list(kept) or wanted[0] < 0 or wanted[-1] >= group.width:
        raise ValueError(
            f"kept units of {group.name!r} must be ascending, distinct and in [0, {group.width}), at least "
            f"one; got {list(kept)[:12]}"
        )
    if corrections is not None and len(corrections) != len(group.readers):
        raise ValueError(
            f"{group.name!r} has {len(group.readers)} readers, but {len(corrections)} corrections were given"
        )


@torch.no_grad()
def _shrink_reader(
    layer: Any, reader: Reader, kept: list[int], lost: Tensor, correction: Tensor | None
) -> Tensor:
    """Fold and drop the columns of the lost units; returns the map old column → new (-1: gone)."""
    weight = layer.weight
    new = weight.detach().clone()
    if correction is not None:
        part = reader.group_weight(weight.detach()).double()  # (outputs, m, positions·kernel)
        folded = fold(part, correction.to(part.device)).to(weight.dtype)
        shape = (weight.shape[0], len(kept) * reader.positions, *weight.shape[2:])
        new[:, reader.columns[kept].flatten().to(weight.device)] = folded.reshape(shape)
    gone = reader.columns[lost].flatten()
    mapping = _mapping(weight.shape[1], gone)
    remaining = (mapping >= 0).nonzero().flatten().to(weight.device)
    layer.weight = _like(weight, new[:, remaining])
    setattr(layer, "in_features" if reader.kind == "Linear" else "in_channels", remaining.numel())
    return mapping


@torch.no_grad()
def _shrink_writer(layer: Any, gone: Tensor) -> Tensor:
    """Drop output rows (or a norm's channels); returns the map old row → new (-1: gone)."""
    width = next(a for a in WIDTH_ATTRIBUTES if hasattr(layer, a))
    mapping = _mapping(getattr(layer, width), gone)
    remaining = (mapping >= 0).nonzero().flatten()
    for key, parameter in list(layer.named_parameters(recurse=False)):
        setattr(layer, key, _like(parameter, parameter.detach()[remaining.to(parameter.device)].clone()))
    for key, buffer in list(layer.named_buffers(recurse=False)):
        if buffer.dim():
            setattr(layer, key, buffer[remaining.to(buffer.device)].clone())
    setattr(layer, width, remaining.numel())
    return mapping


def _mapping(count: int, gone: Tensor) -> Tensor:
    stays = torch.ones(count, dtype=torch.bool)
    stays[gone] = False
    return torch.where(stays, stays.cumsum(0) - 1, torch.full((count,), -1))


def _like(old: nn.Parameter, new: Tensor) -> nn.Parameter:
    return nn.Parameter(new.contiguous(), requires_grad=old.requires_grad)
