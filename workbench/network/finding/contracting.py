"""Products of matrices, and units that meet in them: which become one, and which go one by one all the same.

In an inner product over units all of them become one, the queries and keys of a head; a unit that is spread
over several others, as a weight of attention is, stays for itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.network.finding.labels import Labels
from workbench.network.finding.meeting import SHARED, met, mixer, summed_apart


def contract(labels: Labels, name: str, given: dict, outputs: list[Tensor], where: str) -> None:
    """A product of matrices (…, i, k)·(…, k, j)."""
    tensors = [v for v in given.values() if isinstance(v, Tensor)]
    left, right = tensors[-2:]
    a, b = _at_least_matrix(labels, left, 0), _at_least_matrix(labels, right, 1)
    what = mixer(where, "matrix product")
    a, b = (labels.roots(t) for t in (a, b))
    for one, other, dim in ((a, b, -1), (b, a, -2)):
        labels.multiply(other, one, where)
        if bool((other < 0).any()) and not labels.is_uniform(one, [dim]):
            if not _by_heads(labels, one, other, dim, what):
                labels.refuse(one, f"they are multiplied by a bare parameter in {where or 'the network'}")
                return
            a, b = labels.roots(a), labels.roots(b)
    if labels.is_uniform(a, [-1]) and labels.is_uniform(b, [-2]):
        rows, columns = labels.together(a, [-1]), labels.together(b, [-2])
        shape = torch.broadcast_shapes(rows.shape, columns.shape)
        result = met(labels, rows.clamp(min=0).expand(shape), columns.clamp(min=0).expand(shape), where, what)
    elif labels.apart and (kept := summed_apart(labels, a, b, where)) is not None:
        result = kept
    else:  # an inner product over units: all that meet in it become one
        one, two = labels.together(a, [-1], what), labels.together(b, [-2], what)
        result = _scored(labels, _narrowed(labels, one, -2), _narrowed(labels, two, -1), where, what)
    out = outputs[0]
    labels.count(result, left.shape[-1] * max(1, out.numel()) // max(1, result.numel()))
    full = result.expand(
        *result.shape[:-2], left.shape[-2] if left.dim() > 1 else 1, right.shape[-1] if right.dim() > 1 else 1
    )
    full = full.reshape(out.shape)
    if len(tensors) == 3:
        added = labels.of(tensors[0])
        full = full if added is None else labels.meet(full, added.expand(out.shape), what)
    labels.write(out, full)


def _by_heads(labels: Labels, units: Tensor, held: Tensor, dim: int, what: str) -> bool:
    """Units that a bare parameter contracts along `dim` made one in each head; False where there is one head.

    A parameter of each head's own is linked to it; one of all heads stays whole.
    """
    of_heads = units.amax(dim)
    if len(of_heads[of_heads > 0].unique()) < 2:
        return False
    heads = labels.together(units.clamp(min=0), [dim], what)
    if labels.is_uniform(heads, [-1, -2]):
        own, entries = torch.broadcast_tensors(heads.amax([-1, -2], keepdim=True), held)
        met = (entries < 0) & (own > 0)
        labels.link(entries[met].numpy(), own[met].numpy())
    return True


def _scored(labels: Labels, queries: Tensor, keys: Tensor, where: str, what: str) -> Tensor:
    """Labels of inner products: what meets is one unit; heads that have one key in common are not."""
    shape = torch.broadcast_shapes(queries.shape, keys.shape)
    queries, keys = (labels.roots(t.expand(shape)) for t in (queries, keys))
    for heads, key in ((queries, keys), (keys, queries)):
        of_keys, of_heads = key.unique().tolist(), heads.unique().tolist()
        if len(of_heads) > 1 and of_heads[0] > 0 and len([one for one in of_keys if one > 0]) == 1:
            labels.refuse(key, f"{SHARED} {where or 'the network'}")
            labels.share(heads)
            return heads
    return labels.meet(queries, keys, what)


def _narrowed(labels: Labels, found: Tensor, dim: int) -> Tensor:
    """Labels with one place along an axis of positions, all of them where other units stand there."""
    found = found.clamp(min=0)
    return labels.together(found, [dim]) if labels.is_uniform(found, [dim]) else found


def _at_least_matrix(labels: Labels, tensor: Tensor, vector_axis: int) -> Tensor:
    found = labels.of(tensor)
    found = torch.zeros(tensor.shape, dtype=torch.int64) if found is None else found
    return found.unsqueeze(vector_axis) if found.dim() == 1 else found
