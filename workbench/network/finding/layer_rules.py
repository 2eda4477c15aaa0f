"""What layers with weights do to labels.

A linear layer or convolution reads the units at its input and writes new ones, a norm passes them on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.finding.meeting import mixer
from workbench.network.finding.trace_tables import Trace
from workbench.network.groups import features_last, is_grouped
from workbench.network.layers import PER_CHANNEL, SPATIAL, is_linear_layer, kind_of, layer_weight, width_of
from workbench.network.running import tensors_of


def rule_for(module: nn.Module) -> Callable[..., None] | None:
    """What a layer with weights does to labels; None of any other module."""
    if is_linear_layer(module):
        return _grouped if is_grouped(module) else _linear
    for kinds, rule in _MODULE_RULES:
        if isinstance(module, kinds):
            return rule
    return None


def _linear(found: Trace, name: str, module: nn.Module, inputs: Tensor, output: Tensor) -> None:
    """Reads the units along its input features; where one unit fills them all, it passes that unit on."""
    labels, kind = found.labels, kind_of(module)
    known = labels.of(inputs)
    if known is not None:
        features = features_last(known, kind)
        rows = features.reshape(-1, features.shape[-1])
        along = not labels.is_uniform(rows, [0]) and labels.is_uniform(rows, [1])
        # Where each unit is a whole layer that was mixed before, places differ in which, and no more.
        if along and not bool(torch.isin(rows[rows > 0], found.mixed_layers()).all()):
            spatial = SPATIAL[kind]
            axes = [-1 - spatial, *range(-spatial, 0)]
            passed = labels.together(known, axes, mixer(name, kind))
            labels.write(output, passed.expand(output.shape))
            each = layer_weight(module)[0].numel() * output.numel() // max(1, passed.numel())
            labels.count(passed, each)
            if name not in found.rows:
                found.rows[name] = labels.fresh(width_of(module))
                labels.refuse(found.rows[name], "it works along an axis of positions, not of units")
            return
        _note(found, found.columns, name, labels.together(rows, [0], mixer(name, kind))[0])
    _write_rows(found, name, module, output, kind)


def _write_rows(found: Trace, name: str, module: nn.Module, output: Tensor, kind: str) -> None:
    rows = _rows_of(found, name, module)
    shape = [-1, *[1] * SPATIAL.get(kind, 0)]
    found.labels.write(output, rows.reshape(shape).expand(output.shape))
    found.made[output.untyped_storage()._cdata] = name


def _rows_of(found: Trace, name: str, module: nn.Module) -> Tensor:
    if name not in found.rows:
        own = found.own.get(name)
        found.rows[name] = found.labels.fresh(width_of(module)) if own is None else own
    return found.labels.roots(found.rows[name])


def _note(found: Trace, table: dict[str, Tensor], name: str, channels: Tensor) -> None:
    """Remember the labels of a module's channels; a module called twice sees the same units twice."""
    channels = channels.clamp(min=0)
    before = table.get(name)
    table[name] = channels if before is None else found.labels.meet(found.labels.roots(before), channels)


def _channels(found: Trace, name: str, module: nn.Module, inputs: Tensor) -> Tensor | None:
    """Labels of the channels (axis 1) of a norm's or grouped convolution's input, (C,)."""
    known = found.labels.of(inputs)
    if known is None:
        return None
    axis = 1
    spatial = SPATIAL.get(kind_of(module))
    if spatial is not None:
        axis = known.dim() - 1 - spatial
    others = [d for d in range(known.dim()) if d != axis]
    return found.labels.together(known, others, mixer(name, kind_of(module))).flatten()


def _spread(found: Trace, channels: Tensor, tensor: Tensor, axis: int) -> None:
    shape = [1] * tensor.dim()
    shape[axis] = -1
    found.labels.write(tensor, channels.reshape(shape).expand(tensor.shape))


