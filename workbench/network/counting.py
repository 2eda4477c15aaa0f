"""Counting multiply–accumulates (MACs) while a network runs, each for the module that runs it.

Counted with the formulas of PyTorch's own counter, `torch.utils.flop_counter` (two FLOPs a MAC). It has none
for products with vectors, bilinear layers, recurrent layers in one piece, sparse matrices and nested tensors:
those are below. Fused attention and the fast path of `nn.TransformerEncoderLayer` escape it: they are kept
from running. Element-wise work, sums, norms and look-ups do not count; a causal mask saves nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import flop_registry

from workbench.network.modes import Watching

aten = torch.ops.aten
Formula = Callable[..., int]  # (the operation's arguments, out_val=its result) → MACs


@contextmanager
def counting(model: nn.Module) -> Iterator[dict[str, int]]:
    """Within: MACs grow by the name of the module that runs them beside its children, '' the whole network.

    A layer called twice counts twice, one with several names under its first.
    """
    counter = _Counter()
    running = counter.running
    handles: list[Any] = []

    def leave(_module: nn.Module, _args: Any, _output: Any) -> None:
        running.pop()

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda _m, _i, name=name: running.append(name)))
        # Also where the module raises: what catches it goes on under its own name.
        handles.append(module.register_forward_hook(leave, always_call=True))
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), counter:
            yield counter.macs
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        for handle in handles:
            handle.remove()


class _Counter(Watching):
    """Every operation passes here; torch's own mode would split products of nested tensors, which breaks."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.macs: dict[str, int] = defaultdict(int)
        self.running = [""]

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.higher_order.cond:
            chosen, operands = args[1 if args[0] else 2], args[3]
            with self:
                return chosen(*operands)
        operation = getattr(func, "overloadpacket", func)
        formula = FORMULAS.get(operation) or _of_torch(operation)
        if formula is None and hasattr(func, "decompose") and not any(_is_nested(a) for a in args):
            with self:  # in inference mode an operation comes here before it falls into its parts
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if formula is not None:
            self.macs[self.running[-1]] += formula(*args, **kwargs, out_val=out)
        return out


def _is_nested(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_nested


def _of_torch(operation: Any) -> Formula | None:
    formula = flop_registry.get(operation)
    return None if formula is None else lambda *args, **kwargs: int(formula(*args, **kwargs)) // 2


def _product(left: Tensor, right: Tensor) -> int:
    """(…, i, k)·(k, j) or (b, i, k)·(b, k, j), either a vector or sparse: a MAC for each k of each result."""
    columns = right.shape[-1] if right.dim() > 1 else 1
    if left.layout != torch.strided:
        return left._nnz() * columns
    if right.layout != torch.strided:
        return right._nnz() * (left.shape[-2] if left.dim() > 1 else 1)
    return left.numel() * columns


def _plain(left: Tensor, right: Tensor, *_: Any, **__: Any) -> int:
    return _product(left, right)


def _added(_to: Tensor, left: Tensor, right: Tensor, *_: Any, **__: Any) -> int:
    return _product(left, right)


def _broadcast(left: Tensor, right: Tensor, *_: Any, out_val: Any, **__: Any) -> int:
    """A matmul that did not fall into its parts: of nested tensors, or in inference mode."""
    if left.is_nested or right.is_nested:
        lefts = left.unbind() if left.is_nested or left.dim() > 2 else [left] * right.size(0)
        rights = right.unbind() if right.is_nested or right.dim() > 2 else [right] * left.size(0)
        return sum(a.numel() * b.shape[-1] for a, b in zip(lefts, rights, strict=True))
    if left.layout != torch.strided or right.layout != torch.strided:
        return _product(left, right)
    return out_val.numel() * left.shape[-1]


def _linear(inputs: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    values = sum(part.numel() for part in inputs.unbind()) if inputs.is_nested else inputs.numel()
    return values // weight.shape[-1] * weight.numel()


def _trilinear(
    a: Tensor,
    b: Tensor,
    c: Tensor,
    wider_a: list[int],
    wider_b: list[int],
    wider_c: list[int],
    *_: Any,
    **__: Any,
) -> int:
    """Σ_ij a (n, i) W (o, i, j) c (n, j), as `nn.Bilinear` calls it: a MAC a weight and example, n·o·i·j."""
    shapes = []
    for factor, wider in ((a, wider_a), (b, wider_b), (c, wider_c)):
        shape = list(factor.shape)
        for axis in sorted(wider):
            shape.insert(axis, 1)
        shapes.append(shape)
    return prod(torch.broadcast_shapes(*shapes))


def _recurrent_layer(inputs: Tensor, in_weight: Tensor, back_weight: Tensor, *_: Any, **__: Any) -> int:
    """One LSTM layer in one piece on the CPU: at every step of every example all its weights."""
    return inputs.shape[:-1].numel() * (in_weight.numel() + back_weight.numel())


def _recurrent_layers(inputs: Tensor, weights: list[Tensor], *_: Any, **__: Any) -> int:
    """All layers in one piece on an accelerator; `inputs` (…, features), packed ones as (steps, features)."""
    return inputs.shape[:-1].numel() * sum(w.numel() for w in weights if w.dim() == 2)


FORMULAS: dict[Any, Formula] = {
    **dict.fromkeys((aten.mm, aten.bmm, aten.mv, aten.dot, aten.vdot), _plain),
    **dict.fromkeys((aten.addmm, aten.baddbmm, aten.addbmm, aten.addmv, aten._sparse_addmm), _added),
    aten._sparse_mm: _plain,
    aten.matmul: _broadcast,
    aten.linear: _linear,
    aten._addmm_activation: _added,
    aten._trilinear: _trilinear,
    aten.mkldnn_rnn_layer: _recurrent_layer,
    aten._cudnn_rnn: _recurrent_layers,
    aten.miopen_rnn: _recurrent_layers,
}
