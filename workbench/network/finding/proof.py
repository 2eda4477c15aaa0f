"""Proof on a batch: a group is prunable only if removing units equals zeroing what their readers get."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.copying import copied
from workbench.network.fewer import few_examples
from workbench.network.finding.assembly import discover
from workbench.network.finding.training_proof import proved_in_training
from workbench.network.groups import Attribute, Reader, UnitGroup, features_last, renumbered
from workbench.network.layers import is_linear_layer, output_count
from workbench.network.running import (
    Inputs,
    call,
    call_order,
    mapped,
    one_line,
    received,
    tensors_of,
)
from workbench.network.surgery import shrink

PROOF_TOLERANCE = 1e-5
TRACED_EXAMPLES = 2
ATTRIBUTE_CANDIDATES = 6  # numbers of the modules around that may have to fall with the units


def find_groups(model: nn.Module, example_input: Inputs) -> tuple[UnitGroup, ...]:
    """Every group of units of `model`, proved prunable or with the reason why not (method.md §1).

    `example_input` (batch, …), on the model's device, is run through copies of the model; the model is not
    changed. Groups come in the order in which the network runs them.

    Raises ValueError where the example does not go through the model.
    """
    reference = copied(model).eval().requires_grad_(False)
    traced = few_examples(reference, example_input, TRACED_EXAMPLES)
    ran = set(call_order(reference, traced))  # so that a wrong example is said as such
    if any(name not in ran for name, module in reference.named_modules() if is_linear_layer(module)):
        traced = example_input  # experts and branches that other examples may reach
    groups = discover(reference, traced)
    reference, example_input = _in_double(reference, example_input)
    if _is_random(reference, few_examples(reference, example_input, TRACED_EXAMPLES)):
        reason = (
            "the network gives other outputs when it is run twice, even in evaluation mode: it is random, or "
            "keeps a state, so nothing can be proved of it"
        )
        return tuple(replace(g, prunable=False, why_not=g.why_not or reason) for g in groups)
    found, owners = {}, _owners(reference)
    for group in groups:
        reason = group.why_not or _structural_reason(group, reference, owners)
        found[group.name] = replace(group, prunable=not reason, why_not=reason)
    candidates = [group for group in found.values() if group.prunable]
    found |= {group.name: group for group in _proved(candidates, reference, example_input)}
    return proved_in_training(tuple(found.values()), reference, example_input)


@torch.no_grad()
def _is_random(model: nn.Module, example: Inputs) -> bool:
    first, second = tensors_of(call(model, example)), tensors_of(call(model, example))
    return any(not torch.equal(a, b) for a, b in zip(first, second, strict=False) if not a.isnan().any())


def _owners(model: nn.Module) -> dict[int, list[str]]:
    """Names of the modules that hold each parameter."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    return owners


def _structural_reason(group: UnitGroup, model: nn.Module, owners: dict[int, list[str]]) -> str:
    parts = [w.module for w in (*group.writers, *group.norms)] + [r.module for r in group.readers]
    for part in [*parts, *(held.module for held in group.held if held.tensor == "weight")]:
        layer = model.get_submodule(part)
        if hasattr(layer, "parametrizations"):
            how = "torch.nn.utils.parametrize.remove_parametrizations"
            return f"{part} is parametrized (weight or spectral norm): remove that first ({how})"
        if isinstance(getattr(layer, "weight", None), Tensor) and "weight" not in layer._parameters:
            how = "torch.nn.utils.remove_weight_norm, torch.nn.utils.prune.remove"
            return f"the weight of {part} is made anew at every call: remove that first ({how})"
        for parameter in layer.parameters(recurse=False):
            others = {name for name in owners[id(parameter)] if model.get_submodule(name) is not layer}
            if others:
                return f"the weights of {part} are shared with {', '.join(sorted(others))}"
    return ""


