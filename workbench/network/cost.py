"""What a network costs: parameters and MACs. Seconds are in latency.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from workbench.network.running import Inputs, batch_length, call, evaluating, first_examples


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
    counter = FlopCounterMode(display=False)
    # Fused attention kernels are not counted: the plain products are.
    with evaluating(model), _stepwise(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        call(model, inputs)
    root = type(model).__name__
    per_example = 2 * max(batch_length(inputs), 1)
    counted = counter.get_flop_counts()
    whole: dict[nn.Module, int] = {}  # a module with several names is counted under one of them
    for name, module in model.named_modules(remove_duplicate=False):
        flops = counted.get(f"{root}.{name}" if name else root, {})
        whole[module] = whole.get(module, 0) + sum(flops.values())
    own = {
        name: max(whole[module] - sum(whole[child] for child in module.children()), 0) // per_example
        for name, module in model.named_modules()
    }
    return own, sum(counted.get("Global", {}).values()) // per_example


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
