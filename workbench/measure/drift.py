"""How far a pruned network is from the one that it was cut from, layer by layer and at the output."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any

import torch
from torch import Tensor, nn

from workbench.data.batches import as_batches, split_batch
from workbench.data.progress import Progress
from workbench.data.randomness import each_of
from workbench.measure.passes import each_batch, run_batch
from workbench.measure.positions import Positions, Visible
from workbench.network.groups import features_last
from workbench.network.layers import SPATIAL
from workbench.network.running import (
    Inputs,
    batch_length,
    device_of,
    evaluating,
    given_back,
    hook_after,
    main_output,
    moved,
    received,
)


@dataclass(frozen=True)
class Cut:
    """What is left of a layer: `rows` of its outputs and `columns` of its inputs, as they were numbered.

    `kind`: the reader's, which says where the features are. `scale`: |γ|/σ of the batch norm that takes the
    layer's output as it is, (rows,); None without one.
    """

    kind: str
    rows: Tensor
    columns: Tensor
    scale: Tensor | None = None


@dataclass(frozen=True)
class Drift:
    """Root mean squares over the data.

    `local`: of the change at each layer's output, over examples and positions, where the whole network's
    activations come in; `behind`: the same behind the batch norm that follows; `positions`: outputs an
    example at each layer. `change`, `size`: of f − f♯ and of f, over examples.
    """

    local: dict[str, float]
    behind: dict[str, float]
    positions: dict[str, float]
    change: float
    size: float
    examples: int


class _Beside:
    """Runs the pruned layer beside the whole one, on what is left of the same input, at every call.

    `visible`: which positions of the batch count.
    """

    def __init__(self, name: str, pruned: nn.Module, cut: Cut):
        self.name, self.pruned, self.cut = name, pruned, cut
        self.visible: Visible | None = None
        self.squares, self.behind, self.positions = 0.0, 0.0, 0

    def __call__(self, _module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Tensor) -> None:
        inputs = received(args, kwargs)
        axis = -1 - SPATIAL[self.cut.kind]
        left = inputs.index_select(axis, self.cut.columns.to(inputs.device))
        whole = output.index_select(axis, self.cut.rows.to(output.device))
        gave = given_back(self.pruned(left))
        assert gave is not None  # as the whole layer gave
        change = whole.double() - gave.double()
        if self.visible is not None:
            change = self.visible.counted(change, self.cut.kind, self.name, inputs)
        change = features_last(change, self.cut.kind)
        scale = torch.ones(1) if self.cut.scale is None else self.cut.scale
        self.squares += float(change.square().sum())
        self.behind += float((change * scale.to(change)).square().sum())
        self.positions += change[..., 0].numel()


def _first(data: Iterable, most: int) -> list:
    """The first batches, until `most` examples are in them."""
    found, examples = [], 0
    for index, batch in enumerate(each_of(data)):
        found.append(batch)
        examples += batch_length(split_batch(batch, index, "calibration")[0])
        if examples >= most:
            break
    return found


@torch.no_grad()
def measure_drift(
    whole: nn.Module,
    pruned: nn.Module,
    cuts: Mapping[str, Cut],
    data: Iterable,
    progress: Progress | None = None,
    cancel: Event | None = None,
    most: int | None = None,
) -> Drift:
    """Run both networks over the data, and each layer of `cuts` in both forms on the whole one's activations.

    Both are networks of one's own (`State.running`), run in evaluation mode and left as they were. `most`:
    after so many examples no further batch is taken. Raises ValueError for data that does not fit, Cancelled.
    """
    data = as_batches(data)
    masked = Positions.of_data(whole, data)  # of all the data: a part of it does not say
    data = data if most is None else _first(data, most)
    beside = {name: _Beside(name, pruned.get_submodule(name), cut) for name, cut in cuts.items()}
    handles = [hook_after(whole.get_submodule(name), one) for name, one in beside.items()]
    sums, examples = torch.zeros(2, dtype=torch.float64), 0

    def run(index: int, inputs: Inputs) -> None:
        nonlocal sums, examples
        visible = masked.of(inputs)
        for one in beside.values():
            one.visible = visible
        with visible.followed():
            before = main_output(run_batch(whole, inputs, index)).double().cpu()
        after = main_output(run_batch(pruned, moved(inputs, device_of(pruned)), index)).double().cpu()
        before, after = (visible.counted(output, "Linear") for output in (before, after))
        sums = sums + torch.stack([(before - after).square().sum(), before.square().sum()])
        examples += batch_length(inputs)

    try:
        with evaluating(whole), evaluating(pruned):
            each_batch(data, device_of(whole), "measuring the change", run, progress, cancel)
    finally:
        for handle in handles:
            handle.remove()
    change, size = (math.sqrt(float(one) / examples) for one in sums)
    local = {name: math.sqrt(one.squares / max(one.positions, 1)) for name, one in beside.items()}
    behind = {name: math.sqrt(one.behind / max(one.positions, 1)) for name, one in beside.items()}
    positions = {name: one.positions / examples for name, one in beside.items()}
    return Drift(local, behind, positions, change, size, examples)
