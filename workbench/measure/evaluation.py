"""The score of a model on its task: accuracy, R², or the user's own function. Higher is better."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from workbench.data.batches import as_batches, split_batch
from workbench.data.progress import Cancelled, Progress
from workbench.data.randomness import batch_count, each_of
from workbench.measure.answers import Seen
from workbench.measure.intake import Intake
from workbench.measure.positions import Positions
from workbench.measure.reading import OWN, NotFiniteError, Reading, read
from workbench.network.running import batch_length, call, evaluating, main_output, one_line, shape_of

SoFar = Callable[[int, float], Any]  # (examples scored, the score on these)
RESOLUTION = 16  # steps of the network's numbers within which targets are the same


def evaluate(
    model: nn.Module,
    evaluation: Iterable | Callable[[nn.Module], float],
    progress: Progress | None = None,
    cancel: Event | None = None,
    *,
    metric: str | None = None,
    classes: str | None = None,
    reading: Reading | None = None,
    seen: Seen | None = None,
    so_far: SoFar | None = None,
) -> float:
    """Score `model` on its task.

    Whole-number targets: accuracy, the share of targets that are the class of the largest output, the classes
    along the second or the last axis; over tokens (n, length) or pixels (n, height, width) where there are
    several targets an example. With one output a target, or one target of 0 or 1 for each output (labels):
    the share on the right side, of 0 for a logit, of 1/2 where the network ends in a sigmoid or softmax.
    −100, and 255 where there are several targets an example, do not count, nor do the classes of tokens that
    an attention mask hides (`positions`). Other floating-point targets: the
    coefficient of determination R², see `_Variation`. The module `reading` says how they are told apart.

    Args:
        model: run in evaluation mode; every module gets its mode back.
        evaluation: (inputs, targets) batch by batch, or a function of the model that returns its score.
        progress: called after every batch.
        cancel: set, it ends the scoring before the next batch.
        metric: one of `asking.METRICS`, the names above, where the targets would be read otherwise.
        classes: "last" or "second", the axis of the outputs along which the classes lie.
        reading: how the targets are read, where that is known already.
        seen: told of each batch's outputs, for what is to be learned of them in the same pass.
        so_far: told after each batch of how many examples were scored, and the score on these.

    Returns:
        The score; higher is better.

    Raises:
        ValueError: a batch has no targets or does not fit the model, or the classes could lie along two axes.
        Cancelled: `cancel` was set.
    """
    with evaluating(model):
        if _is_function(evaluation):
            return _own_score(evaluation(model))
        found = reading or read(model, evaluation, metric, classes)
        return _score_batches(model, evaluation, found, progress, cancel, seen, so_far)


def reading_for(
    model: nn.Module, evaluation: Any, metric: str | None = None, classes: str | None = None
) -> Reading:
    """How the targets of evaluation data are read; of a score function, that it is one. Raises as `read`."""
    return OWN if _is_function(evaluation) else read(model, evaluation, metric, classes)


def _is_function(evaluation: Any) -> TypeGuard[Callable[[nn.Module], float]]:
    return callable(evaluation) and not isinstance(evaluation, Iterable)


def _own_score(score: Any) -> float:
    try:
        value = float(score.item() if isinstance(score, np.ndarray) else score)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the score function returned {type(score).__name__} {score!r}; it must return one number"
        ) from error
    if value != value:
        raise ValueError("the score function returned NaN; it must return a number")
    return value


def _score_batches(
    model: nn.Module,
    data: Any,
    reading: Reading,
    progress: Progress | None,
    cancel: Event | None,
    seen: Seen | None = None,
    so_far: SoFar | None = None,
) -> float:
    data = as_batches(data, "evaluation")
    total, intake, positions = batch_count(data), Intake(model), Positions.of_data(model, data)
    right, variation, count = torch.zeros(2, dtype=torch.float64), _Variation(), 0
    for index, batch in enumerate(each_of(data, "evaluation")):
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"scoring was cancelled after {index} batches")
        inputs, targets = split_batch(batch, index, "evaluation")
        if targets is None:
            raise ValueError(f"evaluation batch {index} has no targets; a score needs (inputs, targets)")
        if not batch_length(inputs):
            continue
        try:
            with torch.no_grad():
                outputs = main_output(call(model, intake(inputs)))
            if reading.kind != "values":
                targets = positions.of(inputs).targets(targets)
            targets = targets.to(intake.device)
            if reading.kind == "values":
                variation.add(*reading.values(outputs, targets), torch.finfo(outputs.dtype).eps)
            else:
                right += reading.right(outputs, targets)
        except NotFiniteError as error:
            raise NotFiniteError(f"evaluation batch {index}: {error}") from error
        except Exception as error:
            raise ValueError(
                f"evaluation batch {index} (inputs {shape_of(inputs)}, targets {tuple(targets.shape)}) "
                f"does not fit the model: {one_line(error)}"
            ) from error
        if seen is not None:
            seen(index, inputs, outputs, targets)
        count += batch_length(inputs)
        if progress is not None:
            progress(index + 1, total, f"scoring, {count} examples")
        if so_far is not None and (count > 1 if reading.kind == "values" else right[1]):
            so_far(count, _score_of(reading, right, variation))
    if not count:
        raise ValueError("the evaluation data is empty: give at least one batch of (inputs, targets)")
    if reading.kind != "values" and not right[1]:
        raise ValueError("no target of the evaluation data counts: all are marked as ignored")
    return _score_of(reading, right, variation)


def _score_of(reading: Reading, right: Tensor, variation: _Variation) -> float:
    return variation.r_squared() if reading.kind == "values" else float(right[0] / right[1])


class _Variation:
    """R² = 1 − Σ(y − t)²/Σ(t − t̄)², for each output by itself, averaged over the outputs.

    An output whose targets are all the same, to the resolution of the network's numbers, has no variation to
    explain: it counts as 1 where the network gives these targets to that resolution, else as 0. So it is in
    scikit-learn's `r2_score` for targets that are exactly the same; there the resolution is 0.
    """

    def __init__(self) -> None:
        self.count, self.eps = 0, 0.0
        self.mean = self.spread = self.error = self.largest = torch.zeros(())

    def add(self, outputs: Tensor, targets: Tensor, eps: float) -> None:
        """`outputs` and `targets` (n, outputs) float64; `eps`: that of the network's own numbers."""
        count = len(targets)
        if not count:
            return
        mean, total = targets.mean(0), self.count + count
        change = mean - self.mean
        # Σ(t − t̄)² of both parts together, from each one's own: a difference of large sums would lose it.
        self.spread = self.spread + (targets - mean).square().sum(0)
        self.spread = self.spread + change.square() * self.count * count / total  # (outputs,)
        self.mean = self.mean + change * count / total
        self.error = self.error + (outputs - targets).square().sum(0)
        self.largest = torch.maximum(self.largest, targets.abs().amax(0))
        self.count, self.eps = total, eps

    def r_squared(self) -> float:
        if self.count < 2:
            raise ValueError("R² needs two examples or more: give more evaluation data")
        finest = (RESOLUTION * self.eps * self.largest).square() * self.count  # (outputs,)
        alike = self.spread <= finest
        explained = 1 - self.error / torch.where(alike, 1.0, self.spread)
        return float(torch.where(alike, (self.error <= finest).double(), explained).mean())
