"""Unit groups: which units can be removed whole, who writes them and who reads them (method.md §1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from workbench.network.layers import SPATIAL
from workbench.spectral.reconstruction import readout_matrix


@dataclass(frozen=True)
class Writer:
    """A layer, a norm or a depthwise stage whose output rows are the group's units.

    `rows` (m, r) int64: the r output rows of unit j; r is 1 but for an attention head, an LSTM's hidden
    unit (a row a gate), or the channels of one norm group.
    """

    module: str
    rows: Tensor = field(repr=False, compare=False)


@dataclass(frozen=True)
class Held:
    """A bare parameter or buffer of a module with entries a unit: a position embedding, a layer scale.

    Also the weight of a layer that reads the units in training mode alone (an auxiliary head): nothing is
    measured there, but its columns go.

    `indices` (m, k) int64: the entries of unit j along `dim` of the tensor `tensor`.
    """

    module: str
    tensor: str
    dim: int
    indices: Tensor = field(repr=False, compare=False)


@dataclass(frozen=True)
class Attribute:
    """A whole number that a module keeps and that falls by `per_unit` with every unit lost (`num_heads`)."""

    module: str
    name: str
    per_unit: int


@dataclass(frozen=True)
class CodeSize:
    """A number of places, `was`, that a module's code gives to torch; it falls by `per_unit` with a unit.

    `place`, `index`: which call in the code, and which number in it. `units`: the group's, where the axis
    holds these and nothing else, or 0.
    """

    module: str
    place: str
    index: int
    was: int
    per_unit: int
    units: int


@dataclass(frozen=True)
class Reader:
    """A layer that receives the group's units linearly.

    `columns` (m, positions) int64: the input features of unit j. `positions` is 1, or H·W where a Flatten
    stands between, or an attention head's dimension: the features of one unit are its positions. `norm`: the
    batch norm that takes the reader's output as it is, '' without one.
    """

    module: str
    kind: str
    columns: Tensor = field(repr=False, compare=False)
    norm: str = ""

    @property
    def positions(self) -> int:
        return self.columns.shape[1]

    def features(self, inputs: Tensor, units: Tensor | None = None) -> Tensor:
        """The group's part of what the reader receives: (…, m·positions), unit by unit, `units` alone."""
        features = features_last(inputs, self.kind)
        columns = (self.columns if units is None else self.columns[units]).flatten()
        if columns.numel() == features.shape[-1] and _is_identity(columns):
            return features
        return features[..., columns.to(features.device)]

    def samples(self, inputs: Tensor) -> Tensor:
        """What the reader receives as samples: (batch, …) activations → (n, m), a sample a position."""
        features = self.features(inputs)
        width, positions = self.columns.shape
        return features.reshape(-1, width, positions).transpose(1, 2).reshape(-1, width)

    def laid(self, inputs: Tensor) -> Tensor:
        """The samples of `samples` as (batch, m, positions), in the order and layout in which they lie.

        A view wherever the units lie evenly in `inputs`; their samples may come in another order.
        """
        width, positions = self.columns.shape
        axis = inputs.dim() - 1 - SPATIAL[self.kind]
        if self._run is not None:
            units = inputs.narrow(axis, *self._run)
        else:
            units = inputs.index_select(axis, self.columns.flatten().to(inputs.device))
        behind = inputs.shape[axis + 1 :].numel()
        return units.reshape(inputs.shape[:axis].numel(), width, positions * behind)

    @cached_property
    def _run(self) -> tuple[int, int] | None:
        """Where the columns begin and how many they are, if they follow one another."""
        first, count = int(self.columns[0, 0]), self.columns.numel()
        follow = torch.equal(self.columns.flatten().cpu(), torch.arange(first, first + count))
        return (first, count) if follow else None

    def reads_alike(self, other: Reader) -> bool:
        """Whether both take the same samples from the same tensor."""
        return SPATIAL[self.kind] == SPATIAL[other.kind] and torch.equal(self.columns, other.columns)

    def group_weight(self, weight: Tensor) -> Tensor:
        """The part of the reader's weight (outputs, inputs, *kernel) that meets this group.

        Returns (outputs, m, positions·kernel). `weight` is as `layer_weight` gives it.
        """
        part = weight[:, self.columns.flatten().to(weight.device)]
        return part.reshape(weight.shape[0], self.columns.shape[0], -1)

    def readout(self, weight: Tensor) -> Tensor:
        """Z of method.md §3, every position stacked: (outputs·positions·kernel, m), float64."""
        return readout_matrix(self.group_weight(weight), len(self.columns))