def _proved(groups: list[UnitGroup], model: nn.Module, example: Inputs) -> list[UnitGroup]:
    """All at once where that holds; else each half for itself."""
    if not groups:
        return []
    reason, broken = _disproof(groups, model, example)
    if not reason:
        return groups
    if len(groups) > 1:
        middle = len(groups) // 2
        return _proved(groups[:middle], model, example) + _proved(groups[middle:], model, example)
    (group,) = groups
    repaired = _repaired(group, model, example) if broken else None
    return [repaired or replace(group, prunable=False, why_not=reason)]


def _repaired(group: UnitGroup, model: nn.Module, example: Inputs) -> UnitGroup | None:
    """The group with the numbers of the modules around that must fall with its units, found by trying."""
    candidates = _attributes(group, model)
    for size in (1, 2, 3):
        for chosen in combinations(candidates, size):
            trial = replace(group, attributes=chosen)
            if not _disproof([trial], model, example)[0]:
                return trial
    return None


def _attributes(group: UnitGroup, model: nn.Module) -> list[Attribute]:
    """Whole numbers of the enclosing modules that count the group's units or its rows, the nearest first."""
    layers = [w.module for w in group.writers] + [r.module for r in group.readers]
    around = {name.rsplit(".", depth)[0] for name in layers for depth in range(1, name.count(".") + 1)} | {""}
    each = {w.rows.shape[1] for w in group.writers} | {r.positions for r in group.readers} | {1}
    found = []
    for name in sorted(around, key=lambda n: -n.count(".") - bool(n)):
        for key, value in vars(model.get_submodule(name)).items():
            if key.startswith("_") or isinstance(value, bool) or not isinstance(value, int):
                continue
            found += [Attribute(name, key, r) for r in sorted(each) if value == group.width * r]
    found.sort(key=lambda a: "head" not in a.name)
    return found[:ATTRIBUTE_CANDIDATES]


