"""What each tensor operation does to labels: moving, combining, reducing, contracting.

Operations are PyTorch's own core operators (aten), so functions, methods and modules without weights all
come down to the families below. What one that is in no family depends on is tried (`dependence.py`); where
that cannot be told, it refuses the units that reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from workbench.network.finding.contracting import contract
from workbench.network.finding.cuts import CUTTING, note_cut, note_stack
from workbench.network.finding.dependence import settle_by_trying
from workbench.network.finding.kinds import (
    BARE_PRODUCTS,
    CONTRACTING,
    LANDING,
    MOVING,
    NEUTRAL,
    NORMS,
    POINTWISE,
    REDUCING,
    SPATIAL,
)
from workbench.network.finding.labels import Labels
from workbench.network.finding.meeting import are_crossed, met, mixer, the_longer


def propagate(
    labels: Labels, func: Any, args: tuple, kwargs: Mapping[str, Any], out: Any, where: str
) -> None:
    """Label the results of one operation. `where` names the module that runs it, for reasons."""
    name = func.overloadpacket.__name__
    outputs = [t for t in tree_flatten(out)[0] if isinstance(t, Tensor)]
    if name in ("zero_", "fill_"):
        for tensor in outputs:
            labels.write(tensor, None)
        return
    given = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | dict(kwargs)
    inputs = [t for t in tree_flatten((args, dict(kwargs)))[0] if isinstance(t, Tensor)]
    known = [labels.of(t) for t in inputs]
    if not any(k is not None for k in known) or name in NEUTRAL:
        return
    if labels.waiting and sum(k is not None for k in known) > 1:  # what meets another is used
        labels.settle(torch.cat([k.flatten() for k in known if k is not None]))
        known = [labels.of(t) for t in inputs]
    if name in CUTTING and known[0] is not None:
        note_cut(labels, name, given, known[0], outputs)
    if outputs and not func._schema.is_mutable and _aliases(outputs, inputs):
        return  # a view: its labels lie where its numbers lie
    if _is_pointwise(func, name):
        _combine(labels, name, known, outputs, where)
        return
    rule = next((rule for names, rule in RULES if name in names), _not_settled)
    if rule(labels, name, given, outputs, where) is False and (
        name in BARE_PRODUCTS or not settle_by_trying(labels, func, args, kwargs, outputs, mixer(where, name))
    ):
        _refuse(labels, name, given, where)
    if name == "stack":
        note_stack(labels, given, outputs[0])


def _is_pointwise(func: Any, name: str) -> bool:
    """By the tags of any form of the operation: torch tags few of those in place or with an `out`."""
    return name.removesuffix("_") in POINTWISE or _is_tagged(func)


@cache
def _is_tagged(func: Any) -> bool:
    """Whether torch calls the operation, or the same one that returns its result, pointwise."""
    packet = func.overloadpacket
    plain = getattr(torch.ops.aten, packet.__name__.removesuffix("_"), packet)
    forms = [getattr(plain, overload) for overload in plain.overloads()]
    return torch.Tag.pointwise in func.tags or any(
        torch.Tag.pointwise in form.tags and _arguments(form) == _arguments(func) for form in forms
    )


def _arguments(func: Any) -> list[tuple[str, str]]:
    """Names and types of what an operation computes with."""
    return [(one.name, str(one.type)) for one in func._schema.arguments if not one.is_out]


def _aliases(outputs: list[Tensor], inputs: list[Tensor]) -> bool:
    theirs = {t.untyped_storage()._cdata for t in inputs}
    return all(t.untyped_storage()._cdata in theirs for t in outputs)


def _combine(
    labels: Labels, name: str, known: list[Tensor | None], outputs: list[Tensor], where: str
) -> None:
    """Numbers meet one to one, after broadcasting."""
    for out in outputs:
        if not out.numel():
            continue  # what the backward pass would have needed
        if name == "copy_":
            source = known[1]
            labels.write(out, None if source is None else source.expand(out.shape))
            continue
        result: Tensor | None = None
        for one in known:
            if one is None:
                continue
            one = one.expand(out.shape)
            if result is not None and are_crossed(labels, result, one):
                if labels.apart:
                    result = the_longer(labels, result, one, where)
                    continue
                labels.crossed += [int(result.max()), int(one.max())]
            result = one if result is None else met(labels, result, one, where, mixer(where, name))
        labels.write(out, result)


def _move(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> None:
    """The same operation on the labels; float64 holds them exactly and every operation takes it."""
    first, *rest = list(given)

    def of(tensor: Any) -> Any:
        if not isinstance(tensor, Tensor):
            return tensor
        found = labels.of(tensor)
        return (torch.zeros(tensor.shape) if found is None else found).double()

    moved = tree_map(of, given[first])
    if name in ("clone", "_to_copy", "contiguous", "lift_fresh_copy"):
        result = moved
    else:
        others = {
            key: of(given[key]) if name in ("slice_scatter", "select_scatter") else given[key] for key in rest
        }
        if name == "constant_pad_nd":
            others["value"] = 0
        result = getattr(torch.ops.aten, name)(moved, *others.values())
    labels.write(outputs[0], result.long())


def _reduce(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> bool:
    source: Tensor = next(v for v in given.values() if isinstance(v, Tensor))
    found = labels.of(source)
    if found is None:
        return False  # the labelled one is another argument
    dims = given.get("dim", given.get("dims", given.get("axis")))
    if name in ("sort", "topk", "kthvalue") and dims is None:
        dims = -1
    dims = list(range(source.dim())) if dims is None or dims == [] else dims
    dims = [d % source.dim() for d in (dims if isinstance(dims, (list, tuple)) else [dims])]
    kept = labels.together_if_used(found, dims, mixer(where, name))
    for out in outputs:
        same = out.dim() == source.dim()
        labels.write(out, kept.expand(out.shape) if same else kept.squeeze(dims).reshape(out.shape))
    return True


def _neighbours(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> None:
    source: Tensor = next(iter(given.values()))
    found = labels.of(source)
    if found is None:
        return
    kept = labels.together(found, range(source.dim() - SPATIAL[name], source.dim()), mixer(where, name))
    for out in outputs:
        labels.write(out, kept.expand(out.shape))


def _halves(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> None:
    """glu: the first half of an axis times the sigmoid of the second."""
    source: Tensor = next(iter(given.values()))
    found = labels.of(source)
    if found is not None:
        first, second = found.chunk(2, given.get("dim", -1))
        labels.write(outputs[0], labels.meet(first.contiguous(), second.contiguous()))


def _layer_norm(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> None:
    source: Tensor = next(iter(given.values()))
    found = labels.of(source)
    if found is None:
        return
    dims = range(source.dim() - len(given["normalized_shape"]), source.dim())
    labels.write(outputs[0], labels.together(found, dims, mixer(where, "layer norm")).expand(source.shape))


def _channel_norm(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> None:
    source, *rest = [v for v in given.values() if isinstance(v, Tensor)]
    found = labels.of(source)
    if found is None:
        return
    shape = [1, -1, *[1] * (source.dim() - 2)]
    for parameter in rest:
        theirs = labels.of(parameter)
        if theirs is not None:
            found = labels.meet(found, theirs.reshape(shape).expand(found.shape))
    labels.write(outputs[0], found)


def _packed(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> None:
    """Packing sequences and back: time steps change places, features stay."""
    found = labels.of(next(iter(given.values())))
    if found is not None:
        steps = 2 if name == "_pack_padded_sequence" else 1
        kept = labels.together(found, range(steps), mixer(where, name))
        labels.write(outputs[0], kept.reshape(kept.shape[steps:]).expand(outputs[0].shape))


def _landing(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> bool:
    """x.index_add(dim, index, source) and the like: along `dim` anything may land anywhere."""
    target, source = given["self"], given.get("src", given.get("source"))
    dim = given["dim"] % max(1, target.dim())
    shapes = [list(t.shape) for t in (target, source) if isinstance(t, Tensor)]
    if any(shape[:dim] + shape[dim + 1 :] != shapes[0][:dim] + shapes[0][dim + 1 :] for shape in shapes):
        return False
    result = torch.zeros(outputs[0].shape, dtype=torch.int64)
    for tensor in (target, source):
        known = labels.of(tensor) if isinstance(tensor, Tensor) else None
        if known is not None:
            kept = labels.together(known, [dim], mixer(where, name)).expand(result.shape)
            result = labels.meet(result, kept.contiguous(), mixer(where, name))
    labels.write(outputs[0], result)
    return True


def _folded(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> None:
    """Patches (…, channels·kernel, places) put back into an image (…, channels, height, width)."""
    found = labels.of(given["self"])
    if found is None:
        return
    window = given["kernel_size"][0] * given["kernel_size"][1]
    patches = found.unflatten(-2, (-1, window))  # (…, channels, kernel, places)
    kept = labels.together(patches, [-2, -1], mixer(where, name))
    labels.write(outputs[0], kept.expand(outputs[0].shape))


def _depthwise(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> bool:
    """A convolution by a bare kernel a channel, a blur say, keeps channels to themselves."""
    inputs, weight = given["input"], given["weight"]
    found, kernel = labels.of(inputs), labels.of(weight)
    channels = weight.shape[0]
    if found is None or given["transposed"] or not given["groups"] == channels == inputs.shape[1]:
        return False
    kept = labels.together(found, range(2, found.dim()), mixer(where, name))  # (n, channels, 1, …)
    if kernel is not None:
        own = labels.together(kernel, range(1, kernel.dim()))
        kept = labels.meet(kept, own.reshape(1, channels, *[1] * (found.dim() - 2)).expand(kept.shape))
    labels.write(outputs[0], kept.expand(outputs[0].shape))
    return True


def _group_norm(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> None:
    """F.group_norm: the channels of one group are mixed."""
    found = labels.of(given["input"])
    if found is None:
        return
    parts = found.reshape(found.shape[0], given["group"], -1)
    kept = labels.together(parts, [2], mixer(where, name)).expand(parts.shape).reshape(found.shape)
    shape = [1, -1, *[1] * (found.dim() - 2)]
    for parameter in (given.get("weight"), given.get("bias")):
        theirs = labels.of(parameter) if isinstance(parameter, Tensor) else None
        if theirs is not None:
            kept = labels.meet(kept, theirs.reshape(shape).expand(found.shape))
    labels.write(outputs[0], kept)


def _put(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> bool:
    """Numbers put into places of another tensor, x[index] = values."""
    if given.get("accumulate"):
        return False
    target, index, values = (given[key] for key in ("self", "indices", "values"))
    # the target's own labels lie where they lay: an operation in place has not touched them
    old = labels.of(target)
    old = torch.zeros(target.shape, dtype=torch.int64) if old is None else old
    new = labels.of(values)
    new = torch.zeros(values.shape, dtype=torch.int64) if new is None else new
    labels.write(outputs[0], torch.ops.aten.index_put(old.contiguous(), index, new.contiguous()))
    return True


def _not_settled(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> bool:
    return False


def _refuse(labels: Labels, name: str, given: dict, where: str) -> None:
    place = where or "the network"
    reason = f"they reach the operation {name!r} in {place}, not known"
    if name in BARE_PRODUCTS:
        reason = f"they are multiplied by a bare parameter in {place}"
    for tensor in tree_flatten(given)[0]:
        found = labels.of(tensor) if isinstance(tensor, Tensor) else None
        if found is not None:
            labels.refuse(found, reason)


Rule = Callable[[Labels, str, dict, list[Tensor], str], bool | None]  # False: it does not know
RULES: tuple[tuple[Any, Rule], ...] = (
    (MOVING, _move),
    (REDUCING, _reduce),
    (SPATIAL, _neighbours),
    (CONTRACTING, contract),
    (NORMS, _channel_norm),
    ({"_pack_padded_sequence", "_pad_packed_sequence"}, _packed),
    ({"index_put", "index_put_"}, _put),
    (LANDING | {f"{name}_" for name in LANDING}, _landing),
    ({"col2im"}, _folded),
    ({"convolution"}, _depthwise),
    ({"native_group_norm"}, _group_norm),
    ({"glu"}, _halves),
    ({"native_layer_norm", "_fused_rms_norm", "rms_norm"}, _layer_norm),
)
