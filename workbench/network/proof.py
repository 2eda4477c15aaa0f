"""Proof on a batch: a group is prunable only if removing units equals zeroing what their readers get."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.discovery import discover, one_line
from workbench.network.groups import CONVOLUTIONS, Reader, UnitGroup, features_last
from workbench.network.running import received
from workbench.network.surgery import remove_units

PROOF_TOLERANCE = 1e-5


def find_groups(model: nn.Module, example_input: Tensor) -> tuple[UnitGroup, ...]:
    """Every group of units of `model`, proved prunable or with the reason why not (method.md §1).

    `example_input` (batch, …), on the model's device, is run through copies of the model; the model is not
    changed. Groups come in the order in which the network runs them.

    Raises ValueError where the example does not go through the model.
    """
    reference = copy.deepcopy(model).eval().requires_grad_(True)
    groups = discover(reference, example_input)
    if _is_random(reference, example_input):
        reason = "the forward pass is random even in evaluation mode, so nothing can be proved of it"
        groups = [replace(group, why_not=group.why_not or reason) for group in groups]
    return tuple(_checked(group, reference, example_input) for group in groups)


@torch.no_grad()
def _is_random(model: nn.Module, example: Tensor) -> bool:
    first, second = _tensors(model(example)), _tensors(model(example))
    return any(not torch.equal(a, b) for a, b in zip(first, second, strict=False) if not a.isnan().any())


def _checked(group: UnitGroup, model: nn.Module, example: Tensor) -> UnitGroup:
    """The group, or the group refused with the first reason that holds."""
    reason = group.why_not or _structural_reason(group, model) or _disproof(group, model, example)
    return replace(group, prunable=not reason, why_not=reason)


def _structural_reason(group: UnitGroup, model: nn.Module) -> str:
    if not group.readers:
        return "its units are the network's outputs: no linear layer reads them"
    if group.width < 2:
        return "it has a single unit"
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    parts = [p.module for p in (*group.writers, *group.norms)] + [r.module for r in group.readers]
    for part in parts:
        if hasattr(model.get_submodule(part), "parametrizations"):
            return f"{part} is parametrized (weight or spectral norm): remove that first"
        for parameter in model.get_submodule(part).parameters(recurse=False):
            if len(owners[id(parameter)]) > 1:
                others = ", ".join(n for n in owners[id(parameter)] if n != part)
                return f"the weights of {part} are shared with {others}"
    return ""


def _disproof(group: UnitGroup, model: nn.Module, example: Tensor) -> str:
    """'' where removing half of the units equals zeroing their columns in the readers; else the reason.

    Compared are the network's outputs and those of the readers, where nothing can hide a difference.
    """
    generator = torch.Generator().manual_seed(group.width)
    shuffled = torch.randperm(group.width, generator=generator)
    kept = shuffled[: max(1, group.width // 2)].sort().values.tolist()
    lost = sorted(set(range(group.width)) - set(kept))
    model, example = _in_double(model, example)
    try:
        pruned, _ = remove_units(model, (group,), group.name, kept)
        whole, removed = _outputs(model, group, example), _outputs(pruned, group, example)
        with _zeroed(model, group, lost):
            zeroed = _outputs(model, group, example)
    except Exception as error:
        return f"removing its units breaks the network: {one_line(error)}"
    if not len(whole) == len(removed) == len(zeroed):
        return "removing its units changes what the network returns"
    for w, r, z in zip(whole, removed, zeroed, strict=True):
        reason = _difference(w, r, z)
        if reason:
            return reason
    return ""


def _difference(whole: Tensor, removed: Tensor, zeroed: Tensor) -> str:
    """Why `removed` is not `zeroed`, measured against what zeroing did to `whole`; '' where it is."""
    if removed.shape != zeroed.shape:
        return "removing its units changes the shape of the network's output"
    mixed = "removing its units is not the same as silencing them: they are mixed before their readers"
    if not zeroed.is_floating_point():
        return "" if torch.equal(removed, zeroed) else mixed
    if not zeroed.numel():
        return ""
    rounding = 1e4 * torch.finfo(zeroed.dtype).eps * zeroed.abs().max()
    effect = (whole - zeroed).abs().max()
    within = (removed - zeroed).abs().max() <= PROOF_TOLERANCE * effect + rounding
    return "" if within else mixed


@torch.no_grad()
def _outputs(model: nn.Module, group: UnitGroup, example: Tensor) -> list[Tensor]:
    """Outputs of the group's readers, their biases left out, then the network's own."""
    writers = {writer.module for writer in group.writers}
    seen: list[Tensor] = []

    def note(module: Any, _args: tuple, output: Tensor) -> None:
        if module.bias is not None:
            ones = [1] * (output.dim() - 2) if isinstance(module, CONVOLUTIONS) else []
            output = output - module.bias.reshape(-1, *ones)
        seen.append(output)

    # A reader that also writes the group has fewer outputs when pruned: its own readers speak for it.
    readers = [model.get_submodule(r.module) for r in group.readers if r.module not in writers]
    handles = [reader.register_forward_hook(note) for reader in readers]
    try:
        own = _tensors(model(example))
        return [*seen, *own]
    finally:
        for handle in handles:
            handle.remove()


def _in_double(model: nn.Module, example: Tensor) -> tuple[nn.Module, Tensor]:
    """The proof runs in float64, so that rounding is not taken for a difference; else as it is."""
    if not example.is_floating_point():
        return model, example
    double = copy.deepcopy(model).double()
    try:
        with torch.no_grad():
            double(example.double())
    except Exception:  # a model that fixes its own dtype is proved in that dtype
        return model, example
    return double, example.double()


class _zeroed:  # noqa: N801 (a context manager, used like a function)
    """Within: the readers of `group` receive zero for the `lost` units."""

    def __init__(self, model: nn.Module, group: UnitGroup, lost: list[int]):
        self.targets = [(model.get_submodule(r.module), r, lost) for r in group.readers]

    def __enter__(self):
        self.handles = [
            module.register_forward_pre_hook(
                lambda _m, args, kwargs, r=reader, lost=lost: self._zero(args, kwargs, r, lost),
                with_kwargs=True,
            )
            for module, reader, lost in self.targets
        ]

    @staticmethod
    def _zero(args: tuple, kwargs: dict, reader: Reader, lost: list[int]):
        inputs = received(args, kwargs).clone()
        view = features_last(inputs, reader.kind)
        view[..., reader.columns[lost].flatten()] = 0
        return (inputs,), {}

    def __exit__(self, *exc):
        for handle in self.handles:
            handle.remove()


def _tensors(output) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        return [tensor for part in output for tensor in _tensors(part)]
    return []
