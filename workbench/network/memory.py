"""What a network takes in memory: its weights and buffers, and what a decoder keeps for its next call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.cost_model import CostModel, Term, Total, spread
from workbench.network.groups import UnitGroup
from workbench.network.running import Inputs, batch_length, call, evaluating, is_cache
from workbench.network.tensors import named_tensors

MEGABYTE = 1e6


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers; what several names share counts once."""
    return sum({(one.data_ptr(), one.nbytes): one.nbytes for _, one in named_tensors(model)}.values())


@torch.no_grad()
def cache_bytes(model: nn.Module, inputs: Inputs) -> float:
    """Bytes an example of the keys and values that the network returns for its next call; 0 without such.

    As long as the examples are: of `inputs` of 128 tokens it is what 128 tokens leave.
    """
    with evaluating(model):
        output = call(model, inputs)
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple) else ()
    kept = [tensor for one in values if is_cache(one) for tensor in _tensors_of(one)]
    return sum(tensor.nbytes for tensor in kept) / max(batch_length(inputs), 1)


def _tensors_of(cache: Any) -> list[Tensor]:
    """Keys and values of all layers, as transformers keeps them since 4.56, and before."""
    layers = getattr(cache, "layers", None)
    if layers is None:
        found = [*getattr(cache, "key_cache", ()), *getattr(cache, "value_cache", ())]
    else:
        found = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
    return [one for one in found if isinstance(one, Tensor) and one.numel()]


def memory_cost(
    model: nn.Module,
    costs: CostModel,
    cache: tuple[float, dict[str, float]] = (0.0, {}),
    biased: bool = False,
    groups: Sequence[UnitGroup] = (),
) -> Total:
    """Megabytes of the network as a function of the widths.

    Args:
        model: the network as it stands, whose cost model `costs` is.
        cache: bytes of what a decoder keeps, in all, and a unit of each group.
        biased: as for `CostModel.total`.
        groups: those of the network, for the buffers that they hold entries of.
    """
    whole, per_unit = cache
    place = {name: index for index, name in enumerate(costs.groups)}
    extra = [
        (Term(name, costs.widths[place[name]], 1, 0, 0, 0, ((place[name], 1),), ()), each / MEGABYTE, 0.0)
        for name, each in per_unit.items()
    ] + _held_buffers(model, groups, place, {term.name for term in costs.terms})

    def each(term: Term) -> tuple[float, float]:
        if not term.parameters and term.name in place:  # what attention works on between its layers
            return 0.0, 0.0
        size, beside = _sizes(model, term)
        return spread(term, term.parameters * size) / MEGABYTE, (term.biases * size + beside) / MEGABYTE

    return Total(
        costs, (weight_bytes(model) + whole) / MEGABYTE, each, biased,
        lambda term: term.new_biases * _sizes(model, term)[0] / MEGABYTE, extra,
    )  # fmt: skip


def _held_buffers(
    model: nn.Module, groups: Sequence[UnitGroup], place: Mapping[str, int], counted: set[str]
) -> list[tuple[Term, float, float]]:
    """Terms of the buffers that lose entries with units, beside those of modules that are `counted`."""
    found: dict[int, tuple[str, Tensor, dict[int, dict[int, int]]]] = {}
    for group in groups:
        for part in group.held if group.name in place else ():
            module = model.get_submodule(part.module)
            tensor = getattr(module, part.tensor, None)
            of_rows = part.module in counted and part.dim == 0  # `_sizes` has them
            if part.tensor not in module._buffers or not isinstance(tensor, Tensor) or of_rows:
                continue
            name = f"{part.module}.{part.tensor}".lstrip(".")
            dims = found.setdefault(id(tensor), (name, tensor, {}))[2]
            dims.setdefault(part.dim, {})[place[group.name]] = part.indices.shape[1]
    terms = []
    for name, tensor, dims in found.values():
        axes = sorted(dims)[:2]
        lost = [tuple(dims[axis].items()) for axis in axes] + [()]
        rows, columns = tensor.shape[axes[0]], tensor.shape[axes[1]] if len(axes) > 1 else 1
        each = tensor.nbytes / (rows * columns) / MEGABYTE
        terms.append((Term(name, rows, columns, 0, 0, 0, lost[0], lost[1]), each, 0.0))
    return terms


def _sizes(model: nn.Module, term: Term) -> tuple[int, float]:
    """Bytes of an entry of the term's tensor, and bytes of buffers a row."""
    owner, _, name = term.name.rpartition(".")
    module: Any = None
    try:
        module = model.get_submodule(term.name)
    except AttributeError:
        tensor: Tensor = getattr(model.get_submodule(owner), name)
        return tensor.element_size(), 0.0
    weights = list(module.parameters(recurse=False)) or list(module.parameters())
    size = weights[0].element_size() if weights else 4
    rows = [b for b in module.buffers(recurse=False) if b.dim() and len(b) == term.rows]
    return size, sum(b.nbytes for b in rows) / term.rows
