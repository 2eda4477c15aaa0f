"""Experts whose weights are kept in one tensor for all made experts of linear layers, one after another."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.layers import linear_around
from workbench.network.rebuilt.probing import (
    agree,
    can_stand_for,
    in_place_of,
    is_wrapped,
    with_random_parameters,
)

TOKENS = 17  # of a probe: some experts get several, some none


class Gated(nn.Module):
    """act(gate) · up, of numbers that two layers gave."""

    def __init__(self, act: Any):
        super().__init__()
        self.act = act

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """(tokens, hidden) twice → (tokens, hidden)."""
        return self.act(gate) * up


class GatedByItself(nn.Module):
    """What a module's own `_apply_gate` makes of both, one behind the other or each beside its own."""

    def __init__(self, module: nn.Module, beside: bool):
        super().__init__()
        self.module, self.beside = module, beside

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """(tokens, hidden) twice → (tokens, hidden)."""
        both = torch.stack([gate, up], -1).flatten(-2) if self.beside else torch.cat([gate, up], -1)
        apply: Any = self.module._apply_gate
        return apply(both)


class Expert(nn.Module):
    """down(mix(gate(x), up(x)))."""

    def __init__(self, gate: nn.Linear, up: nn.Linear, down: nn.Linear, mix: nn.Module):
        super().__init__()
        self.gate, self.up, self.down, self.mix = gate, up, down, mix

    def forward(self, x: Tensor) -> Tensor:
        """(tokens, features) → (tokens, features)."""
        return self.down(self.mix(self.gate(x), self.up(x)))


@dataclass(frozen=True)
class _Form:
    """How weights lie: `turned`, inputs before outputs; `beside`, each gate beside its up.

    `own`: they are gated by the module's own code.
    """

    turned: bool
    beside: bool
    own: bool


class Experts(nn.Module):
    """Every token goes to the experts that were chosen for it, and their answers are summed by weight."""

    def __init__(self, experts: list[Expert], names: tuple[str, ...]):
        super().__init__()
        self.experts, self.names = nn.ModuleList(experts), names  # what code around calls the three arguments

    def forward(self, *given: Tensor, **named: Tensor) -> Tensor:
        """Tokens (n, features), the experts of each (n, k), their weights (n, k) → (n, features)."""
        by_name = [named[name] for name in self.names if name in named]
        hidden_states, top_k_index, top_k_weights = (*given, *by_name)
        out = torch.zeros_like(hidden_states)
        for number, expert in enumerate(self.experts):
            tokens, places = torch.where(top_k_index == number)
            if torch.compiler.is_exporting() or len(tokens):
                found = expert(hidden_states[tokens]) * top_k_weights[tokens, places, None]
                out = out.index_add(0, tokens, found.to(out.dtype))
        return out


def are_experts(module: nn.Module) -> bool:
    """A module of someone's own with the weights of gated experts, (e, 2·hidden, n) and (e, n, hidden).

    Or with inputs before outputs; and with biases, or without.
    """
    return bool(_forms(module))


def _tensors(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Its weights, three axes each, and its biases, two."""
    own = [parameter for parameter in module._parameters.values() if parameter is not None]
    if not own or any(p.dim() not in (2, 3) or not p.is_floating_point() for p in own):
        return [], []
    return [p for p in own if p.dim() == 3], [p for p in own if p.dim() == 2]


def _forms(module: nn.Module) -> list[_Form]:
    """The forms that the shapes of its parameters allow, the likeliest first."""
    weights, biases = _tensors(module)
    if len(weights) != 2 or len(biases) not in (0, 2):
        return []
    found = []
    for turned in (False, True):
        (first, wide, n), (second, out, hidden) = (
            (e, b, a) if turned else (e, a, b) for e, a, b in (weight.shape for weight in weights)
        )
        fits = (first, wide, n) == (second, 2 * hidden, out)
        if biases:
            fits = fits and [tuple(bias.shape) for bias in biases] == [(first, wide), (first, n)]
        if fits and callable(getattr(module, "act_fn", None)):
            found += [_Form(turned, beside, own=False) for beside in (False, True)]
        if fits and callable(getattr(module, "_apply_gate", None)):
            found += [_Form(turned, beside, own=True) for beside in _pairs(module, hidden)]
    return found


def _pairs(module: Any, hidden: int) -> list[bool]:
    """Whether the module's own code takes the first unit of neighbours, or of two halves; [] of neither."""
    with torch.enable_grad(), suppress(Exception):
        both = torch.linspace(0.1, 0.2, 2 * hidden)[None].requires_grad_()  # none is clamped
        (slope,) = torch.autograd.grad(module._apply_gate(both)[0, 0], both)
        met = set(slope[0].nonzero().flatten().tolist())
        return [beside for beside, pair in ((True, {0, 1}), (False, {0, hidden})) if met == pair]
    return []


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
        for form in _forms(module):
            tokens, *routing = _probe(mixed, form)
            if agree(mixed, _one_by_one(mixed, form), [tokens], routing):
                new = in_place_of(module, _one_by_one(module, form))
                return new if can_stand_for(module, new, asked, (tokens, *routing)) else module
    return module


def _one_by_one(module: Any, form: _Form) -> Experts:
    (wide, out), biases = _tensors(module)
    mix = GatedByItself(_without_parameters(module), form.beside) if form.own else Gated(module.act_fn)
    experts = []
    for number in range(len(wide)):
        both, down = (weight[number].T if form.turned else weight[number] for weight in (wide, out))
        rows = [slice(0, None, 2), slice(1, None, 2)] if form.beside else _halves(len(both))
        gate, up = (
            _linear(both[part], biases[0][number, part] if biases else None, wide.requires_grad)
            for part in rows
        )
        last = _linear(down, biases[1][number] if biases else None, out.requires_grad)
        experts.append(Expert(gate, up, last, mix))
    names = tuple(inspect.signature(module.forward).parameters)
    return Experts(experts, names)


def _halves(rows: int) -> list[slice]:
    return [slice(0, rows // 2), slice(rows // 2, rows)]


def _without_parameters(module: nn.Module) -> nn.Module:
    """The module for its code and its numbers alone."""
    bare = module.__new__(type(module))
    bare.__dict__ = dict(vars(module)) | {"_parameters": {}}
    return bare


def _linear(weight: Tensor, bias: Tensor | None, learns: bool) -> nn.Linear:
    """A layer with copies of parts of parameters."""
    own = nn.Parameter(weight.detach().contiguous().clone(), learns)
    return linear_around(own, None if bias is None else nn.Parameter(bias.detach().clone(), learns))


def _probe(module: Any, form: _Form) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, the experts of each, and their weights."""
    weight: Any = _tensors(module)[0][0]
    count, features = len(weight), weight.shape[1 if form.turned else 2]
    generator = torch.Generator().manual_seed(3)
    chosen = torch.rand(TOKENS, count, generator=generator).argsort(1)[:, : min(2, count)]
    tokens, shares = (
        torch.randn(TOKENS, features, generator=generator),
        torch.rand(chosen.shape, generator=generator),
    )
    like = {"device": weight.device, "dtype": weight.dtype}
    return tokens.to(**like), chosen.to(weight.device), (shares + 0.1).to(**like)
