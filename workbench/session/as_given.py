"""Whether a network that was taken apart, and has run, still is the one that was given."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from workbench.network.copying import copied
from workbench.network.rebuilt.bare_matrices import bare_layers_within
from workbench.network.rebuilt.explicit import explicit
from workbench.network.rebuilt.probing import ROUNDING
from workbench.network.rebuilt.resolved import is_resolvable
from workbench.network.running import Inputs, call, mapped, tensors_of
from workbench.network.tensors import named_tensors, same_bits
from workbench.network.training import seed, untouched_randomness
from workbench.session.forms import Passed, first_pass
from workbench.session.recipe import fingerprint

MOST = 0.1  # of the largest number: what rounding may make of it in types of few digits


def as_given(
    model: nn.Module, original: nn.Module, data: Iterable, example: Inputs | None
) -> tuple[nn.Module, str, Passed]:
    """The network that a session is about, and its first pass.

    Code that goes through all parameters or modules, or asks for the very class, sees that bare parameters
    became layers: where its outputs are others then, they stay bare.

    Args:
        model: the network as it was given.
        original: a copy of it taken apart, as `explicit` makes it, in evaluation mode.
        data, example: as for `first_pass`.

    Returns:
        (`original` or one whose matrices stay bare, its fingerprint where it does not tell that itself, what
        `first_pass` returns of it).

    Raises:
        ValueError: as `first_pass`.
    """
    if bare_layers_within(original):
        written = explicit(copied(model).eval(), matrices=False)
        passed = first_pass(written, data, example)
        if not _is_same(original, written, passed[1]):
            return written, fingerprint(model), passed
    owners = dict(model.named_modules())
    computed = {  # by layers, from what they were given; what else differs was written into by trying it
        name: t.detach().clone()
        for name, (t, own) in _pairs(original, model).items()
        if not same_bits(t, own) and is_resolvable(owners[name.rpartition(".")[0]])
    }
    passed = first_pass(original, data, example)
    pairs = _pairs(original, model)
    unwritten = all(same_bits(found, computed.get(name, own)) for name, (found, own) in pairs.items())
    return original, "" if unwritten else fingerprint(model), passed


def _pairs(original: nn.Module, model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """(a tensor, what was given) by name, where the two networks have tensors of one name and shape."""
    given = dict(named_tensors(model))
    now = dict(named_tensors(original))
    for layer, attribute in bare_layers_within(original).items():
        owner = layer.rpartition(".")[0]
        now[f"{owner}.{attribute}".lstrip(".")] = getattr(original.get_submodule(owner), attribute)
    both = {name: (tensor, given[name]) for name, tensor in now.items() if name in given}
    return {name: (found, own) for name, (found, own) in both.items() if found.shape == own.shape}


@torch.no_grad()
def _is_same(ours: nn.Module, theirs: nn.Module, example: Inputs) -> bool:
    def outputs(model: nn.Module) -> list[Tensor]:
        with untouched_randomness():
            seed(0)
            return tensors_of(call(model, mapped(example, torch.clone)))

    expected = outputs(theirs)
    try:
        found = outputs(ours)
    except Exception:  # whatever someone's code does on attributes that are not there
        return False
    return len(found) == len(expected) and all(map(_is_close, found, expected))


def _is_close(found: Tensor, expected: Tensor) -> bool:
    """Whether two results are the same up to rounding; what is no number stands in the same places."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not (found.is_floating_point() or found.is_complex()) or not found.numel():
        return torch.equal(found, expected)
    finite = expected.isfinite()
    largest = float(expected[finite].abs().max()) if bool(finite.any()) else 0.0
    allowed = min(MOST, ROUNDING * torch.finfo(found.dtype).eps) * largest
    return torch.allclose(found, expected, rtol=0, atol=allowed, equal_nan=True)
