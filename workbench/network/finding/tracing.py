"""Tracing: one forward pass in which every tensor carries the labels of the units behind its numbers.

Layers with weights have rules of their own below: a linear layer or convolution reads the units at its input
and writes new ones, a norm passes them on. All other operations follow `operations.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from workbench.network.finding.kinds import BARE_PRODUCTS, CONTRACTING, NEUTRAL
from workbench.network.finding.labels import Labels
from workbench.network.finding.operations import mixer, propagate
from workbench.network.groups import features_last, is_grouped
from workbench.network.layers import PER_CHANNEL, SPATIAL, is_linear_layer, kind_of, layer_weight, width_of
from workbench.network.running import Inputs, call, is_call_for_nothing, received, tensors_of
from workbench.network.training import DropoutAtRest, training_at_rest, untouched_randomness

MULTIPLYING = CONTRACTING | BARE_PRODUCTS


@dataclass
class Trace:
    """What one pass found; labels are roots, arrays of int64 by a module's name.

    `rows`: labels of the output rows of layers that write. `carriers`: of the channels of norms and of
    depthwise and grouped convolutions. `columns`: of the input features of layers that read. `held`: the
    first label of a bare parameter or buffer, and the tensor, by (module, tensor name). `outputs`: labels in
    what the network returns. `calls`: modules in the order in which they were called, as often as they were,
    in evaluation mode; what reads or writes units in training mode alone is in the tables and not in it.
    `operations`: what ran then; `returned`: what came out. `outside`: where the weight of a layer is used by
    anything but the layer, by the layer's name. `used`: the module that computes with a bare parameter, by
    (module, tensor name); `multiplied`: those that stand in a product of matrices. `work`: layers' multiply–
    accumulates in evaluation mode. `made`: the layer that made a storage; `normalised`: the batch norm that
    takes a layer's output as it is. `alike`: training mode, norms and dropout at rest, runs the same
    operations and returns the same numbers.
    """

    labels: Labels
    rows: dict[str, Tensor] = field(default_factory=dict)
    carriers: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)
    held: dict[tuple[str, str], tuple[int, Tensor]] = field(default_factory=dict)
    outputs: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    calls: list[str] = field(default_factory=list)
    operations: list[Any] = field(default_factory=list)
    returned: list[Tensor] = field(default_factory=list)
    outside: dict[str, str] = field(default_factory=dict)
    used: dict[tuple[str, str], str] = field(default_factory=dict)
    multiplied: set[tuple[str, str]] = field(default_factory=set)
    work: int = 0
    made: dict[int, str] = field(default_factory=dict)
    normalised: dict[str, str] = field(default_factory=dict)
    alike: bool = False


def trace(model: nn.Module, example: Inputs) -> Trace:
    """Run `model` (in evaluation mode) once on `example`, on the CPU, and label everything.

    Then a copy of it once in training mode: heads that only training uses read units too, and what meets
    there must go together. A network that does not train on inputs alone is taken as it evaluates.
    """
    found = Trace(Labels())
    found.outputs = _watched(found, model, example, found.calls)
    _settle(found)
    labels, work, normalised = found.labels, list(found.labels.work), dict(found.normalised)
    reasons, mixers = len(labels.reasons), len(labels.mixers)
    with untouched_randomness(), suppress(Exception):
        trained = training_at_rest(model)
        found.alike = _runs_alike(trained, example, found)
        if not found.alike:
            labels.refuse(_watched(found, trained, example, []), "they are returned by the network")
    _settle(found)
    labels.work, found.normalised = work, normalised  # costs and norms are those of evaluation
    for notes, before in ((labels.reasons, reasons), (labels.mixers, mixers)):
        notes[before:] = [(label, f"{text} in training mode") for label, text in notes[before:]]
    for table in (found.rows, found.carriers, found.columns):
        table.update({name: labels.roots(value) for name, value in table.items()})
    labels.let_go()
    found.returned = []
    return found


def _settle(found: Trace) -> None:
    """Join what results are made of, but for those that nothing reads, refuses or returns."""
    labels = found.labels
    linked = [torch.from_numpy(pairs[:, 1].copy()) for pairs in labels.links]
    refused = torch.tensor([label for label, _ in labels.reasons], dtype=torch.int64)
    tables = [*found.rows.values(), *found.carriers.values(), *found.columns.values()]
    labels.settle(torch.cat([found.outputs, refused, *linked, *(table.flatten() for table in tables)]))


def _watched(found: Trace, model: nn.Module, example: Inputs, calls: list[str]) -> Tensor:
    """One pass, noted in `found`, the modules called in `calls`; returns labels that the network returns."""
    watcher = _Watcher(model, found, calls)
    try:
        with _in_parts(), watcher:
            output = call(model, example)
    finally:
        watcher.leave()
    found.returned = tensors_of(output)
    known = [found.labels.of(t) for t in tensors_of(output)]
    seen = [k.clamp(min=0).unique() for k in known if k is not None]
    return torch.cat([found.outputs[:0], *seen])


@contextmanager
def _in_parts() -> Iterator[None]:
    """Within: attention runs through operations that a dispatch mode sees."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


