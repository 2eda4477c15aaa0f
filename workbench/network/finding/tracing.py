"""Tracing: one forward pass in which every tensor carries the labels of the units behind its numbers.

Layers with weights have rules of their own (`layer_rules.py`). All other operations follow `operations.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten

from workbench.network.cached import refresh
from workbench.network.finding.kinds import BARE_PRODUCTS, CONTRACTING, NEUTRAL
from workbench.network.finding.labels import Labels
from workbench.network.finding.layer_rules import rule_for, several_tensors
from workbench.network.finding.noted_sizes import SizeNotes
from workbench.network.finding.operations import propagate
from workbench.network.finding.trace_tables import Trace
from workbench.network.layers import is_linear_layer, layer_weight, width_of
from workbench.network.modes import Watching
from workbench.network.running import (
    Inputs,
    call,
    given_back,
    is_call_for_nothing,
    received,
    tensors_of,
)
from workbench.network.training import DropoutAtRest, training_at_rest, untouched_randomness

MULTIPLYING = CONTRACTING | BARE_PRODUCTS


def trace(model: nn.Module, example: Inputs) -> Trace:
    """Run `model` (in evaluation mode) once on `example`, on the CPU, and label everything.

    Then a copy of it once in training mode: heads that only training uses read units too, and what meets
    there must go together. A network that does not train on inputs alone is taken as it evaluates.

    Where two axes of units are multiplied with each other, as channels with states, all of them would become
    one unit: then a second look takes the longer axis alone for units.
    """
    found = _traced(model, example, Labels())
    if not _crossed_to_one(found):
        return found
    apart = _traced(model, example, Labels(apart=True))
    return apart if _keeps_some(apart) else found


def _crossed_to_one(found: Trace) -> bool:
    """Whether what was multiplied crosswise is a single unit, all rows of a layer."""
    return bool(torch.isin(_roots(found, found.labels.crossed), found.mixed_layers()).any())


def _keeps_some(found: Trace) -> bool:
    """Whether units that were kept apart may go, as far as is known."""
    refused = found.labels.roots(_refused(found))
    stay = torch.cat([refused, found.labels.roots(found.outputs)])
    return not bool(torch.isin(_roots(found, found.labels.crossed), stay).all())


def _roots(found: Trace, labels: list[int]) -> Tensor:
    return found.labels.roots(torch.tensor(labels, dtype=torch.int64)).unique()


def _refused(found: Trace) -> Tensor:
    """Labels of the units of which a reason says that they cannot go."""
    return torch.cat([found.outputs[:0], *(torch.from_numpy(units) for units, _ in found.labels.reasons)])


def _traced(model: nn.Module, example: Inputs, labels: Labels) -> Trace:
    found = Trace(labels)
    found.outputs = _watched(found, model, example, found.calls)
    _settle(found)
    for storage in labels.forgotten(now=True):  # before a copy runs beside
        found.made.pop(storage, None)
    work, normalised = list(found.labels.work), dict(found.normalised)
    reasons, mixers = len(labels.reasons), len(labels.mixers)
    with untouched_randomness(), suppress(Exception):
        trained = training_at_rest(model)
        found.alike = _runs_alike(trained, example, found)
        if not found.alike:
            labels.refuse(_watched(found, trained, example, []), "they are returned by the network")
    _settle(found)
    labels.work, found.normalised = work, normalised  # costs and norms are those of evaluation
    for notes, before in ((labels.reasons, reasons), (labels.mixers, mixers)):
        notes[before:] = [(units, f"{text} in training mode") for units, text in notes[before:]]
    for table in (found.rows, found.carriers, found.columns):
        table.update({name: labels.roots(value) for name, value in table.items()})
    labels.let_go()
    found.returned = []
    return found


def _settle(found: Trace) -> None:
    """Join what results are made of, but for those that nothing reads, refuses or returns."""
    labels = found.labels
    linked = [torch.from_numpy(pairs[:, 1].copy()) for pairs in labels.links]
    refused = _refused(found)
    tables = [*found.rows.values(), *found.carriers.values(), *found.columns.values()]
    labels.settle(torch.cat([found.outputs, refused, *linked, *(table.flatten() for table in tables)]))


def _watched(found: Trace, model: nn.Module, example: Inputs, calls: list[str]) -> Tensor:
    """One pass, noted in `found`, the modules called in `calls`; returns labels that the network returns."""
    watcher = _Watcher(model, found, calls)
    try:
        with _in_parts(), SizeNotes(model, found.labels, found.sizes), watcher:
            refresh(model)  # what comes of parameters comes of them before its eyes
            output = call(model, example)
    finally:
        watcher.leave()
    found.returned = tensors_of(output)
    return torch.cat([found.outputs[:0], *map(found.labels.units_in, found.returned)])


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


class _Operations(Watching):
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


class _Watcher(Watching):
    """The dispatch mode, with hooks on all modules."""

    def __init__(self, model: nn.Module, found: Trace, calls: list[str]):
        super().__init__()
        self.found, self.calls = found, calls
        self._blind = 0
        self._weights: dict[int, str] = {}
        self._rows: dict[int, str] = {}  # what has an entry a row of a layer
        self._bare: dict[int, tuple[str, str]] = {}  # parameters and buffers of no layer
        self._path: list[str] = []
        self._handles: list[Any] = []
        for name, module in model.named_modules():
            rule = rule_for(module)
            self._handles.append(
                module.register_forward_pre_hook(self._entering(name, rule), with_kwargs=True)
            )
            self._handles.append(module.register_forward_hook(self._leaving(name, rule), with_kwargs=True))
            if rule is None:
                self._hold(name, module)
            else:
                own = self._own(name, module)
                for key, tensor in module.named_parameters(recurse=False):
                    at = tensor.untyped_storage()._cdata
                    if tensor is own:
                        self._rows.setdefault(at, name)
                    if key == "weight" or (
                        key == "bias" and tensor is not own
                    ):  # not what a hook makes them of
                        self._weights.setdefault(at, name)

    def _own(self, name: str, module: nn.Module) -> Tensor | None:
        """Label what has an entry a row of a layer: its bias, the features of an embedding's table."""
        tensor: Any = getattr(module, "bias", None) if is_linear_layer(module) else None
        tensor = module.weight if isinstance(module, nn.Embedding) else tensor
        if not isinstance(tensor, nn.Parameter) or tensor.is_complex():
            return None
        labels = self.found.labels
        rows = self.found.own.setdefault(name, labels.fresh(width_of(module)))
        labels.write(tensor.detach(), labels.roots(rows).expand(tensor.shape))
        return tensor

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
        multiplies = name in MULTIPLYING
        for layer in [self._rows[key] for key in keys if key in self._rows]:
            if layer not in self.found.rows:
                self.found.rows[layer] = self.found.own[layer]
                self.calls.append(layer)
        used = {
            self._weights[key]
            for key in keys
            if key in self._weights and (multiplies or key not in self._rows)
        }
        made = [t.untyped_storage()._cdata for t in tree_flatten(out)[0] if isinstance(t, Tensor)]
        if not used or name in NEUTRAL or not set(made) - set(keys):
            return
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
                # The rule's own operations are none of the network's.
                with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
                    given = received(args, kwargs)
                    gave, takes = given_back(output), tensors_of((args, kwargs))
                    single = isinstance(output, Tensor) or (gave is not None and len(takes) == 1)
                    if isinstance(module, nn.Embedding) and isinstance(given, Tensor):
                        rule(self.found, name, module, given, output)
                    elif single and isinstance(given, Tensor):
                        self._count_work(module, gave)
                        rule(self.found, name, module, given, gave)
                    else:
                        several_tensors(self.found, name, module, takes, gave)
            self._blind -= 1

        return hook

    def _count_work(self, module: nn.Module, output: Any) -> None:
        if is_linear_layer(module) and self.calls is self.found.calls:
            self.found.work += output.numel() * layer_weight(module)[0].numel()

    def leave(self) -> None:
        for handle in self._handles:
            handle.remove()
