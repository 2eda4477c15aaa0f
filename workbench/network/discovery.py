"""Discovery: coupled layers, as torch-pruning's dependency graph finds them, in our own words.

No other file knows of that graph, and what it finds is believed only after the proof of `proof.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.groups import LAYERS, PER_CHANNEL, Reader, UnitGroup, Writer

# Layers that hold units of a kind this version cannot remove: they are listed, with the reason.
OPAQUE = (
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.Embedding,
)


def discover(model: nn.Module, example: Tensor) -> list[UnitGroup]:
    """Every group of units that the graph finds and every layer that it does not, in the order of running.

    `prunable` says only that nothing spoke against the group so far. `model` is in evaluation mode with
    gradients on; `example` (batch, …) is on its device.
    """
    order = call_order(model, example)
    try:
        groups = _coupled_groups(model, example, order)
    except Exception as error:  # the graph's own errors are bare: they are said, not hidden
        reason = f"the network could not be traced: {one_line(error)}"
        layers = [(n, m) for n, m in model.named_modules() if isinstance(m, LAYERS)]
        groups = [_refused(name, module, reason) for name, module in layers]
    groups += _left_over(model, groups, order)
    position = first_calls(order)
    return sorted(groups, key=lambda g: position.get(g.writers[0].module, len(position)))


def call_order(model: nn.Module, example_input: Tensor) -> tuple[str, ...]:
    """Names of the modules in the order in which `example_input` calls them, as often as it does.

    Raises ValueError where the example does not go through the model.
    """
    order: list[str] = []
    handles: list[Any] = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(lambda _m, _i, name=name: order.append(name)))
        with torch.no_grad():
            model(example_input)
    except Exception as error:
        raise ValueError(
            f"an input of shape {tuple(example_input.shape)} and dtype {example_input.dtype} does not go "
            f"through the model: {one_line(error)}. Give an example of the shape the model was trained on."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return tuple(order)


def first_calls(order: Sequence[str]) -> dict[str, int]:
    """Where each module is called first in `order`, as `call_order` gives it."""
    first: dict[str, int] = {}
    for index, name in enumerate(order):
        first.setdefault(name, index)
    return first


def _coupled_groups(model: nn.Module, example: Tensor, order: tuple[str, ...]) -> list[UnitGroup]:
    import torch_pruning

    names = {module: name for name, module in model.named_modules()}
    position = first_calls(order)
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example, verbose=False)
        found = list(graph.get_all_groups(root_module_types=list(LAYERS)))
    return [_translate(group, graph, names, position) for group in found]


def _translate(group, graph, names: dict, position: dict[str, int]) -> UnitGroup:
    """A torch-pruning group in our own words: index maps from the unit to rows and columns."""
    writers: dict[str, Tensor] = {}
    norms: dict[str, Tensor] = {}
    readers: dict[str, Tensor] = {}
    reason = ""
    width = len(group[0].idxs)
    for item in group:
        module = item.dep.target.module
        name = names.get(module)
        index = _index_map(item.idxs, item.root_idxs, width)
        if name is None:
            if isinstance(module, nn.Parameter):
                reason = "its units meet a bare parameter of the model, whose meaning is not known"
            continue
        if index is None:
            reason = reason or f"its units reach {name} in different numbers of features"
        elif isinstance(module, PER_CHANNEL):
            if getattr(module, "num_parameters", width) > 1:  # a PReLU with one slope for all has no rows
                norms[name] = index
        elif not isinstance(module, LAYERS):
            reason = reason or f"its units meet {name}, a {type(module).__name__}, not supported yet"
        elif graph.is_out_channel_pruning_fn(item.dep.handler):
            writers[name] = index
        else:
            readers[name] = index
        if getattr(module, "groups", 1) > 1:
            reason = reason or f"{name} is a grouped or depthwise convolution, not supported yet"
    return _assemble(writers, norms, readers, reason, names, position, width)


def _assemble(writers, norms, readers, reason, names, position, width) -> UnitGroup:
    modules = {name: module for module, name in names.items()}

    def in_order(found: dict[str, Tensor]) -> list[str]:
        return sorted(found, key=lambda name: position.get(name, len(position)))

    first = in_order(writers)[0]
    for name in [*writers, *norms]:
        index = writers.get(name, norms.get(name))
        if index is not None and index.shape[1] != 1:
            reason = reason or f"a unit has several rows in {name}"
    # Units are numbered as the first writer's rows, whatever layer the graph started from.
    numbering = writers[first][:, 0].argsort()
    return UnitGroup(
        name=first,
        kind=type(modules[first]).__name__,
        width=width,
        writers=tuple(Writer(n, writers[n][numbering, 0]) for n in in_order(writers)),
        norms=tuple(Writer(n, norms[n][numbering, 0]) for n in in_order(norms)),
        readers=tuple(
            Reader(n, type(modules[n]).__name__, readers[n][numbering].sort(dim=1).values)
            for n in in_order(readers)
        ),
        prunable=not reason,
        why_not=reason,
    )


def _index_map(idxs: Sequence[int], roots: Sequence[int], width: int) -> Tensor | None:
    """(m, features a unit): the layer's indices of unit j; None where units differ in number."""
    if not idxs or len(idxs) != len(roots) or len(idxs) % width:
        return None
    rows = torch.tensor(list(roots))
    if not torch.equal(torch.bincount(rows, minlength=width), torch.full((width,), len(idxs) // width)):
        return None
    return torch.tensor(list(idxs))[rows.argsort(stable=True)].reshape(width, -1)


def _left_over(model: nn.Module, groups: list[UnitGroup], order: tuple[str, ...]) -> list[UnitGroup]:
    """Layers that no group holds: of an unsupported kind, or not reached by the example."""
    written = {writer.module for group in groups for writer in group.writers}
    out = []
    for name, module in model.named_modules():
        if name in written:
            continue
        if isinstance(module, OPAQUE):
            out.append(_refused(name, module, f"{type(module).__name__} layers are not supported yet"))
        elif isinstance(module, LAYERS):
            called = "is not part of a group that could be traced"
            reason = called if name in order else "does not run on the example input"
            out.append(_refused(name, module, f"the layer {reason}"))
    return out


def _refused(name: str, module: nn.Module, reason: str) -> UnitGroup:
    width = next(
        (
            getattr(module, a)
            for a in ("out_channels", "out_features", "hidden_size", "embed_dim", "embedding_dim")
            if hasattr(module, a)
        ),
        0,
    )
    writer = Writer(name, torch.arange(width))
    return UnitGroup(name, type(module).__name__, width, (writer,), (), (), False, reason)


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "…"