def _per_channel(found: Trace, name: str, module: nn.Module, inputs: Tensor, output: Tensor) -> None:
    if getattr(module, "num_parameters", 2) == 1:  # a PReLU with one slope for all
        found.labels.write(output, found.labels.of(inputs))
        return
    channels = _channels(found, name, module, inputs)
    if channels is not None:
        _note(found, found.carriers, name, channels)
        _spread(found, channels, output, 1)
        maker = found.made.get(inputs.untyped_storage()._cdata)
        if maker is not None and isinstance(module, nn.modules.batchnorm._BatchNorm):
            rows, taken = found.labels.roots(found.rows[maker]), found.labels.roots(channels.clamp(min=0))
            if torch.equal(rows, taken) and len(rows.unique()) == len(rows):  # a channel an output, in order
                found.normalised[maker] = name


def _group_norm(found: Trace, name: str, module: Any, inputs: Tensor, output: Tensor) -> None:
    """The channels of one norm group are one unit."""
    channels = _channels(found, name, module, inputs)
    if channels is None:
        return
    parts = channels.reshape(module.num_groups, -1)
    joined = found.labels.together(parts, [1], mixer(name, "GroupNorm"))
    stay = (parts <= 0).any(1)
    found.labels.refuse(joined[stay], f"they share a norm group of {name} with channels that stay")
    channels = found.labels.roots(channels)
    _note(found, found.carriers, name, channels)
    _spread(found, channels, output, 1)


def _layer_norm(found: Trace, name: str, module: Any, inputs: Tensor, output: Tensor) -> None:
    known = found.labels.of(inputs)
    if known is not None:
        dims = range(known.dim() - len(module.normalized_shape), known.dim())
        joined = found.labels.together(known, dims, mixer(name, type(module).__name__))
        found.labels.write(output, joined.expand(output.shape))


def _grouped(found: Trace, name: str, module: Any, inputs: Tensor, output: Tensor) -> None:
    """Depthwise and grouped convolutions: the channels of one group, in and out, are one unit."""
    labels, groups = found.labels, module.groups
    channels = _channels(found, name, module, inputs)
    rows = _rows_of(found, name, module)
    if channels is None:
        channels = torch.zeros(module.in_channels, dtype=torch.int64)
    both = torch.cat([rows.reshape(groups, -1), channels.clamp(min=0).reshape(groups, -1)], 1)
    mixed = mixer(name, f"{kind_of(module)} in groups") if module.in_channels > groups else ""
    labels.together(both, [1], mixed)
    rows, channels = labels.roots(rows), labels.roots(channels)
    stay = (channels.reshape(groups, -1) <= 0).any(1)
    labels.refuse(rows.reshape(groups, -1)[stay], f"{name} is a grouped convolution of channels that stay")
    axis = output.dim() - 1 - SPATIAL[kind_of(module)]
    _spread(found, rows, output, axis)


def _embedding(found: Trace, name: str, module: Any, inputs: Tensor, output: Any) -> None:
    for one in tensors_of(output):  # a kind of one's own may return the places beside what stands there
        if one.is_floating_point() and one.shape[-1] == module.embedding_dim:
            _write_rows(found, name, module, one, "Embedding")
    if module.max_norm is not None:
        found.labels.refuse(found.rows[name], f"{name} renormalises its rows (max_norm)")


def several_tensors(
    found: Trace, name: str, module: nn.Module, given: Sequence[Tensor], gave: Tensor | None
) -> None:
    """A layer of one's own that takes or gives more than one tensor: nobody knows which columns read what,
    nor, unless it `gave` one tensor, which rows make what."""
    reason = f"they reach {name}, a layer of its own kind that takes or gives several tensors"
    for tensor in given:
        known = found.labels.of(tensor)
        if known is not None:
            found.labels.refuse(known, reason)
    if gave is not None and is_linear_layer(module) and not is_grouped(module):
        kind = kind_of(module)
        if gave.dim() > SPATIAL[kind] and features_last(gave, kind).shape[-1] == width_of(module):
            return _write_rows(found, name, module, gave, kind)
    if is_linear_layer(module) and name not in found.rows:
        found.rows[name] = found.labels.fresh(width_of(module))
        found.labels.refuse(found.rows[name], f"{name} takes or gives several tensors")


_MODULE_RULES: tuple[tuple[Any, Callable[..., None]], ...] = (
    (PER_CHANNEL, _per_channel),
    (nn.GroupNorm, _group_norm),
    ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    (nn.Embedding, _embedding),
)
