"""What one traced pass found, in tables by the names of modules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from workbench.network.finding.labels import Labels
from workbench.network.finding.noted_sizes import NotedSize


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
    (module, tensor name); `multiplied`: those that stand in a product of matrices. `own`: labels of rows that
    stand on a layer's bias, or on the features of an embedding's table, whoever uses these. `work`: layers'
    multiply–accumulates in evaluation mode. `made`: the layer that made a storage; `normalised`: the batch
    norm that takes a layer's output as it is. `alike`: training mode, norms and dropout at rest, runs the
    same operations and returns the same numbers. `sizes`: those that code gave to torch.
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
    own: dict[str, Tensor] = field(default_factory=dict)
    work: int = 0
    made: dict[int, str] = field(default_factory=dict)
    normalised: dict[str, str] = field(default_factory=dict)
    alike: bool = False
    sizes: list[NotedSize] = field(default_factory=list)

    def mixed_layers(self) -> Tensor:
        """Labels of the layers all of whose rows became one unit, (layers,)."""
        rows = [found for found in map(self.labels.roots, self.rows.values()) if len(found) > 1]
        return torch.tensor([int(one[0]) for one in rows if bool((one == one[0]).all())], dtype=torch.int64)
