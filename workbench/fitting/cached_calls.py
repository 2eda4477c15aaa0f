"""What layers of the original network gave, found in one pass and stored for one fit after another."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import Any

from torch import nn

from workbench.data.batches import Batches, as_batches, first_inputs
from workbench.data.progress import Progress
from workbench.fitting.watching import LayerCall, watching
from workbench.measure.passes import each_batch, example_count
from workbench.network.fewer import few_examples
from workbench.network.running import Inputs, batch_length, device_of, moved

LIMIT = 4_000_000_000
"""Bytes that may be stored unless told otherwise."""


class CachedLayer:
    """The calls of one layer, batch by batch: stands where a `Watch` of the original network would."""

    def __init__(self, network: nn.Module, calls: dict[int, list[LayerCall]]):
        self.network, self.stop, self.additions = network, False, True
        self._calls = calls

    def run(self, inputs: Inputs, index: int) -> list[LayerCall]:
        """What the layer gave for batch `index`; `inputs` is not looked at."""
        return self._calls[index]


class CachedCalls:
    """Outputs of several layers, and the additions they run into, for every batch of the calibration data."""

    def __init__(self, network: nn.Module, calls: dict[str, dict[int, list[LayerCall]]]):
        self._network, self._calls = network, calls

    def of(self, layer: str) -> CachedLayer | None:
        """None for a layer whose calls were not stored."""
        calls = self._calls.get(layer)
        return CachedLayer(self._network, calls) if calls else None


def cache_calls(
    network: nn.Module,
    layers: Sequence[str],
    data: Any,
    progress: Progress | None = None,
    cancel: Event | None = None,
    *,
    limit: int = LIMIT,
) -> CachedCalls:
    """Run a network once over the data and store what layers gave, in the CPU's memory.

    Nothing is stored where that would take more than `limit` bytes, or where the data may come in other
    batches the next time, as from a DataLoader that shuffles.

    Args:
        network: run in evaluation mode and left as it was.
        layers: their names.
        data: calibration batches, as for `measure_moments`.
        progress: called as ``progress(done, total, what)`` after every batch.
        cancel: where it is set, the work stops before the next batch.
        limit: bytes.

    Returns:
        The calls, layer by layer; none where nothing was stored.

    Raises:
        ValueError: a batch does not go through.
        Cancelled: `cancel` was set.
    """
    data = as_batches(data)
    if not layers or not isinstance(data, (Batches, list, tuple)):
        return CachedCalls(network, {})
    few = few_examples(network, moved(first_inputs(data), device_of(network)), 2)
    with watching(network, *layers, outputs=True, additions=True) as watch:
        seen = watch.run(few, 0)
        if sum(map(_size, seen)) / batch_length(few) * example_count(data) > limit:
            return CachedCalls(network, {})
        found: dict[str, dict[int, list[LayerCall]]] = {layer: {} for layer in layers}

        def run(index: int, inputs: Inputs) -> None:
            for by_batch in found.values():
                by_batch[index] = []
            for call in watch.run(inputs, index):
                call.inputs = call.inputs.new_empty(0)  # those of the pruned network count
                call.output, call.other = (None if t is None else t.cpu() for t in (call.output, call.other))
                found[call.layer][index].append(call)

        each_batch(data, device_of(network), "running the original network", run, progress, cancel)
    return CachedCalls(network, {layer: calls for layer, calls in found.items() if any(calls.values())})


def _size(call: LayerCall) -> int:
    return sum(t.numel() * t.element_size() for t in (call.output, call.other) if t is not None)
