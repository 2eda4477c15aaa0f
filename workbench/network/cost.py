"""What a network costs: parameters, MACs, measured latency."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from workbench.network.groups import UnitGroup, is_grouped
from workbench.network.layers import is_linear_layer, layer_weight, output_count
from workbench.network.running import Inputs, batch_length, call, evaluating, first_examples, tensors_of


@dataclass(frozen=True)
class Cost:
    """`parameters`: numbers in the model. `macs`: multiply–accumulates of one example's forward pass.

    `by_module`: (parameters, MACs) of every module that owns weights or computes beside its children, by
    its name.
    """

    parameters: int
    macs: int
    by_module: dict[str, tuple[int, int]] = field(repr=False)


def count_cost(model: nn.Module, example_input: Inputs) -> Cost:
    """Count parameters and MACs (not FLOPs: a multiply and its add are one) of a forward pass.

    `example_input` (batch, …): MACs are counted on its first example, or on all where one is too few.
    Convolutions and matrix products count, as in torch.utils.flop_counter; element-wise work does not.
    """
    try:
        counts, total = _count_macs(model, first_examples(example_input, 1))
    except Exception:  # a norm over the batch needs more than one example
        counts, total = _count_macs(model, example_input)
    by_module = {}
    for name, module in model.named_modules():
        own = sum(p.numel() for p in module.parameters(recurse=False))
        if own or counts.get(name):
            by_module[name] = (own, counts.get(name, 0))
    return Cost(sum(p.numel() for p in model.parameters()), total, by_module)


def _count_macs(model: nn.Module, inputs: Inputs) -> tuple[dict[str, int], int]:
    """MACs an example by module name, without its children's, and of the whole."""
    with evaluating(model), _stepwise(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(model, inputs)
    root = type(model).__name__
    per_example = 2 * max(batch_length(inputs), 1)
    whole = {name: sum(flops.values()) for name, flops in counter.get_flop_counts().items()}
    own = {}
    for name, module in model.named_modules():
        total = whole.get(f"{root}.{name}" if name else root, 0)
        children = (
            f"{root}.{name}.{child}" if name else f"{root}.{child}" for child, _ in module.named_children()
        )
        own[name] = max(total - sum(whole.get(child, 0) for child in children), 0) // per_example
    return own, whole.get("Global", 0) // per_example


@contextmanager
def _stepwise(model: nn.Module) -> Iterator[None]:
    """Within: recurrent layers run step by step, through linear layers that the counter sees."""
    layers: list[Any] = [m for m in model.modules() if hasattr(m, "stepwise")]
    before = [layer.stepwise for layer in layers]
    try:
        for layer in layers:
            layer.stepwise = True
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.stepwise = value


def cost_saved(cost: Cost, group: UnitGroup, width: int, model: nn.Module) -> tuple[int, int]:
    """(parameters, MACs) that go when `group` keeps `width` of its units, without building the model.

    `cost` is `count_cost` of `model`. Exact for linear and convolutional layers, norms and attention heads:
    a test holds it against the cost of the pruned model.
    """
    lost = group.width - width
    rows = {w.module: lost * w.rows.shape[1] for w in (*group.writers, *group.norms)}
    columns = {r.module: lost * r.positions for r in group.readers}
    parameters = macs = 0
    for name in rows.keys() | columns.keys():
        module = model.get_submodule(name)
        gone, work = _saved(module, cost.by_module.get(name, (0, 0)), rows.get(name, 0), columns.get(name, 0))
        parameters, macs = parameters + gone, macs + work
    for part in group.held:
        tensor = getattr(model.get_submodule(part.module), part.tensor)
        if isinstance(tensor, nn.Parameter):
            parameters += tensor.numel() // tensor.shape[part.dim] * lost * part.indices.shape[1]
    for owner in _between(group):
        macs += cost.by_module.get(owner, (0, 0))[1] * lost // group.width
    return parameters, macs


def _saved(module: Any, own: tuple[int, int], rows: int, columns: int) -> tuple[int, int]:
    """(parameters, MACs) of a layer that loses `rows` and `columns`."""
    if is_grouped(module) or not (is_linear_layer(module) or isinstance(module, nn.Embedding)):
        count = output_count(module)
        return own[0] * rows // count, own[1] * rows // count
    weight = layer_weight(module)
    outputs, inputs = weight.shape[:2]
    left = (outputs - rows) * (inputs - columns)
    bias = rows if getattr(module, "bias", None) is not None else 0
    kernel = weight[0, 0].numel()
    return (outputs * inputs - left) * kernel + bias, own[1] * (outputs * inputs - left) // (outputs * inputs)


def _between(group: UnitGroup) -> set[str]:
    """The module around attention heads, whose own matrix products fall with them."""
    if all(w.rows.shape[1] == 1 for w in group.writers) or len(group.readers) != 1:
        return set()
    paths = [name.split(".")[:-1] for name in [*(w.module for w in group.writers), group.readers[0].module]]
    shared = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return {".".join(shared)}


def measure_latency(model: nn.Module, inputs: Inputs, repeats: int = 20) -> float:
    """Median seconds of a forward pass over `inputs` after two warm-up passes, `repeats` times."""
    seconds = []
    with evaluating(model), torch.no_grad():
        for _ in range(2):
            call(model, inputs)
        for _ in range(repeats):
            start = time.perf_counter()
            call(model, inputs)
            if any(t.is_cuda for t in tensors_of(inputs)):
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return median(seconds)
