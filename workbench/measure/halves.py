"""Calibration data in two halves: how far apart they lie says how sure a number measured on all of it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from workbench.data.batches import Batches
from workbench.data.randomness import batch_count, each_of


class EveryOther:
    """Every other batch of `data`, from the first or the second on, as often as one likes."""

    def __init__(self, data: Iterable, start: int):
        self._data, self._start = data, start
        self.mask_rule = getattr(data, "mask_rule", None)

    def __iter__(self) -> Iterator[Any]:
        for index, batch in enumerate(each_of(self._data, "calibration")):
            if index % 2 == self._start:
                yield batch


def halves(data: Iterable) -> tuple[Iterable, Iterable]:
    """The even and the odd batches of `data`; a lone batch of whole tensors is cut in two.

    Raises:
        ValueError: there are fewer than two batches, or two examples.
    """
    if isinstance(data, Batches) and len(data) < 2 <= data.examples:
        data = replace(data, batch_size=-(-data.examples // 2))
    if (batch_count(data) or sum(1 for _ in each_of(data))) < 2:
        raise ValueError(
            "the calibration data is a single batch, which has no two halves: give it in smaller batches"
        )
    return EveryOther(data, 0), EveryOther(data, 1)
