"""How far the outputs of a changed network are from those of the original, without labels.

Two measures, each over the same examples (positions that a mask hides do not count):

    change      Σ_i ‖f♯(x_i) − f(x_i)‖² / Σ_i ‖f(x_i) − f̄‖²          f̄ the mean of f over the predictions
    divergence  (1/n) Σ_i KL(p(x_i) ‖ p♯(x_i)) = (1/n) Σ_i Σ_c p_c (log p_c − log p♯_c)     in nats

Whole plans are compared by the Jensen–Shannon divergence, with m = (p + p♯)/2,

    ½ KL(p ‖ m) + ½ KL(p♯ ‖ m)        in nats, from 0 to log 2

which no few predictions decide, as they do where p♯ is nearly 0 (Lin, 1991, 10.1109/18.61115).

Outputs that are classes count up to a constant a prediction, which their probabilities do not tell: the mean
over the classes is taken off both. A change of 1 is that of a network that always gives f̄.

What the original shuts out of a prediction, −∞ or a class that far below the largest that it is never given
(a mask), counts in neither network. Of several outputs the one that is scored counts, `main_output`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.data.batches import as_batches, split_batch
from workbench.data.progress import Cancelled, Progress
from workbench.data.randomness import each_of
from workbench.measure.passes import run_batch
from workbench.measure.positions import Positions
from workbench.measure.reading import Reading
from workbench.network.running import Inputs, batch_length, device_of, evaluating, main_output, moved

KEPT = 256 << 20  # bytes of the original's outputs that are kept; of those beyond, it runs again each time
SHUT = 1e4  # below the largest logit, where a class is shut out
MAPS = 4  # axes of outputs that are maps, whose features stand second


@dataclass(frozen=True)
class Distance:
    """Each (3,) float64: of all predictions, of the first half of each batch's, and of the second.

    `divergence` is NaN where the outputs are no classes.
    """

    change: np.ndarray
    divergence: np.ndarray


class Reference:
    """What the original network gives on some examples, and the distance of other networks from it."""

    def __init__(
        self,
        original: nn.Module,
        data: Any,
        examples: int,
        reading: Reading | None = None,
        progress: Progress | None = None,
        cancel: Event | None = None,
    ):
        """`original` is run here alone, on the first batches of `data` until `examples` are reached.

        `reading`: of the session's targets; what it says of classes is taken from it, not a label.

        Raises:
            ValueError: no example, a batch that does not go through the network, or outputs that are NaN.
            Cancelled: `cancel` was set.
        """
        self.original, self.reading = original, reading
        data = as_batches(data)
        self._positions = Positions.of_data(original, data)
        self._batches = _first(data, examples)
        self.examples = sum(batch_length(inputs) for inputs in self._batches)
        if not self.examples:
            raise ValueError("the calibration data is empty: give at least one batch with one example")
        self._alone = False  # each number is a prediction
        if not self._look(progress, cancel):
            self._alone = True
            self._look(progress, cancel)

    def _look(self, progress: Progress | None, cancel: Event | None) -> bool:
        """Run the original, for its outputs and their spread; False where batches have other features."""
        self._outputs: list[Tensor | None] = []
        kept, count, same = 0, 0, True
        total, size = torch.zeros(0, dtype=torch.float64), 0.0
        for index in range(len(self._batches)):
            _check(cancel)
            if progress is not None:
                progress(index, len(self._batches), "measuring the original's outputs")
            rows = self._rows_of(self.original, index)
            wanted = self._compared(rows, self._shut(rows))
            if not bool(wanted.isfinite().all()):
                raise ValueError(
                    f"the original network gives NaN or Inf for calibration batch {index}, with which "
                    "nothing can be compared: remove those examples"
                )
            if total.numel() and len(total) != wanted.shape[1]:
                if not self.are_classes:
                    return False
                same = False
            total = (total + wanted.sum(0) if total.numel() else wanted.sum(0)) if same else total
            size, count = size + float(wanted.square().sum()), count + len(rows)
            kept += rows.nbytes
            # a copy: the network may return part of something larger, or write into it again
            self._outputs.append(rows.clone() if kept <= KEPT else None)
        # Σ‖f − f̄‖² = Σ‖f‖² − n‖f̄‖²
        self.spread = max(size - float(total.square().sum()) / max(count, 1), 0.0)
        # f̄ = 0 where it is the same for every example, or of another number of classes in each batch
        self.spread = self.spread if same and self.spread > 1e-12 * size else size
        return True

    def distance(self, model: nn.Module, cancel: Event | None = None) -> Distance:
        """How far `model`, which is run here alone, is from the original. Raises Cancelled."""
        squares, divergence, counts = np.zeros(2), np.zeros(2), np.zeros(2)
        for index, both in enumerate(self._each(model, cancel)):
            middle = (len(both[0]) + index % 2) // 2  # of an odd number each half has the more in turn
            for half, part in enumerate((slice(0, middle), slice(middle, None))):
                squares[half] += float(both[0][part].sum())
                divergence[half] += float(both[1][part].sum())
                counts[half] += len(both[0][part])
        share = counts / max(counts.sum(), 1)
        change = squares / (np.maximum(share, 1e-300) * (self.spread or 1.0))
        nats = divergence / np.maximum(counts, 1)
        whole = squares.sum() / (self.spread or 1.0), divergence.sum() / max(counts.sum(), 1)
        if not self.are_classes:
            nats, whole = np.full(2, np.nan), (whole[0], np.nan)
        return Distance(np.array([whole[0], *change]), np.array([whole[1], *nats]))

    def of_each(self, model: nn.Module, cancel: Event | None = None) -> np.ndarray:
        """The damage at each prediction, (n,): the Jensen–Shannon divergence in nats of classes, else what
        `Distance.change[0]` is the mean of. Raises Cancelled."""
        if self.are_classes:
            pairs = self._pairs(model, cancel)
            shares = ([_log_shares(one, shut) for one in (before, after)] for before, after, shut in pairs)
            return torch.cat([jensen_shannon(theirs, ours) for theirs, ours in shares]).numpy()
        both = list(self._each(model, cancel))
        squares = torch.cat([change for change, _ in both]).numpy()
        return squares * len(squares) / (self.spread or 1.0)

    def _each(self, model: nn.Module, cancel: Event | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Squared change and divergence at each prediction of each batch, (n,); 0 of what are no classes."""
        for before, after, shut in self._pairs(model, cancel):
            nats = torch.zeros(len(before), dtype=torch.float64)
            if self.are_classes:
                ours, theirs = (_log_shares(one, shut) for one in (after, before))
                nats = (theirs.exp() * (theirs - ours)).masked_fill(shut, 0.0).sum(-1)
            yield (after - before).square().sum(-1), nats

    def _pairs(self, model: nn.Module, cancel: Event | None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Outputs of the original and of `model` for each batch, and what is shut, each (n, features)."""
        for index, kept in enumerate(self._outputs):
            _check(cancel)
            before = self._rows_of(self.original, index) if kept is None else kept
            shut = self._shut(before)
            yield self._compared(before, shut), self._compared(self._rows_of(model, index), shut), shut

    def _shut(self, rows: Tensor) -> Tensor:
        """Which of the original's outputs are shut out, (n, features) bool."""
        if not self.are_classes:
            return rows.isneginf()
        return rows < rows.amax(-1, keepdim=True) - SHUT

    def _compared(self, rows: Tensor, shut: Tensor) -> Tensor:
        """(n, features) float64, 0 where `shut`; of classes less the mean of those that are open."""
        rows = rows.double().masked_fill(shut, 0.0)
        if self.are_classes:
            mean = rows.sum(-1, keepdim=True) / (~shut).sum(-1, keepdim=True)
            rows = (rows - mean).masked_fill(shut, 0.0)
        return rows

    @property
    def are_classes(self) -> bool:
        """Whether the outputs are classes that exclude each other."""
        return self.reading is not None and self.reading.class_axis is not None

    @torch.no_grad()
    def _rows_of(self, model: nn.Module, index: int) -> Tensor:
        """(predictions, features) of batch `index` on the CPU; of classes logits."""
        inputs = self._batches[index]
        with evaluating(model):
            outputs = main_output(run_batch(model, moved(inputs, device_of(model)), index))
        outputs = outputs.cpu() if outputs.is_floating_point() else outputs.cpu().double()
        axis = self.reading.class_axis if self.reading is not None else None
        if axis is None or outputs.dim() <= 1:
            axis = 1 if outputs.dim() >= MAPS else -1
        if outputs.dim() <= 1:
            outputs = outputs.reshape(-1, 1)
        else:
            outputs = outputs.unsqueeze(-1) if self._alone else outputs.movedim(axis, -1)
        counted = self._positions.of(inputs).counted(outputs, "Linear")
        rows = counted.reshape(-1, outputs.shape[-1])
        return self.reading.logits(rows) if self.are_classes and self.reading is not None else rows


def jensen_shannon(ours: Tensor, theirs: Tensor) -> Tensor:
    """Σ_c ½ p_c (log p_c − log m_c) + ½ q_c (log q_c − log m_c), m = (p + q)/2, of (n, c): (n,)."""
    middle = torch.logaddexp(ours, theirs) - np.log(2.0)
    # 0 · log 0 = 0; what is NaN stays it
    terms = [(one.exp() * (one - middle)).masked_fill(one.isneginf(), 0.0).sum(-1) for one in (ours, theirs)]
    return (terms[0] + terms[1]) / 2


def _log_shares(rows: Tensor, shut: Tensor) -> Tensor:
    """log p of the classes that are open, −∞ of those shut, (n, classes)."""
    return rows.masked_fill(shut, -torch.inf).log_softmax(-1)


def _first(data: Iterable, most: int) -> list[Inputs]:
    """The inputs of the first batches, until `most` examples are in them."""
    found: list[Inputs] = []
    examples = 0
    for index, batch in enumerate(each_of(data)):
        inputs, _ = split_batch(batch, index, "calibration")
        if batch_length(inputs):
            found.append(inputs)
            examples += batch_length(inputs)
        if examples >= most:
            break
    return found


def _check(cancel: Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled("measuring the change of the outputs was cancelled; what was measured is kept")
