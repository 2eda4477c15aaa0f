"""What becomes of units that meet units: of the one that is spread over several, and of two axes of them."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.network.finding.labels import Labels

SHARED = "they are shared by all heads of"
CROSSED = "each of them is multiplied with all units of others in"


def are_crossed(labels: Labels, first: Tensor, second: Tensor) -> bool:
    """Whether each of the units of one side meets each of the other's, as in an outer product."""
    units = bool((first > 0).all()) and bool((second > 0).all())
    return units and _spread_over(labels, first, second) and _spread_over(labels, second, first)


def the_longer(labels: Labels, first: Tensor, second: Tensor, where: str) -> Tensor:
    """The labels of the side with more units; those of the other side are used by each of them, and stay."""
    kept, other = sorted((first, second), key=lambda side: len(side.unique()), reverse=True)
    labels.refuse(other, f"{CROSSED} {where or 'the network'}")
    labels.crossed += kept.unique().tolist()
    return labels.roots(kept)


def met(labels: Labels, first: Tensor, second: Tensor, where: str, what: str = "") -> Tensor:
    """`labels.meet`, but one unit that is spread over several (a gate, an attention weight) stays for itself.

    Taking one of the several away is silencing it; the single one cannot go. Heads with keys in common have
    values in common too.
    """
    for heads, values in ((first, second), (second, first)):
        if labels.are_sharing(heads) and labels.has_several_beside(values, heads):
            labels.refuse(values, f"{SHARED} {where or 'the network'}")
            return labels.roots(heads)
    for gate, several in ((first, second), (second, first)):
        if _single(gate) and _spread_over(labels, gate, several):
            labels.refuse(gate, f"it is spread over all units of others in {where or 'the network'}")
            return labels.roots(several)
    return labels.meet(first, second, what)


def _single(found: Tensor) -> bool:
    return bool(found.numel()) and bool((found > 0).all()) and bool((found == found.flatten()[0]).all())


def _spread_over(labels: Labels, gate: Tensor, several: Tensor) -> bool:
    """Whether along the axes over which `gate` is repeated in memory several units stand."""
    dims = [
        d
        for d, (step, size) in enumerate(zip(gate.stride(), gate.shape, strict=True))
        if step == 0 and size > 1
    ]
    return bool(dims) and not labels.is_uniform(several, dims)


def mixer(where: str, name: str) -> str:
    """What mixed units, for reasons: the operation `name` in the module `where`."""
    return f"{where or 'the network'} ({name.strip('_')})"


def summed_apart(labels: Labels, a: Tensor, b: Tensor, where: str) -> Tensor | None:
    """Labels of a product in which units of one side alone are summed over: they stay, and mix nothing."""
    for one, other, along in ((a, b, -1), (b, a, -2)):
        units = bool((one > 0).all()) and labels.is_uniform(one, [along])
        if units and not labels.is_uniform(one, [-2, -1]) and not bool((other < 0).any()):
            labels.refuse(other, f"{CROSSED} {where or 'the network'}")
            rows = labels.together(one, [along])
            others = torch.broadcast_shapes(rows.shape[:-2], other.shape[:-2])
            return rows.expand(*others, *rows.shape[-2:])
    return None
