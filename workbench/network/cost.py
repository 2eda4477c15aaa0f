"""What a network costs: parameters, MACs, measured latency."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from workbench.network.groups import UnitGroup
from workbench.network.running import evaluating


@dataclass(frozen=True)
class Cost:
    """`parameters`: numbers in the model. `macs`: multiply–accumulates of one example's forward pass.

    `by_module`: (parameters, MACs) of every module that owns weights, by its name.
    """

    parameters: int
    macs: int
    by_module: dict[str, tuple[int, int]] = field(repr=False)


def count_cost(model: nn.Module, example_input: Tensor) -> Cost:
    """Count parameters and MACs (not FLOPs: a multiply and its add are one) of a forward pass.

    `example_input` (batch, …): MACs are counted on its first example, or on all where one is too few.
    Convolutions and matrix products count, as in torch.utils.flop_counter; element-wise work does not.
    """
    try:
        counts = _count_macs(model, example_input[:1])
    except Exception:  # a norm over the batch needs more than one example
        counts = _count_macs(model, example_input)
    root = type(model).__name__
    by_module = {}
    for name, module in model.named_modules():
        own = sum(p.numel() for p in module.parameters(recurse=False))
        if own:
            by_module[name] = (own, counts.get(f"{root}.{name}" if name else root, 0))
    return Cost(sum(p.numel() for p in model.parameters()), counts.get("Global", 0), by_module)


def _count_macs(model: nn.Module, inputs: Tensor) -> dict[str, int]:
    """MACs an example by module name, 'Global' for all."""
    with evaluating(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(inputs)
    per_example = 2 * len(inputs)
    return {name: sum(flops.values()) // per_example for name, flops in counter.get_flop_counts().items()}


def cost_saved(cost: Cost, group: UnitGroup, width: int, model: nn.Module) -> tuple[int, int]:
    """(parameters, MACs) that go when `group` keeps `width` of its units, without building the model.

    `cost` is `count_cost` of `model`. Exact for linear and convolutional layers and their norms: a test
    holds it against the cost of the pruned model.
    """
    lost = group.width - width
    rows = {w.module: lost for w in (*group.writers, *group.norms)}
    columns = {r.module: lost * r.positions for r in group.readers}
    parameters = macs = 0
    for name in rows.keys() | columns.keys():
        module: Any = model.get_submodule(name)
        own_parameters, own_macs = cost.by_module.get(name, (0, 0))
        weight = module.weight
        if weight is None or weight.dim() < 2:  # a norm: so many numbers a channel
            parameters += lost * own_parameters // (weight.numel() if weight is not None else 1)
            continue
        outputs, inputs = weight.shape[:2]
        left = (outputs - rows.get(name, 0)) * (inputs - columns.get(name, 0))
        kernel = weight[0, 0].numel()
        bias = rows.get(name, 0) if getattr(module, "bias", None) is not None else 0
        parameters += (outputs * inputs - left) * kernel + bias
        macs += own_macs * (outputs * inputs - left) // (outputs * inputs)
    return parameters, macs


def measure_latency(model: nn.Module, inputs: Tensor, repeats: int = 20) -> float:
    """Median seconds of a forward pass over `inputs` after two warm-up passes, `repeats` times."""
    seconds = []
    with evaluating(model), torch.no_grad():
        for _ in range(2):
            model(inputs)
        for _ in range(repeats):
            start = time.perf_counter()
            model(inputs)
            if inputs.is_cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return median(seconds)
