"""What stands in a group's way before it is tried: weights made anew at every call, or shared by layers."""

from __future__ import annotations

from torch import Tensor, nn

from workbench.network.groups import UnitGroup


def owners_of(model: nn.Module) -> dict[int, list[str]]:
    """Names of the modules that hold each parameter."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    return owners


def structural_reason(group: UnitGroup, model: nn.Module, owners: dict[int, list[str]]) -> str:
    """Why a layer of the group cannot be cut, '' where it can; `owners`: as `owners_of` gives them."""
    parts = [w.module for w in (*group.writers, *group.norms)] + [r.module for r in group.readers]
    for part in [*parts, *(held.module for held in group.held if held.tensor == "weight")]:
        layer = model.get_submodule(part)
        if hasattr(layer, "parametrizations"):
            how = "torch.nn.utils.parametrize.remove_parametrizations"
            return f"{part} is parametrized (weight or spectral norm): remove that first ({how})"
        kept = layer._parameters.keys() | layer._buffers.keys()
        if isinstance(getattr(layer, "weight", None), Tensor) and "weight" not in kept:
            how = "torch.nn.utils.remove_weight_norm, torch.nn.utils.prune.remove"
            return f"the weight of {part} is made anew at every call: remove that first ({how})"
        for parameter in layer.parameters(recurse=False):
            others = {name for name in owners[id(parameter)] if model.get_submodule(name) is not layer}
            if others:
                return f"the weights of {part} are shared with {', '.join(sorted(others))}"
    return ""
