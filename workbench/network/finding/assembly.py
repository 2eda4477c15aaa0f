"""Discovery: from a trace to unit groups. What it finds is believed only after the proof of `proof.py`."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from workbench.network.finding.cuts import Cut, is_kept, settled
from workbench.network.finding.labels import Labels, distinct
from workbench.network.finding.trace_tables import Trace
from workbench.network.finding.tracing import trace
from workbench.network.finding.uses import Alike, Use, Uses
from workbench.network.groups import Held, Reader, UnitGroup, Writer, is_grouped
from workbench.network.layers import is_flipped, is_linear_layer, kind_of, width_of
from workbench.network.running import (
    Inputs,
    batch_length,
    first_calls,
    moved,
    one_line,
)

SINGLE = "it has a single unit"
ONE_UNIT = "the network ties its rows to one another: they are a single unit, and none of them can go alone"
IDLE = "does not run on the example input"
TAKEN_APART = (nn.RNNBase, nn.MultiheadAttention)
LISTED = (*TAKEN_APART, nn.RNNCellBase, nn.Bilinear, nn.EmbeddingBag)


@dataclass(frozen=True)
class Discovery:
    """What a trace finds.

    `groups`: all groups of units, and every layer that is in none, in the order of running; `prunable` says
    only that nothing spoke against a group so far. `cuts`: where axes of units that
    are not in proportion anyway are taken apart. `places`: (group name, unit) of every label of the groups
    that stand in them. `singles`: by name, the groups of a single unit against which nothing else speaks.
    `position`: of each module in the order of running. `alike`: training mode does nothing else, but for
    norms and dropout. `trace`: from which they come; `untraced`: why there is none.
    """

    groups: list[UnitGroup]
    places: dict[int, tuple[str, int]] = field(default_factory=dict)
    cuts: list[Cut] = field(default_factory=list)
    singles: dict[str, UnitGroup] = field(default_factory=dict)
    position: dict[str, int] = field(default_factory=dict)
    alike: bool = False
    trace: Trace = field(default_factory=lambda: Trace(Labels()))
    untraced: str = ""


def discover(model: nn.Module, example: Inputs) -> Discovery:
    """Trace `model`, in evaluation mode, on `example`, which is on its device."""
    layers = {n: m for n, m in model.named_modules() if is_linear_layer(m) or isinstance(m, nn.Embedding)}
    found = Trace(Labels())
    places: dict[int, tuple[str, int]] = {}
    cuts: list[Cut] = []
    singles: dict[str, UnitGroup] = {}
    untraced = ""
    try:
        found = trace(*_on_cpu(model, example))
        assembly = _Assembly(model, found, batch_length(example))
        groups, singles = assembly.groups(), assembly.singles
        cuts = [cut for c in found.labels.cuts.values() if not is_kept(cut := settled(found.labels, c))]
        places = assembly.places(cuts)
    except Exception as error:  # whatever a network does inside: it is said, not hidden
        untraced = f"the network could not be traced: {one_line(error)}"
        groups = [_refused(name, module, untraced) for name, module in layers.items()]
    written = {writer.module for group in groups for writer in (*group.writers, *group.norms)}
    for name, module in model.named_modules():
        if name not in written and (
            name in layers or isinstance(module, LISTED) or (_is_quantized(module) and width_of(module))
        ):
            groups.append(_refused(name, module, _why_left_over(name, module, found)))
    position = first_calls(found.calls)
    groups = sorted(groups, key=lambda g: position.get(g.writers[0].module, len(position)))
    return Discovery(groups, places, cuts, singles, position, found.alike, found, untraced)


def _on_cpu(model: nn.Module, example: Inputs) -> tuple[nn.Module, Inputs]:
    """Labels are followed on the CPU: a copy, where the model is elsewhere."""
    if all(parameter.device.type == "cpu" for parameter in model.parameters()):
        return model, example
    cpu = torch.device("cpu")
    return copy.deepcopy(model).to(cpu), moved(example, cpu)


def _is_quantized(module: nn.Module) -> bool:
    return ".quantized" in type(module).__module__


def _why_left_over(name: str, module: nn.Module, found: Trace) -> str:
    if _is_quantized(module):
        return "its weights are quantized and cannot be cut: prune first and quantize afterwards"
    if name in found.outside:
        return _used_outside(name, found.outside[name])
    if name not in found.calls:
        return f"the layer {IDLE}"
    options = " with these options" if isinstance(module, TAKEN_APART) else ""
    return f"a layer of the kind {type(module).__name__}{options} is not taken apart"


def _used_outside(name: str, where: str) -> str:
    return f"the weight of {name} is used outside of its layer, in {where}"


class _Notes:
    """What was noted of labels, by their roots: of several notes of one, the first counts."""

    def __init__(self, labels: Labels, notes: Sequence[tuple[np.ndarray, str]]):
        self._texts = [text for _, text in notes]
        self._first = np.full(labels.count_all(), len(notes))
        for index in reversed(range(len(notes))):
            self._first[labels.roots(torch.from_numpy(notes[index][0])).numpy()] = index

    def of(self, units: np.ndarray) -> str | None:
        """The note of the first of `units` that has one."""
        if not self._texts:
            return None
        noted = self._first[units]
        at = int(np.argmax(noted < len(self._texts)))
        return self._texts[noted[at]] if noted[at] < len(self._texts) else None


class _Assembly:
    """Units of one signature, that is of the same layers in the same roles, make one group."""

    def __init__(self, model: nn.Module, found: Trace, examples: int):
        self.examples = max(examples, 1)
        self.found, self.modules = found, dict(model.named_modules())
        labels = found.labels
        self.work = np.zeros(labels.count_all(), dtype=np.int64)
        for made, counts in labels.work:
            np.add.at(self.work, labels.roots(torch.from_numpy(made)).numpy(), counts)
        self.units: dict[str, np.ndarray] = {}  # labels of a group's units, by its name
        self.singles: dict[str, UnitGroup] = {}
        self.position = first_calls(found.calls)
        self.uses = Uses()
        for name, own in found.rows.items():
            self._use(("norm" if is_grouped(self.modules[name]) else "writer", name), own)
        for name, own in found.carriers.items():
            self._use(("norm", name), own)
        for name, own in found.columns.items():
            self._use(self._reading(name), own)
        self._use_held()
        self.outputs = np.zeros(labels.count_all(), dtype=bool)
        self.outputs[labels.roots(found.outputs).numpy()] = True
        self.reasons, self.mixers = _Notes(labels, labels.reasons), _Notes(labels, labels.mixers)
        self.factors = _Notes(labels, [(units, where) for _, units, where in labels.factors])

    def _use(self, use: Use, labels: Tensor) -> None:
        flat = labels.numpy()
        at = np.flatnonzero(flat > 0)
        self.uses.note(use, flat[at], at)

    def _reading(self, name: str) -> Use:
        """What training mode alone calls receives nothing in evaluation: its weight is cut, no more."""
        if name in self.position:
            return "reader", name
        return "held", (name, "weight", 0 if is_flipped(self.modules[name]) else 1)

    def _use_held(self) -> None:
        """Axes of bare parameters along which the entries belong to units."""
        pairs = self.found.labels.linked()
        entries = pairs[:, 0]
        units = self.found.labels.roots(torch.from_numpy(pairs[:, 1].copy())).numpy()
        for (module, name), (first, tensor) in self.found.held.items():
            here = (entries >= first) & (entries < first + tensor.numel())
            if not here.any():
                continue
            at = np.unravel_index(entries[here] - first, tuple(tensor.shape))
            axis = _unit_axis(at, units[here])
            if axis is not None:
                along = distinct(at[axis], units[here])
                self.uses.note(("held", (module, name, axis)), along[:, 1], along[:, 0])

    def groups(self) -> list[UnitGroup]:
        """The groups; `units` and `singles` are known afterwards."""
        made = [
            self._group(alike)
            for alike in self.uses.alike(self.found.labels.count_all())
            if any(role in ("writer", "norm") for role, _ in alike.uses)
        ]
        groups = named([self._listed(group) for group, _ in made])
        for listed, (group, units) in zip(groups, made, strict=True):
            self.units[listed.name] = units
            if group.width == 1 and group.prunable:
                self.singles[listed.name] = replace(group, name=listed.name)
        return groups

    def places(self, cuts: Sequence[Cut]) -> dict[int, tuple[str, int]]:
        """(group name, unit) of every label of the groups of which a unit stands in one of the cuts."""
        cut = np.zeros(self.found.labels.count_all(), dtype=bool)
        for one in cuts:
            cut[one.labels.numpy()] = True
        return {
            unit: (name, index)
            for name, units in self.units.items()
            if cut[units].any()
            for index, unit in enumerate(units.tolist())
        }

    @staticmethod
    def _listed(group: UnitGroup) -> UnitGroup:
        """What cannot be told apart is listed by its rows."""
        if group.width > 1:
            return group
        writers, norms = (
            tuple(Writer(part.module, part.rows.reshape(-1, 1)) for part in parts)
            for parts in (group.writers, group.norms)
        )
        width = len(writers[0].rows)
        reason = group.why_not or (SINGLE if width == 1 else ONE_UNIT)
        return UnitGroup(group.name, group.kind, width, writers, norms, (), False, reason)

    def _group(self, alike: Alike) -> tuple[UnitGroup, np.ndarray]:
        """A group and the labels of its units in order."""
        uses = list(alike.uses)

        def in_order(role: str) -> list[str]:
            names = [where for found, where in uses if found == role]
            return sorted(names, key=lambda name: self.position.get(name, len(self.position)))

        writers, norms = in_order("writer"), in_order("norm")
        if not writers:  # a depthwise stage on channels that no layer writes
            writers, norms = norms[:1], norms[1:]
        role = "writer" if ("writer", writers[0]) in uses else "norm"
        units = alike.in_order_of((role, writers[0]))

        def table(use: Use) -> Tensor:
            return torch.from_numpy(alike.table(use, units))

        readers = in_order("reader")
        reason = self._training_only(writers, uses, bool(readers))
        reason = reason or self._of_layers([*writers, *norms, *readers]) or self._reason(units, bool(readers))
        group = UnitGroup(
            name=writers[0],
            kind=kind_of(self.modules[writers[0]]),
            width=len(units),
            writers=tuple(Writer(n, table((role, n))) for n in writers),
            norms=tuple(Writer(n, table(("norm", n))) for n in norms),
            readers=tuple(self._reader(n, table(("reader", n))) for n in readers),
            prunable=not reason,
            why_not=reason,
            work=int(self.work[units[0]]) // self.examples,
            held=tuple(Held(at[0], at[1], at[2], table((r, at))) for r, at in uses if r == "held"),
        )
        return group, units

    def _reader(self, name: str, columns: Tensor) -> Reader:
        return Reader(name, kind_of(self.modules[name]), columns, self.found.normalised.get(name, ""))

    def _training_only(self, writers: list[str], uses: list[Use], read: bool) -> str:
        if writers[0] in self.found.outside:
            return _used_outside(writers[0], self.found.outside[writers[0]])
        if writers[0] not in self.position:
            return "the layer runs in training mode alone"
        held = [
            where[0] for role, where in uses if role == "held" and is_linear_layer(self.modules[where[0]])
        ]
        return "" if read or not held else f"only training mode reads its units, in {', '.join(held)}"

    def _of_layers(self, names: list[str]) -> str:
        for name in names:
            if name in self.found.outside:
                return _used_outside(name, self.found.outside[name])
            if any(parameter.is_complex() for parameter in self.modules[name].parameters(recurse=False)):
                return f"{name} has complex weights: only real ones can be measured and fitted"
        return ""

    def _reason(self, units: np.ndarray, read: bool) -> str:
        mixer = self.mixers.of(units) if len(units) == 1 else None
        mixed = f"its units are mixed by {mixer}: none of them can go alone"
        if mixer is not None and self.factors.of(units) is not None and not read:
            return mixed
        if self.outputs[units].any():
            returned = "are the network's outputs" if not read else "are also returned by the network"
            return f"its units {returned}" + ("" if read else ": no linear layer reads them")
        reason = self.reasons.of(units)
        if reason is not None:
            return reason
        if mixer is not None:
            return mixed
        if not read:
            return "no linear layer reads its units"
        return ""


def named(groups: Sequence[UnitGroup]) -> list[UnitGroup]:
    """The groups, called by their first writers; those that share one are told apart by their rows of it."""
    count: dict[str, int] = defaultdict(int)
    for group in groups:
        count[group.name] += 1
    out: list[UnitGroup] = []
    used: set[str] = set()
    for group in groups:
        name = group.name
        if count[name] > 1:
            rows = group.writers[0].rows
            name = f"{name}[{int(rows.min())}:{int(rows.max()) + 1}]"
            while name in used:
                name += "′"
        used.add(name)
        out.append(replace(group, name=name))
    return out


def _unit_axis(at: tuple[np.ndarray, ...], units: np.ndarray) -> int | None:
    """The axis of a bare parameter along which each index has one unit; None where entries are shared."""
    best, most = None, 1
    for axis, index in enumerate(at):
        pairs = distinct(index, units)
        if len(np.unique(pairs[:, 0])) == len(pairs) and len(pairs) > most:
            best, most = axis, len(pairs)
    return best


def _refused(name: str, module: nn.Module, reason: str) -> UnitGroup:
    width = width_of(module)
    writer = Writer(name, torch.arange(width)[:, None])
    return UnitGroup(name, type(module).__name__, width, (writer,), (), (), False, reason)
