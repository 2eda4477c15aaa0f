"""What a network costs: parameters, MACs, measured latency."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import nn

from workbench.network.counting import counting
from workbench.network.fewer import few_examples
from workbench.network.running import Inputs, batch_length, call, evaluating, refuse_lazy, tensors_of


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

    Args:
        model: The network; it is run in evaluation mode and given back in the mode it had.
        example_input: A batch (batch, …) as the network takes it. MACs are counted on its first example, or
            on all and divided where the network does not take one alone.

    Returns:
        The cost of one example. Every product counts (`counting.py`): layers', attention's, of bare
        parameters; element-wise work does not.

    Raises:
        ValueError: lazy layers that have no weights yet.
    """
    refuse_lazy(model)
    try:
        counts, total = _count_macs(model, few_examples(model, example_input, 1))
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
    with evaluating(model), _stepwise(model), torch.no_grad(), counting(model) as macs:
        call(model, inputs)
    examples = max(batch_length(inputs), 1)
    return {name: count // examples for name, count in macs.items()}, sum(macs.values()) // examples


@contextmanager
def _stepwise(model: nn.Module) -> Iterator[None]:
    """Within: recurrent layers run step by step, through linear layers that are counted by their names."""
    layers: list[Any] = [m for m in model.modules() if hasattr(m, "stepwise")]
    before = [layer.stepwise for layer in layers]
    try:
        for layer in layers:
            layer.stepwise = True
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.stepwise = value


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


def time_by_module(model: nn.Module, inputs: Inputs, repeats: int = 7) -> dict[str, float]:
    """Median seconds in each layer without children, and of the whole under ''."""
    times: dict[str, list[float]] = {}
    started: dict[str, float] = {}
    handles = []
    for name, module in model.named_modules():
        if name and not list(module.children()):

            def begin(_module: nn.Module, _args: Any, name: str = name) -> None:
                started[name] = perf_counter()

            def end(_module: nn.Module, _args: Any, _output: Any, name: str = name) -> None:
                times.setdefault(name, []).append(perf_counter() - started[name])

            handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        with evaluating(model), torch.no_grad():
            for _ in range(repeats):
                call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {name: median(found) for name, found in times.items()} | {"": measure_latency(model, inputs)}