def _runs_alike(model: nn.Module, example: Inputs, found: Trace) -> bool:
    """Whether a pass runs the operations and returns the numbers that `found` did: nothing more to see."""
    seen = _Operations()
    with _in_parts(), DropoutAtRest(), seen:
        returned = tensors_of(call(model, example))
    same = seen.operations == found.operations and len(returned) == len(found.returned)
    return same and all(torch.equal(a, b) for a, b in zip(returned, found.returned, strict=True))


class _Operations(TorchDispatchMode):
    """Notes what runs, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations.append(_operation(func, args))
        return out


def _operation(func: Any, args: tuple) -> tuple[Any, ...]:
    return func, *(t.shape for t in args if isinstance(t, Tensor) and not t.is_nested)


class _Watcher(TorchDispatchMode):
    """The dispatch mode, with hooks on all modules."""

    def __init__(self, model: nn.Module, found: Trace, calls: list[str]):
        super().__init__()
        self.found, self.calls = found, calls
        self._blind = 0
        self._weights: dict[int, str] = {}
        self._bare: dict[int, tuple[str, str]] = {}  # parameters and buffers of no layer
        self._path: list[str] = []
        self._handles: list[Any] = []
        for name, module in model.named_modules():
            rule = _rule_for(module)
            self._handles.append(
                module.register_forward_pre_hook(self._entering(name, rule), with_kwargs=True)
            )
            self._handles.append(module.register_forward_hook(self._leaving(name, rule), with_kwargs=True))
            if rule is None:
                self._hold(name, module)
            else:
                for key, tensor in module.named_parameters(recurse=False):
                    if key in ("weight", "bias"):  # not those of which a hook makes the weight
                        self._weights.setdefault(tensor.untyped_storage()._cdata, name)

    def _hold(self, name: str, module: nn.Module) -> None:
        for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            self._bare.setdefault(tensor.untyped_storage()._cdata, (name, key))
            if tensor.numel() < 2:
                continue  # one number for all belongs to no unit
            if (name, key) in self.found.held:  # a copy's entries are the original's
                self.found.labels.hold(tensor.detach(), self.found.held[name, key][0])
                continue
            first = self.found.labels.hold(tensor.detach())
            if first is not None:
                self.found.held[name, key] = (first, tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.calls is self.found.calls:
            self.found.operations.append(_operation(func, args))
        where = self._path[-1] if self._path else ""
        self._note_bare(func.overloadpacket.__name__, args, where)
        if not self._blind:
            self._note_outside(func.overloadpacket.__name__, args, out, where or "the network")
            propagate(self.found.labels, func, args, kwargs or {}, out, where)
            for storage in self.found.labels.forgotten():
                self.found.made.pop(storage, None)
        return out

    def _note_bare(self, name: str, args: tuple, where: str) -> None:
        """Where bare parameters are used, and which of them are a matrix in a product."""
        for tensor in tree_flatten(args)[0]:
            at = self._bare.get(tensor.untyped_storage()._cdata) if isinstance(tensor, Tensor) else None
            if at is not None:
                self.found.used.setdefault(at, where)
                if name in MULTIPLYING and tensor.dim() > 1:
                    self.found.multiplied.add(at)

    def _note_outside(self, name: str, args: tuple, out: Any, where: str) -> None:
        """A layer's weight that something else computes with: cutting the layer would not be enough."""
        tensors = [t for t in tree_flatten(args)[0] if isinstance(t, Tensor)]
        keys = [t.untyped_storage()._cdata for t in tensors]
        used = {self._weights[key] for key in keys if key in self._weights}
        made = [t.untyped_storage()._cdata for t in tree_flatten(out)[0] if isinstance(t, Tensor)]
        if not used or name in NEUTRAL or not set(made) - set(keys):
            return
        multiplies = name in MULTIPLYING
        if not multiplies and self.calls is not self.found.calls:
            return  # a penalty on weights, say, that training alone computes
        for layer in used:
            self.found.outside.setdefault(layer, where)
            for tensor in tensors if multiplies else ():
                known = self.found.labels.of(tensor)
                if known is not None:
                    reason = f"they are multiplied by the weight of {layer} outside of that layer, in {where}"
                    self.found.labels.refuse(known, reason)

    def _entering(self, name: str, rule: Any) -> Callable:
        def hook(_module: nn.Module, args: tuple, _kwargs: dict) -> None:
            if not is_call_for_nothing(args):
                self.calls.append(name)
            self._path.append(name)
            if rule is not None:
                self._blind += 1

        return hook

    def _leaving(self, name: str, rule: Any) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
            self._path.pop()
            if rule is None:
                return
            if self._blind == 1 and not is_call_for_nothing(args):
                with torch._C._DisableTorchDispatch():  # its own operations are none of the network's
                    if is_linear_layer(module) and self.calls is self.found.calls:
                        self.found.work += output.numel() * layer_weight(module)[0].numel()
                    rule(self.found, name, module, received(args, kwargs), output)
            self._blind -= 1

        return hook

    def leave(self) -> None:
        for handle in self._handles:
            handle.remove()


