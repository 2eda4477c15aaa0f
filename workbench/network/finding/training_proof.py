"""Proof of what training mode alone does: a network without some units runs as if they were silent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from workbench.network.groups import UnitGroup
from workbench.network.layers import is_linear_layer, layer_weight, set_layer_weight
from workbench.network.running import Inputs, call, one_line, tensors_of
from workbench.network.tensors import sharing_copy, sizes_beside
from workbench.network.training import seed, training_at_rest, untouched_randomness

TOLERANCE = 1e-5


class TrainingTrials:
    """What training mode alone does, on trial: norms and dropout rest, the random numbers are the same."""

    def __init__(self, model: nn.Module, example: Inputs, random: bool):
        self.model, self.example, self.random = model, example, random

    def failure(self, pruned: nn.Module, groups: Sequence[UnitGroup], lost: Mapping[str, Tensor]) -> str:
        """Why the `lost` units of `groups` cannot go in training mode, '' where they can.

        `pruned` is the network in evaluation mode without them. Where training mode is random, numbers that
        are drawn for fewer units are others: there the pruned network has to run, and no more.
        """
        with torch.no_grad(), untouched_randomness():
            try:
                found = _outputs(training_at_rest(pruned), self.example)
            except Exception as error:
                return f"removing its units breaks the network in training mode: {one_line(error)}"
            if self.random or _alike(found, _outputs(self._silenced(groups, lost), self.example)):
                return ""
        return "removing its units is not the same as silencing them in training mode"

    def _silenced(self, groups: Sequence[UnitGroup], lost: Mapping[str, Tensor]) -> nn.Module:
        """A copy whose readers take nothing of the lost units."""
        silenced = sharing_copy(self.model)
        weights: dict[nn.Module, Tensor] = {}
        for group in groups:
            for layer, columns in _read(group, silenced):
                if layer not in weights:
                    weights[layer] = layer_weight(layer).detach().clone()
                weights[layer][:, columns[lost[group.name]].flatten()] = 0
        for layer, weight in weights.items():
            set_layer_weight(layer, weight)
        return silenced


def training_trials(model: nn.Module, example: Inputs) -> TrainingTrials | None:
    """Trials of `model`, which is in evaluation mode, in training mode.

    None where training mode, norms and dropout at rest, gives the same outputs or does not run on inputs
    alone.
    """
    with torch.no_grad(), untouched_randomness():
        trained = training_at_rest(model)
        try:
            first = _outputs(trained, example)
            if _alike(first, _outputs(model, example)):
                return None
            return TrainingTrials(trained, example, not _alike(first, _outputs(trained, example, number=1)))
        except Exception:
            return None


def _read(group: UnitGroup, model: nn.Module) -> list[tuple[nn.Module, Tensor]]:
    """Layers that read the group's units, in training mode alone too, with the columns of each unit."""
    readers = [(model.get_submodule(reader.module), reader.columns) for reader in group.readers]
    held = [(model.get_submodule(part.module), part.indices) for part in group.held]
    return readers + [(layer, columns) for layer, columns in held if is_linear_layer(layer)]


def _outputs(model: nn.Module, example: Inputs, number: int = 0) -> list[Tensor]:
    seed(number)
    return tensors_of(call(model, example))


def _alike(first: list[Tensor], second: list[Tensor]) -> bool:
    """Whether outputs agree; single numbers, penalties on the weights mostly, are passed over."""
    return len(first) == len(second) and all(
        a.shape == b.shape and (not a.dim() or _close(a.detach(), b.detach()))
        for a, b in zip(first, second, strict=True)
    )


def _close(a: Tensor, b: Tensor) -> bool:
    if a.is_complex() or b.is_complex():
        a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
    a, b = a.double(), b.double()
    finite = a.isfinite() & b.isfinite()
    alike = (a == b) | (a.isnan() & b.isnan())
    a, b = (torch.where(finite, t, 0.0) for t in (a, b))
    near = (a - b).abs() <= TOLERANCE * (b.abs() + sizes_beside(b))
    return bool(torch.where(finite, near, alike).all())
