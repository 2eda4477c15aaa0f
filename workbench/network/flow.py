"""From which layer to which the numbers run: the network as a graph of its layers and of where they meet.

One pass, in which every tensor carries the node that it comes from. Operations on numbers of one node pass it
on; where numbers of several nodes meet, a joint stands: they are added, multiplied, put side by side, or
multiplied as matrices, as in attention. What loops over time or layers becomes a circle, not a node a step.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from workbench.network.finding.kinds import CONTRACTING, NEUTRAL
from workbench.network.modes import Watching
from workbench.network.running import Inputs, call, call_order, evaluating, tensors_of

INPUT, OUTPUT, LAYER = "input", "output", "layer"
ADD, GATE, CONCAT, PRODUCT, MEET = "add", "gate", "concat", "product", "meet"
JOINTS = (ADD, GATE, CONCAT, PRODUCT, MEET)
_JOINED_BY = {
    **dict.fromkeys(("add", "sub", "rsub", "addcmul", "addcdiv", "lerp", "index_add", "scatter_add"), ADD),
    **dict.fromkeys(("mul", "div"), GATE),
    **dict.fromkeys(("cat", "stack", "copy", "select_scatter", "slice_scatter", "index_put"), CONCAT),
    **dict.fromkeys(CONTRACTING, PRODUCT),
}
_NOT_THE_NETWORKS = (__file__, str(Path(torch.__file__).parent))
_ATTENTION = "_scaled_dot_product"
_NUMBERS = (torch.uint8,)  # beside floating and complex types: pixels as they are stored


@dataclass(frozen=True)
class Node:
    """A place of the network: `kind` is input, output, layer or one of `JOINTS`; `module` is a layer's."""

    kind: str
    module: str = ""