def _rule_for(module: nn.Module) -> Callable[..., None] | None:
    if is_linear_layer(module):
        return _grouped if is_grouped(module) else _linear
    for kinds, rule in _MODULE_RULES:
        if isinstance(module, kinds):
            return rule
    return None


def _linear(found: Trace, name: str, module: nn.Module, inputs: Tensor, output: Tensor) -> None:
    """Reads the units along its input features; where one unit fills them all, it passes that unit on."""
    labels, kind = found.labels, kind_of(module)
    known = labels.of(inputs)
    if known is not None:
        features = features_last(known, kind)
        rows = features.reshape(-1, features.shape[-1])
        if not labels.is_uniform(rows, [0]) and labels.is_uniform(rows, [1]):
            spatial = SPATIAL[kind]
            axes = [-1 - spatial, *range(-spatial, 0)]
            passed = labels.together(known, axes, mixer(name, kind))
            labels.write(output, passed.expand(output.shape))
            each = layer_weight(module)[0].numel() * output.numel() // max(1, passed.numel())
            labels.count(passed, each)
            if name not in found.rows:
                found.rows[name] = labels.fresh(width_of(module))
                labels.refuse(found.rows[name], "it works along an axis of positions, not of units")
            return
        _note(found, found.columns, name, labels.together(rows, [0], mixer(name, kind))[0])
    _write_rows(found, name, module, output, kind)


def _write_rows(found: Trace, name: str, module: nn.Module, output: Tensor, kind: str) -> None:
    if name not in found.rows:
        found.rows[name] = found.labels.fresh(width_of(module))
    rows = found.labels.roots(found.rows[name])
    shape = [-1, *[1] * SPATIAL.get(kind, 0)]
    found.labels.write(output, rows.reshape(shape).expand(output.shape))
    found.made[output.untyped_storage()._cdata] = name


def _note(found: Trace, table: dict[str, Tensor], name: str, channels: Tensor) -> None:
    """Remember the labels of a module's channels; a module called twice sees the same units twice."""
    channels = channels.clamp(min=0)
    before = table.get(name)
    table[name] = channels if before is None else found.labels.meet(found.labels.roots(before), channels)


def _channels(found: Trace, name: str, module: nn.Module, inputs: Tensor) -> Tensor | None:
    """Labels of the channels (axis 1) of a norm's or grouped convolution's input, (C,)."""
    known = found.labels.of(inputs)
    if known is None:
        return None
    axis = 1
    spatial = SPATIAL.get(kind_of(module))
    if spatial is not None:
        axis = known.dim() - 1 - spatial
    others = [d for d in range(known.dim()) if d != axis]
    return found.labels.together(known, others, mixer(name, kind_of(module))).flatten()


