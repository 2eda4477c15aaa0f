"""What a network costs: parameters and MACs. Seconds are in latency.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.counting import counting
from workbench.network.fewer import on_few
from workbench.network.running import Inputs, batch_length, call, evaluating, main_output, refuse_lazy


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
            on all and divided where the network does not take one alone. A tensor that cannot be cut, and
            has no output a row, is one example.

    Returns:
        The cost of one example. Every product counts (`counting.py`): layers', attention's, of bare
        parameters; element-wise work does not.

    Raises:
        ValueError: lazy layers that have no weights yet.
    """
    refuse_lazy(model)
    try:
        few, (macs, output) = on_few(model, example_input, 1, partial(_count_macs, model))
    except Exception:  # a norm over the batch needs more than one example
        few, (macs, output) = example_input, _count_macs(model, example_input)
    examples = 1 if few is not example_input else max(_examples(few, output), 1)
    counts, total = {name: count // examples for name, count in macs.items()}, sum(macs.values()) // examples
    by_module = {}
    for name, module in model.named_modules():
        own = sum(p.numel() for p in module.parameters(recurse=False))
        if own or counts.get(name):
            by_module[name] = (own, counts.get(name, 0))
    return Cost(sum(p.numel() for p in model.parameters()), total, by_module)


def _count_macs(model: nn.Module, inputs: Inputs) -> tuple[dict[str, int], Any]:
    """MACs by module name, without its children's, and what the network returned."""
    with evaluating(model), _stepwise(model), torch.no_grad(), counting(model) as macs:
        output = call(model, inputs)
    return macs, output


def _examples(inputs: Inputs, output: Any) -> int:
    """How many examples a batch has that could not be cut: a tensor without an output a row is one."""
    if not isinstance(inputs, Tensor):
        return batch_length(inputs)
    found = main_output(output)
    alike = inputs.dim() and found.dim() and found.size(0) == inputs.size(0)  # nested ones have no len
    return inputs.size(0) if alike else 1


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