@dataclass(frozen=True)
class Flow:
    """The graph of a network's layers.

    Attributes:
        nodes: in the order in which the network comes to them; the input is the first, the output the last.
        edges: (from, to), places in `nodes`, each once.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]

    def layers_after(self, module: str) -> frozenset[str]:
        """The layers that receive numbers of this one without another layer between."""
        after: dict[int, list[int]] = {}
        for start, end in self.edges:
            after.setdefault(start, []).append(end)
        found, seen = set(), set()
        waiting = [i for i, node in enumerate(self.nodes) if node.module == module and node.kind == LAYER]
        while waiting:
            for end in after.get(waiting.pop(), ()):
                if self.nodes[end].kind == LAYER:
                    found.add(self.nodes[end].module)
                elif end not in seen:
                    seen.add(end)
                    waiting.append(end)
        return frozenset(found)


def flow_of(model: nn.Module, layers: Collection[str], example: Inputs) -> Flow:
    """The graph of `layers` as `example` runs through them.

    Args:
        model: not changed; nobody else runs it meanwhile.
        layers: names of the modules that are nodes; what is in none of them belongs to the way between.
        example: a few examples on the model's device.

    Returns:
        Its nodes and edges, joints of one kind that follow one another put together.

    Raises:
        ValueError: the example does not go through the model.
    """
    with evaluating(model), torch.no_grad():
        calls = Counter(call_order(model, example))
    watcher = _Watcher([name for name, count in calls.items() if count > 1])
    handles: list[Any] = []
    for name, module in model.named_modules():
        if name in layers:
            handles.append(module.register_forward_pre_hook(watcher.entering))
            handles.append(module.register_forward_hook(watcher.leaving(name), with_kwargs=True))
    try:
        with evaluating(model), torch.no_grad():
            watcher.begin(tensors_of(example))
            with watcher:
                output = call(model, example)
            watcher.finish(tensors_of(output))
    finally:
        for handle in handles:
            handle.remove()
    return tidied(Flow(tuple(watcher.nodes), tuple(dict.fromkeys(watcher.edges))))


class _Watcher(Watching):
    """Follows every storage; `kept` holds them, so that none comes again in another's place."""

    def __init__(self, repeated: Collection[str]) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.edges: list[tuple[int, int]] = []
        self.source: dict[int, tuple[int, bool]] = {}  # node, and whether these are numbers or what selects
        self.kept: list[Any] = []
        self._known: dict[Any, int] = {}
        self._repeated = repeated
        self._looped: set[int] = set()  # nodes behind a layer that is called again and again
        self._blind = 0

    def begin(self, given: list[Tensor]) -> None:
        start = self._node(Node(INPUT), INPUT)
        for tensor in given:
            self._write(tensor, (start, _holds_numbers(tensor)))

    def finish(self, returned: list[Tensor]) -> None:
        self.nodes.append(Node(OUTPUT))
        self._lead(self._sources(returned), len(self.nodes) - 1)

    def entering(self, _module: nn.Module, _args: Any) -> None:
        self._blind += 1

    def leaving(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
            self._blind -= 1
            if self._blind:
                return
            node = self._node(Node(LAYER, name), name)
            if name in self._repeated:
                self._looped.add(node)
            self._lead(self._sources(tensors_of((args, kwargs))), node)
            for tensor in tensors_of(output):
                self._write(tensor, (node, True))

        return hook

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if self._blind or name in NEUTRAL:
            return out
        inputs = [t for t in tree_flatten((args, kwargs or {}))[0] if isinstance(t, Tensor)]
        outputs = [t for t in tree_flatten(out)[0] if isinstance(t, Tensor)]
        sources = self._sources(inputs)
        if name in ("zero_", "fill_"):
            sources = ()
        elif not sources:
            return out
        joined = self._meeting(_joint_of(name.rstrip("_")), sources)
        for tensor in outputs:
            numbers = _holds_numbers(tensor) and (bool(self._numbers(inputs)) or tensor.dtype in _NUMBERS)
            self._write(tensor, None if joined is None else (joined, numbers))
        return out

    def _sources(self, tensors: Iterable[Tensor]) -> tuple[int, ...]:
        """The nodes behind tensors; masks and indices do not count where there are numbers beside them."""
        return self._numbers(tensors) or self._found(tensors, False)

    def _numbers(self, tensors: Iterable[Tensor]) -> tuple[int, ...]:
        return self._found(tensors, True)

    def _found(self, tensors: Iterable[Tensor], numbers: bool) -> tuple[int, ...]:
        known = (self.source.get(_place(tensor)) for tensor in tensors)
        return tuple(dict.fromkeys(one[0] for one in known if one is not None and one[1] == numbers))

    def _meeting(self, kind: str, sources: tuple[int, ...]) -> int | None:
        """The node behind what an operation makes of `sources`."""
        if len(sources) < 2:
            return sources[0] if sources else None
        looped = not self._looped.isdisjoint(sources)
        node = self._node(Node(kind), (kind, _where() if looped else frozenset(sources)))
        if looped:
            self._looped.add(node)
        self._lead(sources, node)
        return node

    def _node(self, node: Node, key: Any) -> int:
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(node)
        return self._known[key]

    def _lead(self, sources: Iterable[int], node: int) -> None:
        self.edges += [(one, node) for one in sources]

    def _write(self, tensor: Tensor, source: tuple[int, bool] | None) -> None:
        if source is None:
            self.source.pop(_place(tensor), None)
            return
        if _place(tensor) not in self.source:
            self.kept.append(tensor.untyped_storage())
        self.source[_place(tensor)] = source


def _joint_of(operation: str) -> str:
    return PRODUCT if operation.startswith(_ATTENTION) else _JOINED_BY.get(operation, MEET)


def _where() -> tuple[str, int, int]:
    """Where in a network's code the present operation stands: the same at each turn of a loop."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_THE_NETWORKS):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lasti, id(frame.f_locals.get("self"))


def _place(tensor: Tensor) -> int:
    return 0 if tensor.is_sparse or tensor.is_nested else tensor.untyped_storage()._cdata


def _holds_numbers(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex() or tensor.dtype in _NUMBERS


def tidied(flow: Flow) -> Flow:
    """The same without joints that lead nowhere; of one kind that follow one another, but for sums, one."""
    while True:
        after: dict[int, set[int]] = {i: set() for i in range(len(flow.nodes))}
        for start, end in flow.edges:
            after[start].add(end)
        kinds = [node.kind for node in flow.nodes]
        joints = [i for i, kind in enumerate(kinds) if kind in JOINTS]
        gone = {i: None for i in joints if not after[i] - {i}}
        into = {}
        for i in joints:
            following = after[i]
            if i not in gone and len(following) == 1 and kinds[end := min(following)] == kinds[i] != ADD:
                into[i] = end
        if not gone and not into:
            return flow
        flow = _renumbered(flow, gone, into)


def _renumbered(flow: Flow, gone: Collection[int], into: dict[int, int]) -> Flow:
    def last(i: int) -> int:
        seen = {i}
        while i in into and into[i] not in seen:
            i = into[i]
            seen.add(i)
        return i

    left = [i for i in range(len(flow.nodes)) if i not in gone and last(i) == i]
    at = {i: place for place, i in enumerate(left)}
    edges = [(last(a), last(b)) for a, b in flow.edges if a not in gone and b not in gone]
    kept = dict.fromkeys((at[a], at[b]) for a, b in edges if a != b)
    return replace(flow, nodes=tuple(flow.nodes[i] for i in left), edges=tuple(kept))