def _half(group: UnitGroup) -> Tensor:
    """The units that the proof removes: a random half, at least one stays."""
    generator = torch.Generator().manual_seed(group.width)
    return torch.randperm(group.width, generator=generator)[max(1, group.width // 2) :].sort().values


def _disproof(groups: Sequence[UnitGroup], model: nn.Module, example: Inputs) -> tuple[str, bool]:
    """Why removing half of the units is not zeroing their columns in the readers ('' where it is), and
    whether the network broke on it.

    Compared are the network's outputs and those of the readers, where nothing can hide a difference.
    """
    lost = {group.name: _half(group) for group in groups}
    alive = _surviving_rows(groups, lost, model)
    try:
        removed = _outputs(_without(model, groups, lost), groups, {}, example)
        whole = _outputs(model, groups, alive, example)
        with _zeroed(model, groups, lost):
            zeroed = _outputs(model, groups, alive, example)
    except Exception as error:
        return f"removing its units breaks the network, whose code fixes a size: {one_line(error)}", True
    if not len(whole) == len(removed) == len(zeroed):
        return "removing its units changes what the network returns", True
    for w, r, z in zip(whole, removed, zeroed, strict=True):
        if r.shape != z.shape:
            return "removing its units changes the shape of the network's output", True
        if _differs(w, r, z):
            return (
                "removing its units is not the same as silencing them: what reaches their readers depends on "
                "how many units there are, or on their places"
            ), False
    return "", False


def _without(model: nn.Module, groups: Sequence[UnitGroup], lost: dict[str, Tensor]) -> nn.Module:
    pruned, left = copy.deepcopy(model), {group.name: group for group in groups}
    sharing: dict[str, set[str]] = {}
    for group in groups:
        for module in _modules(group):
            sharing.setdefault(module, set()).add(group.name)
    for group in groups:
        maps = shrink(pruned, left[group.name], lost[group.name])
        gone = set(lost[group.name].tolist())
        kept = [j for j in range(group.width) if j not in gone]
        touched = sorted(set().union(*(sharing[module] for module in _modules(group))))
        changed = renumbered([left[name] for name in touched], group.name, kept, maps)
        left |= {one.name: one for one in changed}
    return pruned


def _modules(group: UnitGroup) -> list[str]:
    layers = [part.module for part in (*group.writers, *group.norms)]
    return layers + [reader.module for reader in group.readers] + [part.module for part in group.held]


def _surviving_rows(
    groups: Sequence[UnitGroup], lost: dict[str, Tensor], model: nn.Module
) -> dict[str, Tensor]:
    """Of layers that lose rows: the rows that stay."""
    gone: dict[str, list[Tensor]] = {}
    for group in groups:
        for writer in group.writers:
            gone.setdefault(writer.module, []).append(writer.rows[lost[group.name]].flatten())
    out = {}
    for name, parts in gone.items():
        module: Any = model.get_submodule(name)
        stays = torch.ones(output_count(module), dtype=torch.bool)
        stays[torch.cat(parts)] = False
        out[name] = stays.nonzero().flatten()
    return out


def _differs(whole: Tensor, removed: Tensor, zeroed: Tensor) -> bool:
    """Whether `removed` is not `zeroed`, measured against what zeroing did to `whole`."""
    if not zeroed.is_floating_point():
        return not torch.equal(removed, zeroed)
    if not zeroed.numel():
        return False
    finite = whole.isfinite() & removed.isfinite() & zeroed.isfinite()
    alike = (removed == zeroed) | (removed.isnan() & zeroed.isnan())  # infinities of a mask
    if not bool((finite | alike).all()):
        return True
    whole, removed, zeroed = (torch.where(finite, t, 0.0) for t in (whole, removed, zeroed))
    rounding = 1e4 * torch.finfo(zeroed.dtype).eps * zeroed.abs().max()
    effect = (whole - zeroed).abs().max()
    return not bool((removed - zeroed).abs().max() <= PROOF_TOLERANCE * effect + rounding)


@torch.no_grad()
def _outputs(
    model: nn.Module, groups: Sequence[UnitGroup], alive: dict[str, Tensor], example: Inputs
) -> list[Tensor]:
    """Outputs of the groups' readers at the rows `alive`, their biases left out, then the network's own."""
    seen: list[Tensor] = []
    kinds = {reader.module: reader.kind for group in groups for reader in group.readers}

    def note(name: str, kind: str, module: Any, output: Tensor) -> None:
        output = features_last(output, kind)
        if module.bias is not None:
            output = output - module.bias
        seen.append(output[..., alive[name]] if name in alive else output)

    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, _args, output, name=name, kind=kind: note(name, kind, module, output)
        )
        for name, kind in kinds.items()
    ]
    try:
        own = tensors_of(call(model, example))
        return [*seen, *own]
    finally:
        for handle in handles:
            handle.remove()


def _in_double(model: nn.Module, example: Inputs) -> tuple[nn.Module, Inputs]:
    """The proof runs in float64, so that rounding is not taken for a difference; else as it is."""
    try:
        double = copy.deepcopy(model).double()
        wide = mapped(example, lambda t: t.double() if t.is_floating_point() else t)
        with torch.no_grad():
            call(double, wide)
    except Exception:  # a model or a device that fixes its own dtype is proved in that dtype
        return model, example
    return double, wide


@contextmanager
def _zeroed(model: nn.Module, groups: Sequence[UnitGroup], lost: dict[str, Tensor]) -> Iterator[None]:
    """Within: the readers of the groups receive zero for the lost units."""

    def zero(args: tuple, kwargs: dict, reader: Reader, units: Tensor) -> tuple[tuple, dict]:
        inputs = received(args, kwargs).clone()
        features_last(inputs, reader.kind)[..., reader.columns[units].flatten()] = 0
        if args:
            return (inputs, *args[1:]), kwargs
        return (), {**kwargs, next(iter(kwargs)): inputs}

    handles = [
        model.get_submodule(reader.module).register_forward_pre_hook(
            lambda _m, args, kwargs, r=reader, units=lost[group.name]: zero(args, kwargs, r, units),
            with_kwargs=True,
        )
        for group in groups
        for reader in group.readers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
