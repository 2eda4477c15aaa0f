"""Code that multiplies by a layer's weight itself made to call the layer, so that hooks see what it receives.

`F.linear(x, self.a.weight, self.a.bias)` computes what `self.a(x)` does. Where a module's forward names a
`weight`, it runs with every such product turned into the call of the layer whose weight it is.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from workbench.network.layers import CONVOLUTIONS
from workbench.network.rebuilt.probing import is_wrapped

CONVOLVING = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
MULTIPLYING = (torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__)
OPTIONS = ("stride", "padding", "dilation", "groups")
Product = tuple[Tensor, Tensor, Any, tuple[int, dict[str, Any]] | None]


def call_layers(model: nn.Module) -> nn.Module:
    """`model` with its modules calling the layers by whose weights they multiply, in place; returns it."""
    for module in model.modules():
        if "forward" not in vars(module) and "weight" in names_in_forward(module):
            layers = {name: m for name, m in module.named_modules() if name and _only_multiplies(m)}
            if layers:
                unbiased = {name: getattr(m, "bias", None) is None for name, m in layers.items()}
                module.__dict__["forward"] = Calling(module, unbiased)
    return model


def _only_multiplies(module: nn.Module) -> bool:
    """A layer whose call is the product and no more: by torch's own forward, without hooks of the user's."""
    kind = next((kind for kind in (*CONVOLUTIONS, nn.Linear) if isinstance(module, kind)), None)
    return kind is not None and type(module).forward is kind.forward and not is_wrapped(module)


class Calling:
    """A module's forward with products by the weights of layers inside turned into calls of these.

    `unbiased`: of the layers by name whether they had no bias: where the code gives none, it leaves out none.
    """

    def __init__(self, module: nn.Module, unbiased: dict[str, bool]):
        self.module, self.unbiased = module, unbiased

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the class's own forward returns."""
        with _LayerCalls(self.module, self.unbiased):
            return type(self.module).forward(self.module, *args, **kwargs)

    @property
    def __code__(self) -> CodeType | None:
        return _code_of(type(self.module).forward)  # torch asks for it where it writes a program

    @property
    def __signature__(self) -> inspect.Signature:
        whole = inspect.signature(type(self.module).forward)
        return whole.replace(parameters=list(whole.parameters.values())[1:])


class _LayerCalls(TorchFunctionMode):
    """Within: a product by a layer's weight is a call of the layer."""

    def __init__(self, module: nn.Module, unbiased: dict[str, bool]):
        super().__init__()
        self.layers: dict[int, tuple[Any, bool]] = {}
        for name, without in unbiased.items():
            layer = module.get_submodule(name)
            weight = layer._parameters.get("weight")
            if weight is not None:
                self.layers.setdefault(weight.untyped_storage()._cdata, (layer, without))

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        product = _product(func, args, kwargs)
        if product is not None:
            inputs, weight, bias, options = product
            layer, unbiased = self.layers.get(weight.untyped_storage()._cdata, (None, False))
            if (
                layer is not None
                and _same_entries(weight, layer.weight)
                and (bias is layer.bias or (bias is None and unbiased))
                and _has_options(layer, options)
                and not any(frame.f_locals.get("self") is layer for frame in _frames())
            ):
                return layer(inputs)
        return func(*args, **kwargs)


def _product(func: Any, args: tuple, kwargs: dict) -> Product | None:
    """(inputs, weight as the layer has it, bias, options of a convolution or None) of a product."""
    found: Product
    if func in CONVOLVING:
        given = dict(zip(("input", "weight", "bias", *OPTIONS), args, strict=False)) | kwargs
        standard = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        options = {key: given.get(key, standard[key]) for key in OPTIONS}
        found = (given["input"], given["weight"], given.get("bias"), (CONVOLVING[func], options))
    elif func is functional.linear:
        given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
        found = (given["input"], given["weight"], given.get("bias"), None)
    elif func is torch.einsum and len(args) == 3 and _is_linear_equation(args[0]):
        found = (args[1], args[2], None, None)
    elif func in MULTIPLYING and len(args) == 2 and not kwargs and all(isinstance(a, Tensor) for a in args):
        if args[1].dim() != 2:
            return None
        found = (args[0], args[1].t(), None, None)
    else:
        return None
    strided = all(isinstance(t, Tensor) and t.layout == torch.strided for t in found[:2])
    return found if strided and not any(t.is_nested for t in found[:2]) else None


def _is_linear_equation(equation: Any) -> bool:
    """Whether it reads "…i,oi->…o", in whatever letters."""
    left, _, result = str(equation).replace(" ", "").partition("->")
    inputs, _, weight = left.partition(",")
    if len(weight) != 2 or weight[0] == weight[1] or weight[0] in inputs or weight[1] in result:
        return False
    return bool(result) and inputs == f"{result[:-1]}{weight[1]}" and result[-1] == weight[0]


def _same_entries(view: Tensor, whole: Tensor) -> bool:
    """Whether a view shows a parameter's numbers in the parameter's own order."""

    def steps(tensor: Tensor) -> list[tuple[int, int]]:
        return [(n, step) for n, step in zip(tensor.shape, tensor.stride(), strict=True) if n > 1]

    return view.shape == whole.shape and steps(view) == steps(whole)


def _has_options(layer: Any, options: tuple[int, dict[str, Any]] | None) -> bool:
    """Whether the layer convolves as the code does; a linear layer has nothing to say."""
    if options is None:
        return isinstance(layer, nn.Linear)
    dims, given = options
    if not isinstance(layer, CONVOLUTIONS[dims - 1]) or layer.padding_mode != "zeros":
        return False

    def full(value: Any) -> Any:
        return (
            (value,) * dims if isinstance(value, int) else value if isinstance(value, str) else tuple(value)
        )

    same = all(full(given[key]) == full(getattr(layer, key)) for key in OPTIONS[:3])
    return same and given["groups"] == layer.groups


def _frames() -> Iterator[FrameType]:
    """The frames from the caller of a product up to the module whose forward runs it."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code is not Calling.__call__.__code__:
        yield frame
        frame = frame.f_back


def names_in_forward(module: nn.Module) -> frozenset[str]:
    """Attributes and globals that a module's `forward` names where it is not torch's, with what it calls."""
    kind: Any = type(module)
    return _names_in_class(kind)


@lru_cache(maxsize=1024)
def _names_in_class(kind: type) -> frozenset[str]:
    methods: dict[str, CodeType] = {}
    for one in kind.__mro__:
        if not one.__module__.startswith("torch."):
            for name, value in vars(one).items():
                code = _code_of(value)
                if code is not None:
                    methods.setdefault(name, code)
    seen: set[str] = set()
    waiting = ["forward"]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _names(methods[name]) if name in methods else ()
    return frozenset(seen)


def _code_of(value: Any) -> CodeType | None:
    function: Callable = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    function = inspect.unwrap(function) if callable(function) else function
    return getattr(function, "__code__", None)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _names(const)
