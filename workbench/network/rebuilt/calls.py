"""Code that multiplies by a layer's weight itself made to call the layer, so that hooks see what it receives.

`F.linear(x, self.a.weight, self.a.bias)` computes what `self.a(x)` does. Where a module's forward names a
`weight`, or the parameter for which a layer stands (`bare_matrices.py`), it runs with every such product
turned into the call of the layer whose weight it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from workbench.network.layers import CONVOLUTIONS
from workbench.network.rebuilt.attention_calls import attention_of_layers
from workbench.network.rebuilt.bare_matrices import Blocks, bare_layers_within
from workbench.network.rebuilt.code_names import names_in_forward
from workbench.network.rebuilt.probing import is_wrapped
from workbench.network.rebuilt.products import Product, computed, laid_out, products
from workbench.network.rebuilt.standing_in import StandIn

CONVOLVING = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
OPTIONS = ("stride", "padding", "dilation", "groups")


def call_layers(model: nn.Module) -> nn.Module:
    """`model` with its modules calling the layers by whose weights they multiply, in place; returns it."""
    for module in model.modules():
        if "forward" in vars(module):
            continue
        names = names_in_forward(module)
        own = bare_layers_within(module)
        layers = {
            name: m for name, m in module.named_modules()
            if name and _only_multiplies(m) and own.get(name, "weight") in names
        }  # fmt: skip
        if layers:
            unbiased = {name: getattr(m, "bias", None) is None for name, m in layers.items()}
            module.__dict__["forward"] = Calling(module, unbiased)
    return model


def _only_multiplies(module: nn.Module) -> bool:
    """A layer whose call is the product and no more: by torch's own forward, without hooks of the user's."""
    kind = next((kind for kind in (*CONVOLUTIONS, nn.Linear) if isinstance(module, kind)), None)
    return kind is not None and type(module).forward is kind.forward and not is_wrapped(module)


class Calling(StandIn):
    """A module's forward with products by the weights of layers inside turned into calls of these.

    `unbiased`: of the layers by name whether they had no bias: where the code gives none, it leaves out none.
    """

    def __init__(self, module: nn.Module, unbiased: dict[str, bool]):
        super().__init__(module)
        self.unbiased = unbiased

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the class's own forward returns."""
        with _LayerCalls(self.module, self.unbiased):
            return self.run(*args, **kwargs)


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
        if func in CONVOLVING:
            result = self._convolved(func, args, kwargs)
        elif func is functional.multi_head_attention_forward:
            result = attention_of_layers(args, kwargs, self._callable_layer_of)
        else:
            result = self._multiplied(func, args, kwargs)
        return func(*args, **kwargs) if result is None else result

    def _convolved(self, func: Any, args: tuple, kwargs: dict) -> Tensor | None:
        """What a convolution gives, by a call of the layer whose it is; None where it is no layer's."""
        given = dict(zip(("input", "weight", "bias", *OPTIONS), args, strict=False)) | kwargs
        layer, unbiased = self._layer_of(given["weight"])
        if layer is None or not _convolves_so(layer, CONVOLVING[func], given) or _runs_inside(layer):
            return None
        bias = given.get("bias")
        if not (bias is layer.bias or (bias is None and unbiased)):
            return None
        with _with(layer, _as_used(layer, given["weight"])):
            return layer(given["input"])

    def _multiplied(self, func: Any, args: tuple, kwargs: dict) -> Tensor | None:
        """What a product gives, by a call of the layer whose it is; None where it is no layer's."""
        for product in products(func, args, kwargs):
            layer, unbiased = self._layer_of(product.weight)
            if layer is None or not _is_weight_of(product, layer) or _runs_inside(layer):
                continue
            used = _as_used(layer, product.weight)
            if not (unbiased or product.bias is layer.bias):
                if product.bias is not None and not _is_part_of(product.bias, layer.bias):
                    continue
                used["bias"] = None
            with _with(layer, used):
                result = computed(layer, product)
            added = None if product.bias is layer.bias else product.bias
            return result if added is None else result + added
        return None

    def _callable_layer_of(self, weight: Any) -> Any:
        """The layer whose whole weight a tensor is, None where there is none or it is running."""
        layer, _ = self._layer_of(weight)
        whole = layer is not None and _same_entries(weight, layer.weight) and not _runs_inside(layer)
        return layer if whole else None

    def _layer_of(self, weight: Any) -> tuple[Any, bool]:
        """The layer in whose weight's memory a tensor lies, and whether it had no bias."""
        if not isinstance(weight, Tensor) or weight.layout != torch.strided or weight.is_nested:
            return None, False
        return self.layers.get(weight.untyped_storage()._cdata, (None, False))