def _spread(found: Trace, channels: Tensor, tensor: Tensor, axis: int) -> None:
    shape = [1] * tensor.dim()
    shape[axis] = -1
    found.labels.write(tensor, channels.reshape(shape).expand(tensor.shape))


def _per_channel(found: Trace, name: str, module: nn.Module, inputs: Tensor, output: Tensor) -> None:
    if getattr(module, "num_parameters", 2) == 1:  # a PReLU with one slope for all
        found.labels.write(output, found.labels.of(inputs))
        return
    channels = _channels(found, name, module, inputs)
    if channels is not None:
        _note(found, found.carriers, name, channels)
        _spread(found, channels, output, 1)
        maker = found.made.get(inputs.untyped_storage()._cdata)
        if maker is not None and isinstance(module, nn.modules.batchnorm._BatchNorm):
            rows, taken = found.labels.roots(found.rows[maker]), found.labels.roots(channels.clamp(min=0))
            if torch.equal(rows, taken) and len(rows.unique()) == len(rows):  # a channel an output, in order
                found.normalised[maker] = name


def _group_norm(found: Trace, name: str, module: Any, inputs: Tensor, output: Tensor) -> None:
    """The channels of one norm group are one unit."""
    channels = _channels(found, name, module, inputs)
    if channels is None:
        return
    parts = channels.reshape(module.num_groups, -1)
    joined = found.labels.together(parts, [1], mixer(name, "GroupNorm"))
    for part, whole in zip(parts, joined, strict=True):
        if bool((part <= 0).any()):
            found.labels.refuse(whole, f"they share a norm group of {name} with channels that stay")
    channels = found.labels.roots(channels)
    _note(found, found.carriers, name, channels)
    _spread(found, channels, output, 1)


def _layer_norm(found: Trace, name: str, module: Any, inputs: Tensor, output: Tensor) -> None:
    known = found.labels.of(inputs)
    if known is not None:
        dims = range(known.dim() - len(module.normalized_shape), known.dim())
        joined = found.labels.together(known, dims, mixer(name, type(module).__name__))
        found.labels.write(output, joined.expand(output.shape))


def _grouped(found: Trace, name: str, module: Any, inputs: Tensor, output: Tensor) -> None:
    """Depthwise and grouped convolutions: the channels of one group, in and out, are one unit."""
    labels, groups = found.labels, module.groups
    channels = _channels(found, name, module, inputs)
    if name not in found.rows:
        found.rows[name] = labels.fresh(module.out_channels)
    rows = labels.roots(found.rows[name])
    if channels is None:
        channels = torch.zeros(module.in_channels, dtype=torch.int64)
    both = torch.cat([rows.reshape(groups, -1), channels.clamp(min=0).reshape(groups, -1)], 1)
    mixed = mixer(name, f"{kind_of(module)} in groups") if module.in_channels > groups else ""
    labels.together(both, [1], mixed)
    rows, channels = labels.roots(rows), labels.roots(channels)
    for part, out in zip(channels.reshape(groups, -1), rows.reshape(groups, -1), strict=True):
        if bool((part <= 0).any()):
            labels.refuse(out, f"{name} is a grouped convolution of channels that stay")
    axis = output.dim() - 1 - SPATIAL[kind_of(module)]
    _spread(found, rows, output, axis)


def _embedding(found: Trace, name: str, module: Any, inputs: Tensor, output: Any) -> None:
    for one in tensors_of(output):  # a kind of one's own may return the places beside what stands there
        if one.is_floating_point() and one.shape[-1] == module.embedding_dim:
            _write_rows(found, name, module, one, "Embedding")
    if module.max_norm is not None:
        found.labels.refuse(found.rows[name], f"{name} renormalises its rows (max_norm)")


_MODULE_RULES: tuple[tuple[Any, Callable[..., None]], ...] = (
    (PER_CHANNEL, _per_channel),
    (nn.GroupNorm, _group_norm),
    ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    (nn.Embedding, _embedding),
)
