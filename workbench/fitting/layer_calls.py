"""Sums over what layers see at every call, and what the unpruned network gave there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from threading import Event
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from workbench.data.batches import as_batches, first_inputs
from workbench.data.progress import Progress
from workbench.fitting.patches import PatchLayer
from workbench.fitting.watching import LayerCall
from workbench.measure.passes import each_batch, example_count
from workbench.measure.positions import Positions, Visible
from workbench.network.fewer import few_examples
from workbench.network.running import Inputs, batch_length, device_of, moved

_SEED = 0  # of the choice of samples, so that runs repeat


class Source(Protocol):
    """Where a layer's calls come from: a `Watch` that runs the network, or what was stored of one."""

    network: nn.Module
    stop: bool
    additions: bool

    def run(self, inputs: Inputs, index: int) -> list[LayerCall]:
        """The layer's calls in batch `index`."""
        ...


def measure_calls(
    watches: Sequence[Source],
    layer: PatchLayer,
    data: Any,
    most: int,
    use: Callable[[Sequence[LayerCall], Tensor | None], None],
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> None:
    """Run every batch through the watched networks, and use every call of one layer.

    Args:
        watches: a source of the layer's calls a network; the last one is run here.
        layer: of which the calls are used.
        data: calibration batches, as for `measure_moments`.
        progress: called as ``progress(done, total, what)`` after every batch.
        cancel: where it is set, the work stops before the next batch.
        most: samples to use; where the data has more, a random choice with a fixed seed is made.
        use: called as ``use(calls, picked)``: the same call in each network, and the flat numbers (n,) of the
            samples chosen, None for all of them.

    Raises:
        ValueError: the layer is not called, or not as often in one network as in the other.
        Cancelled: `cancel` was set.
    """
    data = as_batches(data)
    share = _probe(watches, layer, data, most)
    generator = torch.Generator().manual_seed(_SEED)
    positions = Positions.of_data(watches[-1].network, data)

    def run(index: int, inputs: Inputs) -> None:
        visible = positions.of(inputs)
        with visible.followed():
            seen = [watch.run(moved(inputs, device_of(watch.network)), index) for watch in watches]
        if len({len(calls) for calls in seen}) > 1:
            times = " and ".join(str(len(calls)) for calls in seen)
            raise ValueError(
                f"layer {layer.name} is called {times} times a pass in the two networks; only equal calls "
                "can be compared"
            )
        for step, calls in enumerate(zip(*seen, strict=True)):
            flags = _counted(layer, calls[-1].inputs, visible, step)
            if share < 1:
                total = _samples(layer, calls[-1].inputs)
                chosen = torch.rand(total, generator=generator) < share
                flags = chosen if flags is None else flags & chosen
            picked = None if flags is None else flags.nonzero()[:, 0]
            if picked is None or len(picked):
                use(calls, picked)

    each_batch(data, device_of(watches[0].network), f"refitting {layer.name}", run, progress, cancel)


def _probe(watches: Sequence[Source], layer: PatchLayer, data: Iterable, most: int) -> float:
    """The share of samples to use, seen on two examples; tells the watches where a pass may end."""
    inputs = first_inputs(data)
    few = few_examples(watches[0].network, moved(inputs, device_of(watches[0].network)), 2)
    seen = [watch.run(moved(few, device_of(watch.network)), 0) for watch in watches]
    if not all(seen):
        raise ValueError(f"layer {layer.name} is not called when the network runs: it cannot be refitted")
    meets = all(calls[0].other is not None for calls in seen)
    for watch, calls in zip(watches, seen, strict=True):
        watch.stop = len(calls) == 1
        watch.additions = watch.additions and (meets or not watch.stop)
    examples = example_count(data)
    an_example = sum(_samples(layer, one.inputs) for one in seen[-1]) / batch_length(few)
    return most / max(1.0, an_example * examples)


def _samples(layer: PatchLayer, inputs: Tensor) -> int:
    return math.prod(_grid(layer, inputs))


def _grid(layer: PatchLayer, inputs: Tensor) -> tuple[int, ...]:
    """Axes of samples: those of examples and of the positions at the layer's output."""
    if not layer.kernel:
        return tuple(inputs.shape[:-1])
    one = torch.zeros(1, dtype=torch.int64)
    return tuple(layer.windows(inputs, one).shape[: layer.grid_axes])


def _counted(layer: PatchLayer, inputs: Tensor, visible: Visible, step: int) -> Tensor | None:
    """Which samples of call `step` are at positions that count, flat, on the CPU; None for all."""
    flags = visible.flags_of(inputs, _grid(layer, inputs), layer.name, step)
    return None if flags is None else flags.flatten().cpu()