@dataclass(frozen=True)
class UnitGroup:
    """Units that are removed together: `width` of them, their writers, norms between, and readers.

    `writers`, `norms` and `readers` are in the order in which the network runs them; `norms` are all layers
    between that keep a channel to itself, depthwise and grouped convolutions too. The units are numbered as
    the first writer's rows. `held` tensors lose entries; `attributes`, and `sizes` where attributes alone do
    not count the units, fall with them. `why_not` says in words why a group is not prunable. `work`:
    multiply–accumulates a unit and example beside those of layers, as in the products of an attention head.
    `linked`: names of the groups that became this one, since they can only go together; a unit is then one
    or several of each.
    """

    name: str
    kind: str
    width: int
    writers: tuple[Writer, ...]
    norms: tuple[Writer, ...]
    readers: tuple[Reader, ...]
    prunable: bool = True
    why_not: str = ""
    held: tuple[Held, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    work: int = 0
    linked: tuple[str, ...] = ()
    sizes: tuple[CodeSize, ...] = ()

    def details(self) -> str:
        """One line in words, for a log or a tooltip."""
        writes = ", ".join(w.module for w in self.writers)
        reads = ", ".join(r.module for r in self.readers) or "nothing linear"
        if self.linked:
            parts = f"units of {', '.join(self.linked)}" if len(self.linked) > 1 else "parts of it"
            reads += f"; linked: {parts} go in step"
        tail = "" if self.prunable else f"; not prunable: {self.why_not}"
        return f"{self.name}: {self.width} units written by {writes}, read by {reads}{tail}"


@dataclass(frozen=True)
class Renumbering:
    """Old index → new index (-1: gone) of everything that surgery shortened."""

    rows: Mapping[str, Tensor]
    columns: Mapping[str, Tensor]
    held: Mapping[tuple[str, str, int], Tensor]


def renumbered(
    groups: Sequence[UnitGroup], name: str, kept: Sequence[int], maps: Renumbering
) -> tuple[UnitGroup, ...]:
    """The groups after surgery: group `name` has its `kept` units left, all indices are the new ones."""

    def one(group: UnitGroup) -> UnitGroup:
        units = torch.as_tensor(list(kept)) if group.name == name else slice(None)

        def mapped(indices: Tensor, mapping: Tensor | None) -> Tensor:
            left = indices[units]
            return left if mapping is None else mapping[left]

        writers = tuple(replace(w, rows=mapped(w.rows, maps.rows.get(w.module))) for w in group.writers)
        return replace(
            group,
            width=len(writers[0].rows),
            writers=writers,
            norms=tuple(replace(w, rows=mapped(w.rows, maps.rows.get(w.module))) for w in group.norms),
            readers=tuple(
                replace(r, columns=mapped(r.columns, maps.columns.get(r.module))) for r in group.readers
            ),
            held=tuple(
                replace(h, indices=mapped(h.indices, maps.held.get((h.module, h.tensor, h.dim))))
                for h in group.held
            ),
        )

    return tuple(one(group) for group in groups)


def features_last(inputs: Tensor, kind: str) -> Tensor:
    """A view with the reader's input features on the last axis."""
    spatial = SPATIAL[kind]
    return inputs.movedim(-spatial - 1, -1) if spatial else inputs


def _is_identity(columns: Tensor) -> bool:
    return torch.equal(columns.flatten(), torch.arange(columns.numel()))


def named_group(groups: Sequence[UnitGroup], name: str) -> UnitGroup:
    """The group of that name. Raises ValueError listing the valid names."""
    for group in groups:
        if group.name == name:
            return group
    raise ValueError(f"no group is called {name!r}; the groups are {', '.join(g.name for g in groups)}")


def lost_units(group: UnitGroup, kept: Sequence[int]) -> Tensor:
    """Indices of the units that go. Raises ValueError where `kept` is not ascending, distinct, in range."""
    wanted = sorted(set(kept))
    if not wanted or wanted != list(kept) or wanted[0] < 0 or wanted[-1] >= group.width:
        raise ValueError(
            f"kept units of {group.name!r} must be ascending, distinct and in [0, {group.width}), at least "
            f"one; got {list(kept)[:12]}"
        )
    lost = torch.ones(group.width, dtype=torch.bool)
    lost[list(kept)] = False
    return lost.nonzero().flatten()


def is_grouped(module: nn.Module) -> bool:
    """A convolution whose channels fall into groups: depthwise, or grouped."""
    return getattr(module, "groups", 1) > 1
