"""Surgery: a choice of kept units → a new, smaller model. The given model is never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.cached import refresh
from workbench.network.groups import (
    Reader,
    Renumbering,
    UnitGroup,
    is_grouped,
    lost_units,
    named_group,
    renumbered,
)
from workbench.network.layers import (
    INPUTS,
    OUTPUTS,
    TRANSPOSED,
    is_flipped,
    is_linear_layer,
    layer_weight,
    output_count,
    set_count,
    set_layer_weight,
)
from workbench.network.rebuilt.fallen_sizes import lower
from workbench.network.tensors import sharing_copy
from workbench.spectral.reconstruction import fold

COPIED_AT_ONCE = 1 << 20  # numbers of a weight, which stay in the processor's cache


def remove_units(
    model: nn.Module,
    groups: Sequence[UnitGroup],
    name: str,
    kept: Sequence[int],
    corrections: Sequence[Tensor] | None = None,
) -> tuple[nn.Module, tuple[UnitGroup, ...]]:
    """Keep only the units `kept` of group `name`; returns the new model and its groups.

    Parameters that did not change share the memory of the given model's.

    `kept`: k distinct unit indices in [0, m), in ascending order. `corrections`: one a reader, either Â
    (m, k), folded into its weight (method.md §5), or the new weight of the kept units itself, (outputs, k,
    positions·kernel); None removes the columns and corrects nothing. Rows of writers and of every norm
    between go (weight, bias, running statistics); columns of readers go.

    Raises ValueError for an unknown group, an empty, unsorted or out-of-range `kept`, or a wrong number of
    corrections.
    """
    group = named_group(groups, name)
    lost = lost_units(group, kept)
    if corrections is not None and len(corrections) != len(group.readers):
        raise ValueError(
            f"{group.name!r} has {len(group.readers)} readers, but {len(corrections)} corrections were given"
        )
    pruned = sharing_copy(model)
    maps = shrink(pruned, group, lost, corrections)
    refresh(pruned)
    return pruned, renumbered(groups, name, kept, maps)


def shrink(
    model: nn.Module, group: UnitGroup, lost: Tensor, corrections: Sequence[Tensor] | None = None
) -> Renumbering:
    """`remove_units` in place, on a model of one's own; returns how indices changed.

    What modules keep beside their parameters is as before: `refresh` it after the last of several groups.
    """
    stays = torch.ones(group.width, dtype=torch.bool)
    stays[lost] = False
    kept = stays.nonzero().flatten()
    rows: dict[str, Tensor] = {}
    columns: dict[str, Tensor] = {}
    held: dict[tuple[str, str, int], Tensor] = {}
    for index, reader in enumerate(group.readers):
        layer = model.get_submodule(reader.module)
        correction = None if corrections is None else corrections[index]
        columns[reader.module] = _shrink_reader(layer, reader, kept, lost, correction)
    for writer in (*group.writers, *group.norms):
        rows[writer.module] = _shrink_writer(model.get_submodule(writer.module), writer.rows[lost].flatten())
    for part in group.held:
        owner, gone = model.get_submodule(part.module), part.indices[lost].flatten()
        held[part.module, part.tensor, part.dim] = _drop_held(owner, part.tensor, part.dim, gone)
    _lower_sizes(model, group, len(lost))
    return Renumbering(rows, columns, held)


def shrink_all(model: nn.Module, groups: Sequence[UnitGroup], lost: Mapping[str, Tensor]) -> None:
    """`shrink` of several groups, whose indices are those of one network, with no corrections.

    `lost`: by a group's name, indices of units, none perhaps. Every tensor is cut once along an axis, however
    many groups lie along it. What modules keep is as before, as after `shrink`.
    """
    rows: dict[str, list[Tensor]] = {}
    columns: dict[str, list[Tensor]] = {}
    held: dict[tuple[str, str, int], list[Tensor]] = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    for group in groups:
        gone = lost[group.name]
        if not len(gone):
            continue
        for reader in group.readers:
            columns.setdefault(reader.module, []).append(reader.columns[gone].flatten())
        for writer in (*group.writers, *group.norms):
            rows.setdefault(writer.module, []).append(writer.rows[gone].flatten())
        for part in group.held:
            held.setdefault((part.module, part.tensor, part.dim), []).append(part.indices[gone].flatten())
        _lower_sizes(model, group, len(gone))
    for name in [name for name in columns if name in rows and _is_plain(modules[name])]:
        _drop_both(modules[name], torch.cat(rows.pop(name)), torch.cat(columns.pop(name)))
    for name, parts in columns.items():
        layer = modules[name]
        _drop_columns(layer, layer_weight(layer).detach(), torch.cat(parts))
    for name, parts in rows.items():
        _shrink_writer(modules[name], torch.cat(parts))
    for (name, tensor, dim), parts in held.items():
        _drop_held(modules[name], tensor, dim, torch.cat(parts))


def _lower_sizes(model: nn.Module, group: UnitGroup, count: int) -> None:
    """Numbers of modules and sizes in code that fall with the group's units, of which `count` go."""
    for attribute in group.attributes:
        owner = model.get_submodule(attribute.module)
        setattr(owner, attribute.name, getattr(owner, attribute.name) - count * attribute.per_unit)
    for size in group.sizes:
        lower(model.get_submodule(size.module), size, count)


