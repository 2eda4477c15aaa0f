"""An oracle of its own for pruning: hooks that zero what readers receive, nothing taken from the surgery."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import workbench as wb
from workbench.network.groups import UnitGroup
from workbench.network.running import Inputs, call
from workbench.network.surgery import remove_units

CHANNEL_AXIS = {"Conv1d": -2, "Conv2d": -3, "Conv3d": -4}
CHANNEL_AXIS |= {f"ConvTranspose{n}d": CHANNEL_AXIS[f"Conv{n}d"] for n in (1, 2, 3)}


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        value = list(value.values())
    return [t for part in value for t in tensors(part)] if isinstance(value, (list, tuple)) else []


@torch.no_grad()
def silenced_outputs(
    model: nn.Module, lost: Mapping[str, Sequence[int]], groups: Sequence[UnitGroup], x: Inputs
) -> list[Tensor]:
    """What the whole network returns while the readers of each group receive 0 for its lost units."""
    gone: dict[str, set[int]] = {}
    for group in groups:
        for reader in group.readers:
            columns = [c for unit in lost.get(group.name, ()) for c in reader.columns[unit].tolist()]
            gone.setdefault(reader.module, set()).update(columns)

    def zero(columns: list[int], axis: int):
        def hook(_module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
            name = "" if args else next(iter(kwargs))
            given = (args[0] if args else kwargs[name]).clone()
            given.index_fill_(axis, torch.tensor(columns, dtype=torch.long), 0.0)
            return ((given, *args[1:]), kwargs) if args else ((), kwargs | {name: given})

        return hook

    def axis_of(module: nn.Module) -> int:
        return next(
            (CHANNEL_AXIS[k.__name__] for k in type(module).__mro__ if k.__name__ in CHANNEL_AXIS), -1
        )

    modules = dict(model.named_modules())
    handles = [
        modules[name].register_forward_pre_hook(
            zero(sorted(columns), axis_of(modules[name])), with_kwargs=True
        )
        for name, columns in gone.items()
    ]
    try:
        return tensors(call(model, x))
    finally:
        for handle in handles:
            handle.remove()


def random_kept(width: int, generator: random.Random) -> list[int]:
    return sorted(generator.sample(range(width), generator.randint(1, width - 1)))


def difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Largest difference, relative to the largest number; where both are the same infinity there is none."""
    assert [t.shape for t in ours] == [t.shape for t in theirs]
    pairs = [(a.double(), b.double()) for a, b in zip(ours, theirs, strict=True) if a.numel()]
    largest = max((float(b.nan_to_num(0.0, 0.0, 0.0).abs().max()) for _, b in pairs), default=0.0)
    apart = torch.tensor([float(torch.where(a == b, 0.0, (a - b).abs()).max()) for a, b in pairs] or [0.0])
    return float(apart.nan_to_num(nan=float("inf")).max()) / (largest or 1.0)


def lively(model: nn.Module, x: Tensor | None = None) -> nn.Module:
    """In float64 and evaluation mode; no scale is 0, no norm the identity; `x` settles batch norms.

    With the statistics of a network's start a signal fades, and so does what a wrong removal would change.
    """
    torch.manual_seed(0)
    model.double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2 or "gamma" in name or "layer_scale" in name:
                parameter.add_(0.3 * torch.rand_like(parameter) + 0.1)
            elif not parameter.any():  # a head that starts at 0 hides all before it
                parameter.normal_(0, 0.1)
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms if x is None else ():
            norm.running_mean.add_(0.3 * torch.rand_like(norm.running_mean))
            norm.running_var.add_(0.3 * torch.rand_like(norm.running_var))
        if x is not None:
            for norm in norms:
                norm.train()
                norm.momentum = 1.0
            model(x)
    return model.eval()


def open_session(model: nn.Module, x: Tensor) -> wb.Session:
    """A measured session on the model itself."""
    session = wb.Session(model, [x])
    session.measure()
    return session


def each_alone(
    model: nn.Module, groups: Sequence[UnitGroup], x: Tensor, seed: int = 0, times: int = 1
) -> dict[str, tuple[float, float]]:
    """Every prunable group alone at random kept units: removal from silencing, silencing from whole.

    Both are relative to the largest output; the larger of `times` tries.
    """
    generator, out = random.Random(seed), {}
    whole = silenced_outputs(model, {}, groups, x)
    for group in groups:
        for _ in range(times if group.prunable else 0):
            kept = random_kept(group.width, generator)
            pruned, _ = remove_units(model, groups, group.name, kept)
            with torch.no_grad():
                ours = tensors(pruned(x))
            lost = {group.name: sorted(set(range(group.width)) - set(kept))}
            silent = silenced_outputs(model, lost, groups, x)
            found = (difference(ours, silent), difference(silent, whole))
            out[group.name] = tuple(map(max, found, out.get(group.name, found)))
    return out


def worst_together(
    model: nn.Module, groups: Sequence[UnitGroup], x: Tensor, times: int = 1, seed: int = 0
) -> float:
    """Units of all groups at once, of each another share: how far removal is from silencing."""
    generator, worst = random.Random(seed), 0.0
    for _ in range(times):
        kept = {g.name: random_kept(g.width, generator) for g in groups if g.prunable}
        pruned, left = model, tuple(groups)
        for name, units in kept.items():
            pruned, left = remove_units(pruned, left, name, units)
        lost = {g.name: sorted(set(range(g.width)) - set(kept[g.name])) for g in groups if g.prunable}
        with torch.no_grad():
            ours = tensors(pruned(x))
        worst = max(worst, difference(ours, silenced_outputs(model, lost, groups, x)))
    return worst


def worst_of_plans(session: wb.Session, x: Tensor, plans: int, seed: int = 0, memory: float = 2e9) -> float:
    """Random plans with unequal widths, committed and undone: how far the result is from silencing.

    A plan takes as many groups as there may be copies of the network in `memory` bytes.
    """
    generator, worst = random.Random(seed), 0.0
    groups = [g for g in session.groups if g.prunable]
    size = sum(t.numel() * t.element_size() for t in session.original.parameters())
    for _ in range(plans):
        chosen = generator.sample(groups, min(len(groups), max(2, int(memory / size))))
        session.commit_plan(
            {g.name: generator.randint(1, g.width - 1) for g in chosen}, reconstruction="none"
        )
        lost = {g.name: sorted(set(range(g.width)) - set(session._state.units[g.name])) for g in groups}
        with torch.no_grad():
            ours = tensors(session.model(x))
        found = difference(ours, silenced_outputs(copy.deepcopy(session.original), lost, groups, x))
        worst = max(worst, found)
        session.reset()
    return worst
