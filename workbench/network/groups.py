"""Unit groups: which units can be removed whole, who writes them and who reads them (method.md §1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS = (*CONVOLUTIONS, nn.Linear)
# One number (or four) a channel and nothing across channels: rows go as a writer's do.
PER_CHANNEL = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.PReLU)


@dataclass(frozen=True)
class Writer:
    """A layer or norm whose output rows are the group's units.

    `rows` (m,) int64: the output row of unit j.
    """

    module: str
    rows: Tensor = field(repr=False, compare=False)


@dataclass(frozen=True)
class Reader:
    """A layer that receives the group's units linearly.

    `columns` (m, positions) int64: the input features of unit j. `positions` is 1, or H·W where a Flatten
    stands between: the features of one channel are the positions of one unit.
    """

    module: str
    kind: str
    columns: Tensor = field(repr=False, compare=False)

    @property
    def positions(self) -> int:
        return self.columns.shape[1]

    def samples(self, inputs: Tensor) -> Tensor:
        """What the reader receives as samples: (batch, …) activations → (n, m), a sample a position."""
        features = features_last(inputs, self.kind)
        if self.columns.numel() != features.shape[-1] or not _is_identity(self.columns):
            features = features[..., self.columns.flatten().to(features.device)]
        width, positions = self.columns.shape
        return features.reshape(-1, width, positions).transpose(1, 2).reshape(-1, width)

    def group_weight(self, weight: Tensor) -> Tensor:
        """The part of the reader's weight that meets this group: (outputs, m, positions·kernel)."""
        part = weight[:, self.columns.flatten().to(weight.device)]
        return part.reshape(weight.shape[0], self.columns.shape[0], -1)

    def readout(self, weight: Tensor) -> Tensor:
        """Z of method.md §3, every position stacked: (outputs·positions·kernel, m), float64."""
        part = self.group_weight(weight.detach()).double()
        return part.transpose(1, 2).reshape(-1, part.shape[1])


@dataclass(frozen=True)
class UnitGroup:
    """Units that are removed together: `width` of them, their writers, norms between, and readers.

    `writers`, `norms` and `readers` are in the order in which the network runs them; the units are
    numbered as the first writer's rows. `why_not` says in words why a group is not prunable.
    """

    name: str
    kind: str
    width: int
    writers: tuple[Writer, ...]
    norms: tuple[Writer, ...]
    readers: tuple[Reader, ...]
    prunable: bool = True
    why_not: str = ""

    def details(self) -> str:
        """One line in words, for a log or a tooltip."""
        writes = ", ".join(w.module for w in self.writers)
        reads = ", ".join(r.module for r in self.readers) or "nothing linear"
        tail = "" if self.prunable else f"; not prunable: {self.why_not}"
        return f"{self.name}: {self.width} units written by {writes}, read by {reads}{tail}"


def renumbered(
    groups: Sequence[UnitGroup], rows: dict[str, Tensor], columns: dict[str, Tensor]
) -> tuple[UnitGroup, ...]:
    """The groups after surgery: `rows`, `columns` map a module's old indices to new ones (-1: gone)."""

    def writer(w: Writer) -> Writer:
        return replace(w, rows=_mapped(w.rows, rows.get(w.module)))

    def reader(r: Reader) -> Reader:
        mapped = _mapped(r.columns.flatten(), columns.get(r.module))
        return replace(r, columns=mapped.reshape(-1, r.positions))

    out = []
    for group in groups:
        writers = tuple(writer(w) for w in group.writers)
        norms = tuple(writer(w) for w in group.norms)
        readers = tuple(reader(r) for r in group.readers)
        out.append(
            replace(group, width=writers[0].rows.numel(), writers=writers, norms=norms, readers=readers)
        )
    return tuple(out)


def _mapped(indices: Tensor, mapping: Tensor | None) -> Tensor:
    if mapping is None:
        return indices
    new = mapping[indices]
    return new[new >= 0]


def features_last(inputs: Tensor, kind: str) -> Tensor:
    """A view with the reader's input features on the last axis."""
    if kind == "Linear":
        return inputs
    return inputs.movedim(-int(kind[4]) - 1, -1)  # 'Conv2d' → the channel axis stands before two spatial ones


def _is_identity(columns: Tensor) -> bool:
    return torch.equal(columns.flatten(), torch.arange(columns.numel()))