@torch.no_grad()
def _shrink_reader(
    layer: Any, reader: Reader, kept: Tensor, lost: Tensor, correction: Tensor | None
) -> Tensor:
    """Fold and drop the columns of the lost units; returns the map old column → new (-1: gone)."""
    weight = layer_weight(layer).detach()
    new = weight
    if correction is not None:
        new = weight.clone()
        if correction.dim() == 2:
            part = reader.group_weight(weight).double()  # (outputs, m, positions·kernel)
            correction = fold(part, correction.to(part.device))
        shape = (weight.shape[0], len(kept) * reader.positions, *weight.shape[2:])
        new[:, reader.columns[kept].flatten().to(weight.device)] = correction.to(weight).reshape(shape)
    return _drop_columns(layer, new, reader.columns[lost].flatten())


@torch.no_grad()
def _drop_columns(layer: Any, weight: Tensor, gone: Tensor) -> Tensor:
    """Give a layer this weight, (outputs, inputs, *kernel), without some columns; old column → new."""
    mapping = _mapping(weight.shape[1], gone)
    remaining = (mapping >= 0).nonzero().flatten()
    set_layer_weight(layer, weight.index_select(1, remaining.to(weight.device)))
    set_count(layer, INPUTS, remaining.numel())
    return mapping


def _is_plain(layer: nn.Module) -> bool:
    """A layer whose weight is stored as (outputs, inputs, *kernel), each output of all inputs."""
    return is_linear_layer(layer) and not is_grouped(layer) and not is_flipped(layer)


@torch.no_grad()
def _drop_both(layer: Any, rows: Tensor, columns: Tensor) -> None:
    """Drop output rows and input columns of a layer, a few rows at a time: one large copy, not two."""
    weight = layer.weight.detach()
    left_rows, left_columns = (
        (_mapping(count, gone) >= 0).nonzero().flatten().to(weight.device)
        for count, gone in ((weight.shape[0], rows), (weight.shape[1], columns))
    )
    new = weight.new_empty(len(left_rows), len(left_columns), *weight.shape[2:])
    at_once = max(1, COPIED_AT_ONCE // max(1, weight[0].numel()))
    for part, into in zip(left_rows.split(at_once), new.split(at_once), strict=True):
        torch.index_select(weight.index_select(0, part), 1, left_columns, out=into)
    set_layer_weight(layer, new)
    if getattr(layer, "bias", None) is not None:
        layer.bias = _rows(layer.bias, left_rows)
    set_count(layer, INPUTS, len(left_columns))
    set_count(layer, OUTPUTS, len(left_rows))


@torch.no_grad()
def _shrink_writer(layer: Any, gone: Tensor) -> Tensor:
    """Drop output rows (or a norm's channels); returns the map old row → new (-1: gone)."""
    mapping = _mapping(output_count(layer), gone)
    remaining = (mapping >= 0).nonzero().flatten()
    if is_grouped(layer):
        _shrink_grouped(layer, remaining)
    elif is_linear_layer(layer) or isinstance(layer, nn.Embedding):
        weight = layer_weight(layer).detach()
        set_layer_weight(layer, weight.index_select(0, remaining.to(weight.device)))
        if getattr(layer, "bias", None) is not None:
            layer.bias = _rows(layer.bias, remaining)
    else:
        _shrink_norm(layer, remaining)
    set_count(layer, OUTPUTS, remaining.numel())
    return mapping


def _shrink_norm(layer: Any, remaining: Tensor) -> None:
    for key, parameter in list(layer.named_parameters(recurse=False)):
        setattr(layer, key, _rows(parameter, remaining))
    for key, buffer in list(layer.named_buffers(recurse=False)):
        if buffer.dim():
            setattr(layer, key, buffer.index_select(0, remaining.to(buffer.device)))
    if isinstance(layer, nn.GroupNorm):
        layer.num_groups = layer.num_groups * remaining.numel() // layer.num_channels


def _shrink_grouped(layer: Any, remaining: Tensor) -> None:
    """Whole groups of a grouped or depthwise convolution go, in and out."""
    each_out, each_in = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    layer.groups = remaining.numel() // each_out
    layer.in_channels = layer.groups * each_in
    index = remaining.to(layer.weight.device)
    if isinstance(layer, TRANSPOSED):  # (inputs, outputs a group, *kernel)
        alive = index[::each_out] // each_out
        index = (alive[:, None] * each_in + torch.arange(each_in, device=alive.device)).flatten()
    layer.weight = _rows(layer.weight, index)
    if layer.bias is not None:
        layer.bias = _rows(layer.bias, remaining)


@torch.no_grad()
def _drop_held(owner: Any, name: str, dim: int, gone: Tensor) -> Tensor:
    """Drop entries of a bare parameter or buffer; returns the map old index → new."""
    tensor = getattr(owner, name)
    mapping = _mapping(tensor.shape[dim], gone)
    remaining = (mapping >= 0).nonzero().flatten().to(tensor.device)
    new = tensor.detach().index_select(dim, remaining)
    setattr(owner, name, _like(tensor, new) if isinstance(tensor, nn.Parameter) else new)
    if is_linear_layer(owner):  # one that only training mode calls
        set_count(owner, INPUTS, remaining.numel())
    return mapping


def _mapping(count: int, gone: Tensor) -> Tensor:
    stays = torch.ones(count, dtype=torch.bool)
    stays[gone] = False
    return torch.where(stays, stays.cumsum(0) - 1, torch.full((count,), -1))


def _rows(old: nn.Parameter, remaining: Tensor) -> nn.Parameter:
    return _like(old, old.detach().index_select(0, remaining.to(old.device)))


def _like(old: nn.Parameter, new: Tensor) -> nn.Parameter:
    return nn.Parameter(new.contiguous(), requires_grad=old.requires_grad)
