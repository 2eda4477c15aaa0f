"""The way from a layer to the network's output, operation by operation, and how far each stretches a change.

One run on examples is followed below torch's own functions, so that a network need not be a Sequential. Where
two paths meet above a layer (a residual stream, attention), or an operation has no known Lipschitz constant,
there is no product of norms to multiply by, and that is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from workbench.network.lipschitz import KEEPING, KNOWN, UnknownError, composed_norm, factor_of, linear_part
from workbench.network.modes import Watching
from workbench.network.running import Inputs, call, evaluating, main_output, tensors_of


@dataclass(frozen=True)
class Link:
    """One operation: the innermost module that it runs in, and its Lipschitz constant.

    `factor` is in the Euclidean norm of all of an example's numbers. `linear` is the operation without its
    constant where it is affine, of inputs like `like`.
    """

    operation: str
    module: str
    factor: float
    linear: Callable[[Tensor], Tensor] | None = field(default=None, repr=False, compare=False)
    like: Tensor | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Chain:
    """The operations from `links[0]` to the output, and why there are none before it ('' for the input).

    The factor of several is their product, where neighbours that are all affine, as a convolution and its
    batch norm, count as the one operator that they are.
    """

    links: tuple[Link, ...]
    before: str
    _runs: dict[tuple[int, int], float] = field(default_factory=dict, repr=False, compare=False)

    def above(self, module: str, norm: str = "") -> float:
        """The Lipschitz factor of everything above the output of `module`, or of the batch norm `norm` that
        takes it as it is. Raises UnknownError."""
        end = self._end(module)
        behind = bool(norm) and end < len(self.links) and self.links[end].module == norm
        return self._factor(end + behind)

    def from_input_of(self, module: str) -> float:
        """The same from its input on: the layer's own norm too. Raises UnknownError."""
        return self._factor(self._start(module))

    def _factor(self, start: int) -> float:
        factor, at = 1.0, start
        while at < len(self.links):
            end = at
            while end < len(self.links) and self.links[end].linear is not None:
                end += 1
            if end - at > 1:
                factor *= self._together(at, end)
                at = end
            else:
                factor *= self.links[at].factor
                at += 1
        return factor

    def _together(self, start: int, end: int) -> float:
        """The norm of several affine operations in a row, and never more than the product of theirs."""
        if (start, end) not in self._runs:
            links = self.links[start:end]
            norm = math.prod(link.factor for link in links)
            if sum(link.operation not in KEEPING for link in links) > 1:
                norm = min(norm, composed_norm([link.linear for link in links if link.linear], links[0].like))
            self._runs[start, end] = norm
        return self._runs[start, end]

    def _start(self, module: str) -> int:
        self._end(module)
        return next(i for i, link in enumerate(self.links) if link.module == module)

    def _end(self, module: str) -> int:
        """Behind the last operation of `module`."""
        places = [i for i, link in enumerate(self.links) if link.module == module]
        if not places:
            raise UnknownError(self.before or f"{module} does not lead to the output")
        if places[-1] - places[0] + 1 != len(places):
            raise UnknownError(f"{module} runs more than once on the way to the output")
        return places[-1] + 1


@dataclass
class _Node:
    """A tensor that depends on the input: the call that gave it, on what, and why not further."""

    before: _Node | None
    operation: str = ""
    module: str = ""
    why: str = ""
    factor: Callable[[], float] = lambda: 1.0  # found at the end, where gradients can be taken
    linear: Callable[[Tensor], Tensor] | None = None
    like: Tensor | None = None


class _Follower(Watching):
    """Remembers by which operation every tensor came to be that depends on the input."""

    def __init__(self, inputs: list[Tensor]):
        super().__init__()
        self.modules: list[str] = [""]
        self.alive: dict[int, tuple[Tensor, _Node]] = {id(t): (t, _Node(None)) for t in inputs}
        self.broken = ""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and id(t) in self.alive]
        outputs = func(*args, **kwargs)
        if given:
            node = self._node(func, args, kwargs, given)
            for tensor in tree_leaves(outputs):
                if isinstance(tensor, Tensor) and tensor.is_floating_point():
                    self.alive[id(tensor)] = (tensor, node)
        return outputs

    def _node(self, func: Any, args: tuple, kwargs: dict, given: list[Tensor]) -> _Node:
        name, module = func.overloadpacket.__name__, self.modules[-1]
        where = f" in {module}" if module else ""
        node = _Node(self.alive[id(given[0])][1], name, module)
        if len(given) > 1:
            node.why = f"two paths meet{where} ({name})"
        elif name not in KNOWN:
            node.why = f"{name}{where} has no Lipschitz constant that is known here"
            if func._schema.is_mutable:  # it may have written into what others read
                self.broken = self.broken or node.why
        else:
            node.factor = partial(factor_of, func, args, kwargs, given[0])
            node.linear, node.like = linear_part(func, args, kwargs, given[0]), given[0]
        return node

    def chain(self, output: Tensor) -> Chain:
        found = self.alive.get(id(output))
        if found is None or self.broken:
            return Chain((), self.broken or "the output does not depend on the input")
        links: list[Link] = []
        node: _Node | None = found[1]
        while node is not None and not node.why and node.operation:
            try:
                links.append(Link(node.operation, node.module, node.factor(), node.linear, node.like))
            except UnknownError as error:
                node.why = f"{error}{f' ({node.module})' if node.module else ''}"
                break
            node = node.before
        return Chain(tuple(reversed(links)), "" if node is None else node.why)


def chain_of(model: nn.Module, inputs: Inputs) -> Chain:
    """Follow `inputs` (a few examples) through `model`, which is run in evaluation mode and left as it was.

    Args:
        model: a network of one's own: hooks are set on it, and taken off again.
        inputs: as the model takes them.

    Returns:
        The operations that lead to its main output, from the input or from where paths last meet.
    """
    follower = _Follower(tensors_of(inputs))
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        for name, module in model.named_modules():
            if name:
                enter = module.register_forward_pre_hook(
                    lambda _m, _a, name=name: follower.modules.append(name)
                )
                leave = module.register_forward_hook(lambda _m, _a, _o: follower.modules.pop() and None)
                stack.callback(enter.remove)
                stack.callback(leave.remove)
        with torch.no_grad(), follower:
            output = main_output(call(model, inputs))
    return follower.chain(output)
