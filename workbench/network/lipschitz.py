"""Lipschitz constants of torch's operations, in the Euclidean norm of all of an example's numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.layers import is_linear_layer, layer_weight

STEPS = 60  # of a power iteration, at most
CLOSE = 1e-5  # a step that changes the norm by less of it is the last


class UnknownError(ValueError):
    """No product of norms can be had; the message says why."""


# Views, copies, and functions that no two inputs come further apart by.
KEEPING = {
    "view", "_unsafe_view", "_reshape_alias", "reshape", "permute", "transpose", "t", "clone", "_to_copy",
    "detach", "alias", "squeeze", "unsqueeze", "slice", "select", "contiguous", "unbind", "split",
    "relu", "relu_", "tanh", "tanh_", "hardtanh", "hardtanh_", "relu6", "abs", "softplus", "_softmax",
    "native_dropout", "dropout", "add", "add_", "sub", "sub_", "neg", "clamp", "clamp_min", "flatten",
}  # fmt: skip
SLOPES = {  # the steepest slope of each function
    "sigmoid": 0.25, "sigmoid_": 0.25, "silu": 1.0999, "silu_": 1.0999, "gelu": 1.1290, "hardswish": 1.5,
    "hardswish_": 1.5, "hardsigmoid": 1 / 6, "mish": 1.0885,
}  # fmt: skip
MATRIX = {"addmm", "mm", "linear", "matmul"}
LINEAR = {
    "convolution", "conv2d", "mkldnn_convolution", "avg_pool1d", "avg_pool2d", "avg_pool3d", "mean", "sum",
    "adaptive_avg_pool1d", "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "_adaptive_avg_pool3d",
    "constant_pad_nd", "upsample_nearest2d", "upsample_bilinear2d",
}  # fmt: skip


VIEWS = {
    "view", "_unsafe_view", "_reshape_alias", "reshape", "permute", "transpose", "t", "clone", "detach",
    "alias", "squeeze", "unsqueeze", "contiguous", "flatten", "_to_copy",
}  # fmt: skip
NORMS = {"native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit_no_training"}


def linear_part(func: Any, args: tuple, kwargs: dict, given: Tensor) -> Callable[[Tensor], Tensor] | None:
    """One call of `func` as x → Ax (+ b), of its changing input `given`; None where it is not affine."""
    name = func.overloadpacket.__name__
    if name in NORMS:
        if args[0] is not given or args[4] is None:
            return None
        scale = norm_scale(args).to(given.dtype).reshape(-1, *[1] * (given.dim() - 2))
        return lambda x: x * scale
    if name in VIEWS or name in MATRIX or name in LINEAR:
        return lambda x: func(*_replaced(args, given, x), **kwargs)
    return None


def composed_norm(parts: Sequence[Callable[[Tensor], Tensor]], like: Tensor | None) -> float:
    """The spectral norm of affine operations one after the other, on inputs like `like`; ∞ where examples do
    not stay apart, so that there is none."""

    def together(x: Tensor) -> Tensor:
        for part in parts:
            x = part(x)
        return x

    if like is None or together(torch.zeros_like(like)).shape[0] != like.shape[0]:
        return math.inf
    return operator_norm(together, like, len(like))


def factor_of(func: Any, args: tuple, kwargs: dict, given: Tensor) -> float:
    """The Lipschitz constant of one call of a `KNOWN` operation, whose single changing input is `given`.

    Raises UnknownError where it has none for these arguments.
    """
    name = func.overloadpacket.__name__
    if name in KEEPING:
        alpha = kwargs.get("alpha", 1)
        return float(abs(alpha)) if args and args[0] is not given else 1.0
    if name in SLOPES:
        return SLOPES[name]
    if name in MATRIX:
        return _matrix_factor(name, args, given)
    if name in LINEAR:
        return operator_norm(lambda x: func(*_replaced(args, given, x), **kwargs), given[:1])
    return SPECIAL[name](args, given)


def operator_norm(operation: Callable[[Tensor], Tensor], like: Tensor, count: int = 8) -> float:
    """The spectral norm of a linear (or affine) operation, by a power iteration on the operation itself.

    A few directions at once, since the largest singular values of a convolution lie close together.

    Args:
        operation: x → Ax + b, of a batch of tensors like `like`, to each by itself.
        like: inputs, (n, …); their numbers do not matter.
        count: directions that are followed at once.

    Returns:
        ‖A‖₂, from below: `STEPS` steps at most, until one changes less than `CLOSE` of it.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, *like.shape[1:], generator=generator).to(like.device, like.dtype)
    offset = operation(torch.zeros_like(x)).detach()
    norm = 0.0
    for _ in range(STEPS):
        basis = torch.linalg.qr(x.flatten(1).T)[0].T  # X, orthonormal rows   (≤ count, inputs)
        x = torch.zeros_like(x).flatten(1)
        x[: len(basis)] = basis  # fewer inputs than directions: the others are none
        x = x.reshape(count, *like.shape[1:]).detach().requires_grad_()
        y = operation(x) - offset  # AX
        before, norm = norm, float(torch.linalg.matrix_norm(y.detach().flatten(1), 2))
        if norm == 0 or abs(norm - before) <= CLOSE * norm:
            break
        (x,) = torch.autograd.grad(y, x, y.detach())  # AᵀAX
    return norm


