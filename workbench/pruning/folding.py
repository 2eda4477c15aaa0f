"""A state kept small: as what its step made of the one before.

A step keeps some units and cuts the rest away, which can be done again at no price; only the tensors that
are no plain cut, because something was folded into them or fitted or trained, are kept. Where the next step
cuts rows of such a tensor, the rows that it cut are kept beside the shorter one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from workbench.network.groups import UnitGroup, lost_units, named_group
from workbench.network.surgery import remove_units
from workbench.network.tensors import named_tensors, put_tensors, same_bits, sharing_copy
from workbench.pruning.choice import Choice
from workbench.pruning.state import State

_WORTH = 0.9  # of a tensor: what keeping its rest must take at most


@dataclass(frozen=True)
class Whole:
    """A tensor as it is."""

    tensor: Tensor

    def get(self) -> Tensor:
        return self.tensor


@dataclass(frozen=True)
class Longer:
    """A tensor of which the next state has the entries `kept` along `dim`; `rest` are the others, `lost`."""

    shorter: Tensor
    rest: Tensor
    dim: int
    kept: Tensor
    lost: Tensor
    requires_grad: bool

    def get(self) -> Tensor:
        shape = list(self.shorter.shape)
        shape[self.dim] = len(self.kept) + len(self.lost)
        whole = self.shorter.new_empty(shape)
        whole.index_copy_(self.dim, self.kept, self.shorter).index_copy_(self.dim, self.lost, self.rest)
        return whole.requires_grad_(self.requires_grad)


@dataclass(frozen=True)
class Folded:
    """A state without its network: all else of it, and how the network follows from the one before."""

    rest: State  # with an empty module
    choice: Choice | None
    changed: dict[str, Whole | Longer] = field(repr=False)


def folded(before: State, after: State, choice: Choice | None) -> Folded | None:
    """`after` as what a step, which carried out `choice` if any, made of `before`.

    None where it cannot be put that way, since its network is built otherwise.
    """
    changed = changed_tensors(before, after.model, choice)
    if changed is None:
        return None
    wholes = {id(tensor): Whole(tensor) for tensor in changed.values()}  # a tied one is one tensor
    return Folded(_without_model(after), choice, {name: wholes[id(one)] for name, one in changed.items()})


def unfolded(before: State, kept: Folded) -> State:
    """The state that `kept` is, to the bit; `before` is the state before it."""
    model = _cut(before, kept.choice)
    tensors: dict[int, Tensor] = {}
    for source in kept.changed.values():
        if id(source) not in tensors:
            tensors[id(source)] = source.get()
    put_tensors(model, {name: tensors[id(source)] for name, source in kept.changed.items()})
    return replace(kept.rest, model=model, problems={})


def refolded(kept: Folded, state: State) -> Folded:
    """The same network with all else of `state`, which may have been measured anew."""
    return replace(kept, rest=_without_model(state))


def shortened(kept: Folded, after: State, choice: Choice | None) -> Folded:
    """The same, where the next state `after`, which `choice` led to, has parts of its tensors."""
    if choice is None or not kept.changed:
        return kept
    shorter = dict(named_tensors(after.model))
    cuts = _cuts(named_group(kept.rest.groups, choice.group), choice)
    made: dict[int, Whole | Longer] = {}
    changed: dict[str, Whole | Longer] = {}
    for name, source in kept.changed.items():
        if id(source) not in made:
            made[id(source)] = _shortened(source, name, shorter.get(name), cuts)
        changed[name] = made[id(source)]
    return replace(kept, changed=changed)


def changed_tensors(before: State, model: nn.Module, choice: Choice | None) -> dict[str, Tensor] | None:
    """The tensors of `model` that cutting units out of `before` does not give, by name.

    None where `model` is built otherwise.
    """
    cut = _cut(before, choice)
    plain, found = dict(named_tensors(cut)), dict(named_tensors(model))
    modules = dict(cut.named_modules(remove_duplicate=False))
    for name in plain.keys() ^ found.keys():
        owner, _, key = name.rpartition(".")
        if name in plain or owner not in modules or key not in modules[owner]._parameters:
            return None
    return {name: tensor for name, tensor in found.items() if not _same(tensor, plain.get(name))}


def _cut(before: State, choice: Choice | None) -> nn.Module:
    if choice is None:
        return sharing_copy(before.model)
    return remove_units(before.model, before.groups, choice.group, choice.kept)[0]


def _without_model(state: State) -> State:
    return replace(state, model=nn.Module(), problems={})


def _same(a: Tensor, b: Tensor | None) -> bool:
    """The same to the bit, layout and all."""
    if b is None or a.stride() != b.stride() or a.requires_grad != b.requires_grad:
        return False
    return same_bits(a, b)


def _cuts(group: UnitGroup, choice: Choice) -> list[tuple[str, Tensor]]:
    """Prefixes of the names of tensors that the choice shortens, each with the indices that go there."""
    lost = lost_units(group, choice.kept)
    parts: dict[tuple[str, str], list[Tensor]] = {}
    for writer in (*group.writers, *group.norms):  # a layer may be there with several parts of its rows
        parts.setdefault((f"{writer.module}.", "rows"), []).append(writer.rows[lost].flatten())
    for reader in group.readers:
        parts.setdefault((f"{reader.module}.", "columns"), []).append(reader.columns[lost].flatten())
    for part in group.held:
        name = f"{part.module}.{part.tensor}"
        parts.setdefault((name, f"{part.dim}"), []).append(part.indices[lost].flatten())
    return [(prefix, torch.cat(gone).unique()) for (prefix, _), gone in parts.items()]


def _shortened(
    source: Whole | Longer, name: str, shorter: Tensor | None, cuts: list[tuple[str, Tensor]]
) -> Whole | Longer:
    if isinstance(source, Longer) or shorter is None or not source.tensor.is_contiguous():
        return source
    whole = source.tensor
    sizes = list(zip(whole.shape, shorter.shape, strict=False))
    axes = [dim for dim, (a, b) in enumerate(sizes) if a != b]
    if whole.dim() != shorter.dim() or len(axes) != 1 or whole.dtype != shorter.dtype:
        return source
    dim = axes[0]
    for prefix, gone in cuts:
        if not name.startswith(prefix) or whole.shape[dim] - len(gone) != shorter.shape[dim]:
            continue
        if int(gone.max()) >= whole.shape[dim]:
            continue
        stays = torch.ones(whole.shape[dim], dtype=torch.bool)
        stays[gone] = False
        kept, lost = (where.nonzero().flatten().to(whole.device) for where in (stays, ~stays))
        rest = whole.detach().index_select(dim, lost)
        if rest.nbytes + kept.nbytes + lost.nbytes > _WORTH * whole.nbytes:
            continue
        if torch.equal(whole.detach().index_select(dim, kept), shorter):
            return Longer(shorter.detach(), rest, dim, kept, lost, whole.requires_grad)
    return source
