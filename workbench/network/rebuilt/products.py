"""Products of a tensor with a weight, however torch is asked for them, by the letters of their axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

MATMUL = (torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__)
BATCHED = (torch.bmm, Tensor.bmm)
VECTOR = (torch.mv, Tensor.mv)
ADDED = (torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm)
DOTS = "..."


@dataclass(frozen=True)
class Axes:
    """Letters of the axes of inputs, weight and result, as in `torch.einsum`; "..." are any others.

    `batch` letters stand in all three (a weight of blocks, one for each part of the inputs), `contracted`
    ones are summed over, `free` ones are the weight's own; each in the order of the weight. `rest`: those of
    the inputs alone.
    """

    inputs: str
    weight: str
    result: str

    @property
    def batch(self) -> str:
        return "".join(c for c in self.weight if c in self.inputs and c in self.result)

    @property
    def contracted(self) -> str:
        return "".join(c for c in self.weight if c in self.inputs and c not in self.result)

    @property
    def free(self) -> str:
        return "".join(c for c in self.weight if c not in self.inputs)

    @property
    def rest(self) -> str:
        dots = DOTS if DOTS in self.inputs else ""
        return dots + "".join(c for c in self.inputs if c != "." and c not in self.weight)

    @property
    def order(self) -> tuple[tuple[int, ...], ...]:
        """The weight's axes as those of blocks, of outputs and of inputs."""
        parts = (self.batch, self.free, self.contracted)
        return tuple(tuple(self.weight.index(letter) for letter in part) for part in parts)

    def is_linear(self) -> bool:
        """Whether a layer that knows the weight can compute it: nothing is summed alone or taken twice."""
        inputs, result = self.inputs.replace(DOTS, ""), self.result.replace(DOTS, "")
        once = all(len(set(letters)) == len(letters) for letters in (inputs, self.weight, result))
        same_dots = (DOTS in self.inputs) == (DOTS in self.result) and DOTS not in self.weight
        known = set(result) == set(self.batch + self.free) | set(self.rest.replace(DOTS, ""))
        return once and same_dots and known and bool(self.free) and bool(self.contracted)


RIGHT, LEFT = Axes("...i", "io", "...o"), Axes("...it", "oi", "...ot")
LINEAR, LEFT_VECTOR = Axes("...i", "oi", "...o"), Axes("i", "oi", "o")
RIGHT_BLOCKS, LEFT_BLOCKS = Axes("...bni", "bio", "...bno"), Axes("bit", "boi", "bot")


@dataclass(frozen=True)
class Product:
    """`inputs` times `weight` by `axes`, and `bias` added where it is not None."""

    inputs: Tensor
    weight: Tensor
    axes: Axes
    bias: Any = None

    def is_whole(self) -> bool:
        """Whether nothing is repeated to fit: axes of both have one size."""
        before, _, behind = self.axes.inputs.partition(DOTS)
        at = {letter: place for place, letter in enumerate(before)}
        at |= {letter: place - len(behind) for place, letter in enumerate(behind)}
        sizes = zip(self.axes.weight, self.weight.shape, strict=True)
        return all(self.inputs.shape[at[letter]] == size for letter, size in sizes if letter in at)


def products(func: Any, args: tuple, kwargs: dict) -> Iterator[Product]:
    """The ways to see a call as a product: either operand may be the weight."""
    if func is functional.linear:
        given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
        yield from _plain(given["input"], given["weight"], LINEAR, given.get("bias"))
    elif kwargs:  # where the result is to be written, or by how much it is scaled
        return
    elif func is torch.einsum and len(args) == 3 and isinstance(args[0], str):
        for first, second in ((1, 2), (2, 1)):
            axes = axes_of_equation(args[0], swapped=first == 2)
            if axes is not None:
                yield from _plain(args[first], args[second], axes)
    elif func in (*MATMUL, *BATCHED, *VECTOR) and len(args) == 2:
        yield from _matmul(*args)
    elif func in ADDED and len(args) == 3:
        yield from _matmul(*args[1:], bias=args[0])


def axes_of_equation(equation: str, swapped: bool = False) -> Axes | None:
    """The axes in an equation of two operands, the weight the second, or the first where `swapped`."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    inputs, comma, weight = left.partition(",")
    if not comma or "," in weight:
        return None
    if not arrow:
        letters = Counter(left.replace(DOTS, "").replace(",", ""))
        result = DOTS * (DOTS in left) + "".join(sorted(c for c, n in letters.items() if n == 1))
    axes = Axes(weight, inputs, result) if swapped else Axes(inputs, weight, result)
    return axes if axes.is_linear() else None


def _matmul(first: Any, second: Any, bias: Any = None) -> Iterator[Product]:
    if not (isinstance(first, Tensor) and isinstance(second, Tensor)) or not first.dim() or not second.dim():
        return
    if second.dim() == 2:
        yield from _plain(first, second, RIGHT, bias)
    elif second.dim() == 3 <= first.dim():
        yield from _plain(first, second, RIGHT_BLOCKS, bias)
    if first.dim() == 2:
        yield from _plain(second, first, LEFT if second.dim() > 1 else LEFT_VECTOR, bias)
    elif first.dim() == 3 == second.dim():
        yield from _plain(second, first, LEFT_BLOCKS, bias)


def _plain(inputs: Any, weight: Any, axes: Axes, bias: Any = None) -> Iterator[Product]:
    """A product of ordinary tensors with as many axes as there are letters."""
    tensors = (inputs, weight)
    if not all(isinstance(t, Tensor) and t.layout == torch.strided and not t.is_nested for t in tensors):
        return
    letters = len(axes.inputs.replace(DOTS, ""))
    fits = inputs.dim() >= letters if DOTS in axes.inputs else inputs.dim() == letters
    if fits and weight.dim() == len(axes.weight):
        yield Product(inputs, weight, axes, bias)


def laid_out(weight: Tensor, axes: Axes) -> Tensor:
    """A view of the weight with its axes as (blocks…, outputs…, inputs…)."""
    batch, free, contracted = axes.order
    return weight.permute(*batch, *free, *contracted)


def computed(layer: Any, product: Product) -> Tensor:
    """The product by a call of the layer whose weight it is, (blocks · outputs, inputs), without `bias`."""
    axes = product.axes
    rest, batch, free, contracted = axes.rest, axes.batch, axes.free, axes.contracted
    inputs = _turned(product.inputs, axes.inputs, f"{rest}{batch}{contracted}")
    if len(batch + contracted) > 1:
        inputs = inputs.flatten(-len(batch + contracted))
    out = _called_in_blocks(layer, inputs) if batch else layer(inputs)
    if len(batch + free) > 1:
        out = out.unflatten(-1, [product.weight.shape[axes.weight.index(c)] for c in batch + free])
    return _turned(out, f"{rest}{batch}{free}", axes.result)


def _turned(tensor: Tensor, old: str, new: str) -> Tensor:
    return tensor if old == new else torch.einsum(f"{old}->{new}", tensor)


def _called_in_blocks(layer: Any, inputs: Tensor) -> Tensor:
    """A convolution of one place, (n, channels, 1), of features (…, channels)."""
    out = layer(inputs.reshape(-1, inputs.shape[-1], 1))
    return out.reshape(*inputs.shape[:-1], -1)