def spectral_norm(layer: nn.Module, inputs: Tensor) -> float:
    """The spectral norm of a Linear layer, exact, or of a convolution at the size of `inputs` (1, …).

    A convolution is taken as the operator that it is, with its stride and padding, by `operator_norm`.
    """
    if not is_linear_layer(layer):
        raise UnknownError(f"a {type(layer).__name__} is no linear layer")
    weight = layer_weight(layer).detach()
    return _matrix_norm(weight) if weight.dim() == 2 else operator_norm(layer, inputs)


def _replaced(args: Sequence[Any], old: Tensor, new: Tensor) -> list[Any]:
    return [new if one is old else one for one in args]


def _matrix_norm(weight: Tensor) -> float:
    return float(torch.linalg.matrix_norm(weight.detach().double().cpu(), 2))


def _matrix_factor(name: str, args: tuple, given: Tensor) -> float:
    """Ax + b: the matrix is the factor that is not the input."""
    factors = args[1:3] if name == "addmm" else args[:2]
    weights = [one for one in factors if one is not given]
    if len(weights) != 1 or weights[0].dim() != 2:
        raise UnknownError(f"{name} of shapes that are no layer's")
    return _matrix_norm(weights[0])


def _norm_factor(args: tuple, given: Tensor) -> float:
    """max |γ|/σ of a batch norm in evaluation mode."""
    if args[0] is not given or args[4] is None or (len(args) == 8 and args[5]):
        raise UnknownError("a batch norm without running statistics has no Lipschitz constant")
    return float(norm_scale(args).abs().max())


def norm_scale(args: tuple) -> Tensor:
    """γ/σ of a batch norm called with `args`, (channels,) float64."""
    weight, variance, eps = args[1], args[4], args[-1]
    sigma = (variance.double() + float(eps)).sqrt()
    return (torch.ones_like(sigma) if weight is None else weight.detach().double()) / sigma


def _pool_factor(args: tuple, _given: Tensor) -> float:
    """√(windows that an input may lie in); 1 where they do not overlap."""
    kernel = list(args[1])
    stride = list(args[2]) if len(args) > 2 and args[2] else kernel
    kernel, stride = (one * 2 if len(one) == 1 else one for one in (kernel, stride))
    return math.sqrt(math.prod(math.ceil(k / s) for k, s in zip(kernel, stride, strict=True)))


def _scale_factor(args: tuple, given: Tensor) -> float:
    others = [one for one in args[:2] if one is not given]
    if len(others) != 1 or not isinstance(others[0], (int, float, Tensor)):
        raise UnknownError("a product that is no scaling")
    return float(torch.as_tensor(others[0]).detach().abs().max())


def _quotient_factor(args: tuple, given: Tensor) -> float:
    if args[0] is not given:
        raise UnknownError("a division by what depends on the input has no Lipschitz constant")
    return float(1 / torch.as_tensor(args[1]).detach().abs().min())


SPECIAL: dict[str, Callable[[tuple, Tensor], float]] = {
    **dict.fromkeys(NORMS, _norm_factor),
    "max_pool2d_with_indices": _pool_factor,
    "mkldnn_max_pool2d": _pool_factor,
    "max_pool2d": _pool_factor,
    "mul": _scale_factor,
    "mul_": _scale_factor,
    "div": _quotient_factor,
    "div_": _quotient_factor,
    "leaky_relu": lambda args, _given: max(1.0, abs(float(args[1])) if len(args) > 1 else 0.0),
    "leaky_relu_": lambda args, _given: max(1.0, abs(float(args[1])) if len(args) > 1 else 0.0),
    "elu": lambda args, _given: _elu_factor(args),
    "elu_": lambda args, _given: _elu_factor(args),
    "_prelu_kernel": lambda args, _given: max(1.0, float(args[1].detach().abs().max())),
    "_log_softmax": lambda args, given: 1 + math.sqrt(given.shape[args[1]]),
}


def _elu_factor(args: tuple) -> float:
    """scale·max(1, α·input scale)."""
    alpha, scale, inner = (float(one) for one in (*args[1:4], 1.0, 1.0, 1.0)[:3])
    return abs(scale) * max(1.0, abs(alpha * inner))


KNOWN = frozenset({*KEEPING, *SLOPES, *MATRIX, *LINEAR, *SPECIAL})
