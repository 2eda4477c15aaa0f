"""What a network answers to each example, lean: the answers and how sure they are, without the outputs.

Outputs of a large task fill the memory; an answer with three probabilities beside it does not, and is all
that two networks are compared by (`churn`). An answer is the class of the largest output; yes or no,
where the targets are; of values it is the outputs themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from workbench.data.batches import IGNORED, as_batches, split_batch
from workbench.data.progress import Cancelled, Progress
from workbench.data.randomness import batch_count, each_of
from workbench.measure.axes import like
from workbench.measure.intake import Intake
from workbench.measure.positions import Positions
from workbench.measure.reading import Reading
from workbench.measure.targets import is_ignored
from workbench.network.running import batch_length, call, evaluating, main_output

KEPT = 64 << 20  # bytes of one network's answers; what is beyond is found again when it is asked for
ROWS_AT_ONCE = 1 << 22  # outputs that are made probabilities at once
SUMS_TO_ONE = 1e-3  # how near the outputs of a row come to it, to be probabilities already

Seen = Callable[[int, Any, Tensor, Tensor | None], None]
"""What is told of each batch of a pass: its number, inputs, outputs, and targets as they are read."""


@dataclass(frozen=True)
class BatchAnswers:
    """The answers of one batch of n examples, p to each.

    Attributes:
        answer: (n, p) int32, a class, or 1 for yes; of values (n, p) float32, the outputs.
        classes: how many answers there are; 0 of values.
        counted: (n, p) bool, which count.
        target: (n, p) as `answer`; None without targets.
        sure: (n, p) float32, the probability of the answer; None of values.
        margin: (n, p) float32, that less the next largest, in [0, 1]; None of values.
        true: (n, p) float32, the probability of the target; None of values and without targets.
    """

    answer: np.ndarray
    classes: int
    counted: np.ndarray
    target: np.ndarray | None = None
    sure: np.ndarray | None = None
    margin: np.ndarray | None = None
    true: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        parts = (self.answer, self.counted, self.target, self.sure, self.margin, self.true)
        return sum(part.nbytes for part in parts if part is not None)


class Answers:
    """The answers of one network to each batch of its data; None for what did not fit into `KEPT`."""

    def __init__(self, reading: Reading | None):
        self.reading = reading
        self.score: float | None = None
        self.batches: list[BatchAnswers | None] = []
        self.nbytes, self.failed = 0, False
        # how many flipped against other answers, as long as these are there
        self.counts: WeakKeyDictionary[Answers, tuple[int, int, int]] = WeakKeyDictionary()

    @property
    def whole(self) -> bool:
        """Whether those of every batch are kept."""
        return None not in self.batches

    def see(self, index: int, inputs: Any, outputs: Tensor, targets: Tensor | None) -> None:
        """Keep what scoring tells of a batch. What fails here must not fail the score: `failed` says so."""
        if self.failed or not batch_length(inputs):
            return
        try:
            self.keep(batch_answers(outputs, targets, self.reading))
        except Exception:
            self.failed = True
            self.batches.clear()

    def keep(self, one: BatchAnswers) -> None:
        """Keep those of one more batch, where there is room for it."""
        room = self.nbytes + one.nbytes <= KEPT
        self.batches.append(one if room else None)
        self.nbytes += one.nbytes if room else 0


class OnceMore:
    """Finds the answers to single batches again, by running the network."""

    def __init__(self, model: nn.Module, reading: Reading | None):
        self._model, self._reading, self._intake = model, reading, Intake(model)

    def __call__(self, inputs: Any, targets: Tensor | None) -> BatchAnswers:
        with evaluating(self._model), torch.no_grad():
            outputs = main_output(call(self._model, self._intake(inputs)))
        return batch_answers(outputs, targets, self._reading)


def pass_over(
    model: nn.Module,
    data: Any,
    reading: Reading | None,
    seen: Seen,
    progress: Progress | None = None,
    cancel: Event | None = None,
    what: str = "calibration",
) -> None:
    """Run `model` over `data` and tell `seen` of each batch; without a `reading` the targets are passed over.

    Raises ValueError where there is no example, Cancelled.
    """
    data = as_batches(data, what)
    total, intake, positions = batch_count(data), Intake(model), Positions.of_data(model, data)
    count = 0
    with evaluating(model):
        for index, batch in enumerate(each_of(data, what)):
            if cancel is not None and cancel.is_set():
                raise Cancelled(f"comparing answers was cancelled after {index} batches; nothing was changed")
            inputs, targets = split_batch(batch, index, what)
            if not batch_length(inputs):
                continue
            with torch.no_grad():
                outputs = main_output(call(model, intake(inputs)))
            if reading is None or targets is None:
                targets = None
            elif reading.kind != "values":
                targets = positions.of(inputs).targets(targets)
            seen(index, inputs, outputs, targets)
            count += batch_length(inputs)
            if progress is not None:
                progress(index + 1, total, f"comparing answers, {count} examples")
    if not count:
        raise ValueError(f"the {what} data is empty: give at least one batch with one example")


def batch_answers(outputs: Tensor, targets: Tensor | None, reading: Reading | None) -> BatchAnswers:
    """The answers in `outputs`, read as the score reads them.

    Args:
        outputs: (n, …), as the network gives them.
        targets: of the same examples, as `Reading` takes them; None: without labels.
        reading: how targets are read; None: nobody knows, and outputs of two or more numbers an example are
            answered by the largest.

    Returns:
        What is kept of them, on the CPU.

    Raises:
        ValueError: targets do not fit the outputs.
    """
    outputs = outputs.detach()
    targets = None if targets is None else targets.to(outputs.device)
    kind = reading.kind if reading is not None else "own"
    if kind == "yes-no":
        assert reading is not None
        return _yes_or_no(outputs, targets, reading.probabilities)
    axis = reading.class_axis if reading is not None else None
    if axis is None and kind == "own" and outputs.dim() == 2 and outputs.shape[1] > 1:
        axis, targets = 1, None
    if axis is None or not outputs.dim() > 1:
        return _values(outputs, targets if kind == "values" else None)
    wanted = None
    if targets is not None and reading is not None:
        scores, wanted = reading.scores_and_classes(outputs, targets)
    else:
        scores = outputs.movedim(axis, -1).reshape(-1, outputs.shape[axis])
    return _of_classes(scores, wanted, len(outputs))


def _of_classes(scores: Tensor, wanted: Tensor | None, examples: int) -> BatchAnswers:
    """`scores` (n·p, classes), `wanted` (n·p,), IGNORED where it does not count."""
    classes = scores.shape[1]
    rows = max(1, ROWS_AT_ONCE // classes)
    are_probabilities = bool((scores >= 0).all()) and bool(
        ((scores.double().sum(1) - 1).abs() < SUMS_TO_ONE).all()
    )
    parts: list[list[Tensor]] = []
    for part, target in zip(
        scores.split(rows), (wanted if wanted is not None else scores[:, 0]).split(rows), strict=True
    ):
        probabilities = part.float() if are_probabilities else part.float().softmax(1)
        probabilities = probabilities.nan_to_num(1.0)  # of an infinite logit
        answer = part.argmax(1)
        sure = probabilities.gather(1, answer[:, None])
        rest = probabilities.scatter(1, answer[:, None], -1.0).amax(1)
        found = [answer, sure[:, 0], (sure[:, 0] - rest).clamp(0.0, 1.0)]
        if wanted is not None:
            found.append(probabilities.gather(1, target.clamp_min(0)[:, None])[:, 0])
        parts.append(found)
    answer, sure, margin, *true = (_rows(torch.cat(one), examples) for one in zip(*parts, strict=True))
    target_rows = None if wanted is None else _rows(wanted, examples).astype(np.int32)
    counted = np.ones(answer.shape, bool) if target_rows is None else target_rows != IGNORED
    own = true[0] if true else None
    return BatchAnswers(answer.astype(np.int32), classes, counted, target_rows, sure, margin, own)


def _yes_or_no(outputs: Tensor, targets: Tensor | None, are_probabilities: bool) -> BatchAnswers:
    """Numbers (n, …), each the logit or the probability of yes."""
    numbers = outputs.float() if are_probabilities else outputs.float().sigmoid()
    answer = outputs > (0.5 if are_probabilities else 0.0)
    sure = torch.where(answer, numbers, 1 - numbers)
    n = len(outputs)
    found = (_rows(answer, n).astype(np.int32), 2)
    rest = (_rows(sure, n), _rows((2 * sure - 1).clamp(0.0, 1.0), n))
    if targets is None:
        return BatchAnswers(*found, np.ones(found[0].shape, bool), None, *rest)
    wanted = like(outputs, targets)
    target = wanted.long().masked_fill(is_ignored(wanted, 2), IGNORED)
    true = torch.where(target == 1, numbers, 1 - numbers)
    rows = _rows(target, n).astype(np.int32)
    return BatchAnswers(*found, rows != IGNORED, rows, *rest, _rows(true, n))


def _values(outputs: Tensor, targets: Tensor | None) -> BatchAnswers:
    n = len(outputs)
    found = _rows(outputs.float(), n)
    target = None if targets is None else _rows(like(outputs, targets).float(), n)
    return BatchAnswers(found, 0, np.ones(found.shape, bool), target)


def _rows(tensor: Tensor, examples: int) -> np.ndarray:
    """(n, p) on the CPU."""
    return tensor.reshape(examples, -1).cpu().numpy()


def examples_at(
    data: Any, wanted: Iterable[int], what: str = "evaluation", cancel: Event | None = None
) -> Iterator[tuple[int, Any]]:
    """The inputs of single examples by their number in the data's order; the network does not run.

    Args:
        data: as `as_batches` takes it.
        wanted: numbers of examples, from 0.
        what: the data is called in errors.
        cancel: set, it ends before the next batch.

    Yields:
        (number, inputs) in ascending order; inputs as the batch has them, each tensor (1, …).

    Raises:
        Cancelled: `cancel` was set.
    """
    left, start = sorted(set(wanted)), 0
    for index, batch in enumerate(each_of(as_batches(data, what))):
        if not left:
            return
        if cancel is not None and cancel.is_set():
            raise Cancelled("looking for examples was cancelled")
        inputs, _ = split_batch(batch, index, what)
        end = start + batch_length(inputs)
        while left and left[0] < end:
            yield left[0], one_of(inputs, left[0] - start, end - start)
            left.pop(0)
        start = end


def one_of(inputs: Any, index: int, length: int) -> Any:
    """One example of a batch; what is not as long as the batch stays whole."""
    if isinstance(inputs, Tensor):
        return inputs[index : index + 1] if inputs.dim() and len(inputs) == length else inputs
    if isinstance(inputs, dict):
        return {key: one_of(value, index, length) for key, value in inputs.items()}
    if isinstance(inputs, (tuple, list)) and not hasattr(inputs, "_make"):
        if isinstance(inputs, list) and len(inputs) == length and all(isinstance(t, Tensor) for t in inputs):
            return inputs[index]
        return type(inputs)(one_of(value, index, length) for value in inputs)
    return inputs
