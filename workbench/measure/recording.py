"""Sums at the inputs of readers while a network runs: a tensor that several receive is multiplied once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from workbench.measure.passes import ActivationError
from workbench.measure.positions import Visible
from workbench.network.groups import UnitGroup
from workbench.network.running import device_of, evaluating, received
from workbench.spectral.moment import Moment
from workbench.spectral.products import NotFiniteError, Sums


class _Received:
    """A tensor whose sums are known, and the readers that have received it, each as often as it did."""

    def __init__(self, inputs: Tensor, sums: Sums, reader: int):
        # A tensor that is gone cannot come again, another may lie where it lay: so it is not held by place.
        self._inputs = weakref.ref(inputs)
        self._version = None if inputs.is_inference() else inputs._version
        self._place = inputs.data_ptr()
        self.sums, self.readers = sums, [reader]

    @property
    def is_gone(self) -> bool:
        return self._inputs() is None

    def is_same(self, inputs: Tensor, samples: Callable[[], Tensor]) -> bool:
        """The very tensor, not changed in place since; of a tensor that keeps no version nobody knows.

        What is written through `.data` or NumPy leaves the version as it was, but not the sums of `samples`,
        which are looked at only where all else is the same.
        """
        if self._inputs() is not inputs or self._version is None or self._version != inputs._version:
            return False
        return self._place == inputs.data_ptr() and self.sums.add_up(samples())


class _Spare:
    """Sums whose memory serves again, by their width."""

    def __init__(self, device: torch.device):
        self._device = torch.device("cpu") if device.type == "mps" else device  # mps has no float64
        self._kept: dict[int, list[Sums]] = {}

    def zeros(self, width: int) -> Sums:
        return Sums(width, self._device)

    def take(self, width: int) -> Sums:
        """Sums of no use to anybody, whatever they hold."""
        kept = self._kept.get(width)
        return kept.pop() if kept else self.zeros(width)

    def give(self, sums: Sums) -> None:
        self._kept.setdefault(sums.width, []).append(sums)


class _Alike:
    """Readers of a group that take the same samples from the same tensor, by their index in the group.

    Sums are kept by the readers that share them: which those are is known when a tensor is gone, or the
    batch is over.
    """

    def __init__(self, group: UnitGroup, readers: Sequence[int], spare: _Spare):
        self.group, self.readers, self._spare = group, tuple(readers), spare
        self.reader = group.readers[readers[0]]
        self.sums: dict[tuple[int, ...], Sums] = {}
        self._open: list[_Received] = []
        self._samples = 0
        self.visible: Visible | None = None  # of the batch

    def receive(self, reader: int, inputs: Tensor) -> None:
        """Sum what a reader receives, unless one did of this tensor."""
        self._settle(only_gone=True)
        samples = partial(self._samples_of, reader, inputs)
        same = next((one for one in self._open if one.is_same(inputs, samples)), None)
        if same is not None:
            same.readers.append(reader)
            if reader == 0:
                same.sums.look(samples())
            return
        sums = self._spare.take(self.group.width)
        sums.take(self._laid(reader, inputs.detach()), activity=reader == 0)
        self._samples += sums.count
        if len(self.readers) == 1:
            self._keep((reader,), sums)
        else:
            self._open.append(_Received(inputs, sums, reader))

    def _samples_of(self, reader: int, inputs: Tensor) -> Tensor:
        """The samples at positions that count, (batch, m, positions)."""
        if self.visible is not None:
            inputs = self.visible.counted(inputs, self.reader.kind, self.group.readers[reader].module)
        return self.reader.laid(inputs)

    def _laid(self, reader: int, inputs: Tensor) -> Tensor:
        """The samples; in float64 as long as there are fewer than units.

        So few leave Σ singular, and its rank would be lost in the rounding of float32 products.
        """
        laid = self._samples_of(reader, inputs)
        few = self._samples + laid.shape[0] * laid.shape[2] < self.group.width
        return laid.double() if few and laid.device.type != "mps" else laid

    def settle(self) -> None:
        """Add what is open to the sums of its readers."""
        self._settle(only_gone=False)

    def _settle(self, only_gone: bool) -> None:
        left = []
        for one in self._open:
            if only_gone and not one.is_gone:
                left.append(one)
                continue
            self._keep(tuple(sorted(one.readers)), one.sums)
        self._open = left

    def _keep(self, readers: tuple[int, ...], sums: Sums) -> None:
        if readers not in self.sums:
            self.sums[readers] = sums
        else:
            self.sums[readers].add(sums)
            self._spare.give(sums)

    def of(self, reader: int) -> Sums:
        """All that a reader received. Readers that shared everything have the same sums, one object."""
        shares = {key: sums for key, sums in self.sums.items() if reader in key}
        if len(shares) == 1 and next(iter(shares)).count(reader) == 1:
            return next(iter(shares.values()))
        whole = self._spare.zeros(self.group.width)
        for key, sums in shares.items():
            for _ in range(key.count(reader)):
                whole.add(sums)
        return whole


class Recorder:
    """Sums at every reader's input of one group."""

    def __init__(self, group: UnitGroup, spare: _Spare):
        self.group, self.batch = group, 0
        self._alike: list[_Alike] = []
        for index, reader in enumerate(group.readers):
            if any(index in alike.readers for alike in self._alike):
                continue
            same = [i for i in range(index, len(group.readers)) if group.readers[i].reads_alike(reader)]
            self._alike.append(_Alike(group, same, spare))

    def start(self, batch: int, visible: Visible | None) -> None:
        """A batch comes, of which these positions count."""
        self.batch = batch
        for alike in self._alike:
            alike.visible = visible

    def hook(self, index: int):
        """The hook that sums what reader `index` receives."""
        alike = next(one for one in self._alike if index in one.readers)

        def receive(_module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            inputs = received(args, kwargs)
            try:
                alike.receive(index, inputs)
            except NotFiniteError as error:
                samples = self.group.readers[index].laid(inputs)
                what = "NaN" if torch.isnan(samples).any() else "Inf"
                if torch.isfinite(samples).all():
                    what = "numbers of 1e150 and more"
                raise ActivationError(
                    f"calibration batch {self.batch} has {what} at the input of layer "
                    f"{self.group.readers[index].module}: check that batch, and the weights of "
                    f"{self.group.name}"
                ) from error

        return receive

    def settle(self) -> None:
        """The batch is over: nothing that comes is a tensor of it."""
        for alike in self._alike:
            alike.settle()

    def moments(self) -> tuple[Moment, ...]:
        """The moment of each reader, on the CPU; one object where readers received the same tensors."""
        made: dict[int, tuple[Sums, Moment]] = {}  # by identity, with the sums held so that it stays one
        found = []
        for index in range(len(self.group.readers)):
            sums = self._sums(index)
            if id(sums) not in made:
                made[id(sums)] = sums, Moment(sums.full().cpu(), sums.sum.cpu(), sums.count)
            found.append(made[id(sums)][1])
        return tuple(found)

    def activity(self) -> tuple[Tensor, Tensor]:
        """Share of the first reader's samples in which a unit is not zero, and its mean |φ|, (m,) each."""
        sums = self._sums(0)
        samples = max(sums.count, 1)
        return sums.active.cpu() / samples, sums.magnitude.cpu() / samples

    def _sums(self, index: int) -> Sums:
        return next(one for one in self._alike if index in one.readers).of(index)


@contextmanager
def recording(
    model: nn.Module, groups: Sequence[UnitGroup], idle: Sequence[str] = ()
) -> Iterator[_Recording]:
    """Hooks in place, the model in evaluation mode; both undone at the end. `idle` layers must not run."""
    found = _Recording(groups, device_of(model))
    handles = [
        model.get_submodule(reader.module).register_forward_pre_hook(recorder.hook(index), with_kwargs=True)
        for recorder in found.recorders.values()
        for index, reader in enumerate(recorder.group.readers)
    ]
    handles += [model.get_submodule(name).register_forward_pre_hook(found.waking(name)) for name in idle]
    try:
        with evaluating(model), torch.no_grad():
            yield found
    finally:
        for handle in handles:
            handle.remove()


class _Recording:
    """The recorders of all groups, by the group's name."""

    def __init__(self, groups: Sequence[UnitGroup], device: torch.device):
        spare = _Spare(device)
        self.recorders = {group.name: Recorder(group, spare) for group in groups}
        self._batch = 0

    def start(self, batch: int, visible: Visible | None = None) -> None:
        """The number of the batch that comes, which errors name, and which of its positions count."""
        self._batch = batch
        for recorder in self.recorders.values():
            recorder.start(batch, visible)

    def end(self) -> None:
        """The batch has gone through."""
        for recorder in self.recorders.values():
            recorder.settle()

    @property
    def missed(self) -> bool:
        """Whether no sample of a reader counted."""
        return any(not moment.count for recorder in self.recorders.values() for moment in recorder.moments())

    def waking(self, name: str):
        """A hook for a layer that must not run."""

        def wake(_module: nn.Module, _args: tuple) -> None:
            raise ActivationError(
                f"layer {name} runs on calibration batch {self._batch}, but not on the example from which "
                "the unit groups were found: give example_input= with examples that reach every layer"
            )

        return wake
