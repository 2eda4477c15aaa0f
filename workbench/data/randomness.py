"""Random numbers for code that can only draw from the global generators, without moving the caller's."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class OwnRandomness:
    """Streams of random numbers of its own, of torch (each device), NumPy and Python, from one seed.

    Within `drawing()` the global generators go on from where they were left there last; behind it they are as
    the caller had them. Dropout, shuffling loaders and a user's own augmentation know no other generators.
    One context is open at a time in the process. Keep them short: other threads, such as the notebook's own,
    draw from the same generators.
    """

    def __init__(self, seed: int, device: torch.device | None = None):
        self._device = device if device is not None and device.type == "cuda" else None
        with _one_at_a_time:
            self._mine = self._seeded(seed)

    def _seeded(self, seed: int) -> tuple[Any, ...]:
        before = self._states()
        torch.random.default_generator.manual_seed(seed)
        if self._device is not None:
            with torch.cuda.device(self._device):
                torch.cuda.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        mine = self._states()
        self._restore(before)
        return mine

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Within: the global generators give this object's own numbers."""
        with _one_at_a_time:
            before = self._states()
            self._restore(self._mine)
            try:
                yield
            finally:
                self._mine = self._states()
                self._restore(before)

    def batches(self, data: Iterable) -> Iterator[Any]:
        """What `data` gives, its own draws (a new order, say) taken from here."""
        with self.drawing():
            iterator = iter(data)
        while True:
            with self.drawing():
                batch = next(iterator, _END)
            if batch is _END:
                return
            yield batch

    def _states(self) -> tuple[Any, ...]:
        on_device = None if self._device is None else torch.cuda.get_rng_state(self._device)
        return torch.get_rng_state(), on_device, np.random.get_state(), random.getstate()

    def _restore(self, states: tuple[Any, ...]) -> None:
        plain, on_device, arrays, python = states
        torch.set_rng_state(plain)
        if self._device is not None:
            torch.cuda.set_rng_state(on_device, self._device)
        np.random.set_state(arrays)
        random.setstate(python)


_END = object()
_one_at_a_time = threading.RLock()


def each_of(data: Iterable, what: str = "") -> Iterator[Any]:
    """The batches of `data`, in the order that the same seed gives a shuffling loader each time.

    `what` the data is called. Raises ValueError where it ends before the number of batches that it promises:
    what was summed until then is of other examples than were asked for.
    """
    plain = isinstance(data, (list, tuple)) or getattr(data, "draws_nothing", False)
    return all_of(data, data if plain else OwnRandomness(0).batches(data), what)


def all_of(data: Iterable, batches: Iterable, what: str = "") -> Iterator[Any]:
    """`batches`, which are those of `data`. Raises ValueError where they end before what it promises."""
    count = 0
    for batch in batches:
        yield batch
        count += 1
    promised = batch_count(data)
    if promised is not None and count < promised:
        raise ValueError(
            f"the {what}{' ' if what else ''}data promises {promised} batches, but ended after {count}: "
            "nothing was changed"
        )


def batch_count(data: Iterable) -> int | None:
    """How many batches there are, where the data says so."""
    try:
        return len(data)  # type: ignore[arg-type]
    except TypeError:
        return None
