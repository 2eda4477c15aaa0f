"""Experts whose weights are kept in one tensor for all made experts of linear layers, one after another."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.rebuilt.probing import (
    SCALES,
    can_stand_for,
    close,
    in_place_of,
    is_wrapped,
    with_random_parameters,
)
from workbench.network.training import untouched_randomness

TOKENS = 17  # of a probe: some experts get several, some none


class Expert(nn.Module):
    """down(act(gate(x)) · up(x))."""

    def __init__(self, gate: nn.Linear, up: nn.Linear, down: nn.Linear, act: Any):
        super().__init__()
        self.gate, self.up, self.down, self.act = gate, up, down, act

    def forward(self, x: Tensor) -> Tensor:
        """(tokens, features) → (tokens, features)."""
        return self.down(self.act(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """Every token goes to the experts that were chosen for it, and their answers are summed by weight."""

    def __init__(self, experts: list[Expert]):
        super().__init__()
        self.experts = nn.ModuleList(experts)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Tokens (n, features), the experts of each (n, k), their weights (n, k) → (n, features)."""
        out = torch.zeros_like(hidden_states)
        for number, expert in enumerate(self.experts):
            tokens, places = torch.where(top_k_index == number)
            if torch.compiler.is_exporting() or len(tokens):
                found = expert(hidden_states[tokens]) * top_k_weights[tokens, places, None]
                out = out.index_add(0, tokens, found.to(out.dtype))
        return out


def are_experts(module: nn.Module) -> bool:
    """A module of someone's own with the weights of gated experts: (e, 2·hidden, n) and (e, n, hidden)."""
    own = [parameter for parameter in module._parameters.values() if parameter is not None]
    if len(own) != 2 or any(p.dim() != 3 or not p.is_floating_point() for p in own):
        return False
    (first, wide, n), (second, out, hidden) = own[0].shape, own[1].shape
    return (first, wide, n) == (second, 2 * hidden, out) and callable(getattr(module, "act_fn", None))


@torch.no_grad()
def as_experts(module: Any, asked: Collection[str] = ()) -> nn.Module:
    """The experts one by one, where these compute what `module` does on random tokens; else `module`.

    `asked`: names of attributes and classes that the code of the modules around it mentions.
    """
    if is_wrapped(module):
        return module
    with suppress(Exception):  # whatever it does on numbers that it never saw: it is left
        mixed = with_random_parameters(module)
        for parameter in mixed.parameters():
            parameter.data /= parameter.shape[-1] ** 0.5
        apart, (tokens, *routing) = _one_by_one(mixed), _probe(mixed)
        for training, scale in [(mode, scale) for mode in (False, True) for scale in SCALES]:
            probe = (scale * tokens, *routing)
            with untouched_randomness():
                theirs, ours = mixed.train(training)(*probe), apart.train(training)(*probe)
            if not close(theirs, ours):
                return module
        new = in_place_of(module, _one_by_one(module))
        return new if can_stand_for(module, new, asked, (tokens, *routing)) else module
    return module


def _one_by_one(module: Any) -> Experts:
    wide, out = (parameter for parameter in module._parameters.values() if parameter is not None)
    experts = []
    for gate_and_up, down in zip(wide, out, strict=True):
        gate, up = gate_and_up.chunk(2)
        linears = (_linear(gate, wide), _linear(up, wide), _linear(down, out))
        experts.append(Expert(*linears, module.act_fn))
    return Experts(experts)


def _linear(weight: Tensor, whole: Tensor) -> nn.Linear:
    """A layer with a part of a parameter."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=whole.requires_grad)
    return layer


def _probe(module: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, the experts of each, and their weights."""
    weight = next(module.parameters())
    count, _, features = weight.shape
    generator = torch.Generator().manual_seed(3)
    chosen = torch.rand(TOKENS, count, generator=generator).argsort(1)[:, : min(2, count)]
    tokens, shares = (
        torch.randn(TOKENS, features, generator=generator),
        torch.rand(chosen.shape, generator=generator),
    )
    like = {"device": weight.device, "dtype": weight.dtype}
    return tokens.to(**like), chosen.to(weight.device), (shares + 0.1).to(**like)