def _is_weight_of(product: Product, layer: Any) -> bool:
    """Whether the product is that of the layer: by its whole weight, along the layer's own axes."""
    blocks = isinstance(layer, Blocks)
    if not (blocks or isinstance(layer, nn.Linear)) or blocks != bool(product.axes.batch):
        return False
    weight = laid_out(product.weight, product.axes)
    count = len(product.axes.batch + product.axes.free)
    outputs, inputs = weight.shape[:count], weight.shape[count:]
    whole = layer.weight.squeeze(-1) if blocks else layer.weight
    if outputs.numel() != whole.shape[0] or inputs.numel() != whole.shape[1]:
        return False
    same = _same_entries(weight, whole.unflatten(0, outputs).unflatten(-1, inputs))
    return same and product.is_whole()


def _same_entries(view: Tensor, whole: Tensor) -> bool:
    """Whether a view shows a parameter's numbers in the parameter's own order."""

    def steps(tensor: Tensor) -> list[tuple[int, int]]:
        return [(n, step) for n, step in zip(tensor.shape, tensor.stride(), strict=True) if n > 1]

    return view.shape == whole.shape and steps(view) == steps(whole)


def _is_part_of(given: Any, own: Tensor) -> bool:
    """Whether what is added is the layer's bias, but for entries that are set to zero.

    Only then is it right that a bias fitted anew is added in its place. While a program is written the
    numbers are not known; the same code has run before then.
    """
    if not isinstance(given, Tensor) or given.shape != own.shape:
        return False
    if torch.compiler.is_compiling():
        return True
    return bool(((given == own) | (given == 0)).all())


def _as_used(layer: Any, weight: Tensor) -> dict[str, Any]:
    """What stands for the layer's own weight in a call: the code may have taken it out of the gradient."""
    cut = torch.is_grad_enabled() and layer.weight.requires_grad and not weight.requires_grad
    return {"weight": layer.weight.detach()} if cut else {}


@contextmanager
def _with(layer: Any, others: dict[str, Any]) -> Iterator[None]:
    """Within: the layer has `others` for parameters."""
    own = {name: layer._parameters[name] for name in others}
    layer._parameters |= others
    try:
        yield
    finally:
        layer._parameters |= own


def _runs_inside(layer: nn.Module) -> bool:
    """Whether a product runs within a call of the layer itself, in the forward that calls it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not Calling.__call__.__code__:
        if frame.f_locals.get("self") is layer:
            return True
        frame = frame.f_back
    return False


def _convolves_so(layer: Any, dims: int, given: dict[str, Any]) -> bool:
    """Whether the layer convolves as the code does, by the same weight."""
    if not isinstance(layer, CONVOLUTIONS[dims - 1]) or layer.padding_mode != "zeros":
        return False
    standard = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | given

    def full(value: Any) -> Any:
        return (
            (value,) * dims if isinstance(value, int) else value if isinstance(value, str) else tuple(value)
        )

    same = all(full(standard[key]) == full(getattr(layer, key)) for key in OPTIONS[:3])
    return same and standard["groups"] == layer.groups and _same_entries(given["weight"], layer.weight)
