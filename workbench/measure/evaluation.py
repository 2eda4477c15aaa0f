"""The score of a model on its task: accuracy, R², or the user's own function. Higher is better."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event
from typing import Any

import torch
from torch import Tensor, nn

from workbench.measure.batches import Cancelled, as_batches, batch_count, device_of, split_batch
from workbench.measure.moments import Progress
from workbench.network.discovery import one_line


def metric_name(evaluation: Any) -> str:
    """What `evaluate` returns for this evaluation data: 'accuracy', 'R²', or 'score' for a function."""
    if callable(evaluation):
        return "score"
    for index, batch in enumerate(as_batches(evaluation, "evaluation")):
        _, targets = split_batch(batch, index, "evaluation")
        return "accuracy" if targets is not None and not targets.is_floating_point() else "R²"
    raise ValueError("the evaluation data is empty: give at least one batch of (inputs, targets)")


def evaluate(
    model: nn.Module,
    evaluation: Iterable | Callable[[nn.Module], float],
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> float:
    """Score `model`: the share of examples whose largest output is the target class, in [0, 1]; for
    floating-point targets the coefficient of determination R²; for a callable, what it returns.

    `evaluation`: (inputs, targets) batch by batch, or a function of the model. The model is run in
    evaluation mode and left in the mode it had.

    Raises ValueError where a batch has no targets or does not fit the model; Cancelled.
    """
    training = model.training
    model.eval()
    try:
        if callable(evaluation):
            return float(evaluation(model))
        return _score_batches(model, evaluation, progress, cancel)
    finally:
        model.train(training)


def _score_batches(model: nn.Module, data: Any, progress: Progress | None, cancel: Event | None) -> float:
    data = as_batches(data, "evaluation")
    total, device = batch_count(data), device_of(model)
    sums = torch.zeros(4, dtype=torch.float64)  # correct or squared error, Σt, Σt², count
    classes = True
    for index, batch in enumerate(data):
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"scoring was cancelled after {index} batches")
        inputs, targets = split_batch(batch, index, "evaluation")
        if targets is None:
            raise ValueError(f"evaluation batch {index} has no targets; a score needs (inputs, targets)")
        try:
            with torch.no_grad():
                outputs = model(inputs.to(device))
            classes = not targets.is_floating_point()
            sums += _sums(outputs, targets.to(device), classes)
        except Exception as error:
            raise ValueError(
                f"evaluation batch {index} (inputs {tuple(inputs.shape)}, targets {tuple(targets.shape)}) "
                f"does not fit the model: {one_line(error)}"
            ) from error
        if progress is not None:
            progress(index + 1, total, f"scoring, {int(sums[3])} targets")
    if not sums[3]:
        raise ValueError("the evaluation data is empty: give at least one batch of (inputs, targets)")
    if classes:
        return float(sums[0] / sums[3])
    variance = sums[2] - sums[1] ** 2 / sums[3]
    return float(1 - sums[0] / variance)


def _sums(outputs: Tensor, targets: Tensor, classes: bool) -> Tensor:
    if classes:
        correct = (outputs.argmax(1) == targets).sum()
        return torch.tensor([correct, 0, 0, targets.numel()], dtype=torch.float64)
    values = targets.double().reshape(outputs.shape)
    error = (outputs.double() - values).square().sum()
    return torch.stack(
        [error, values.sum(), values.square().sum(), torch.tensor(float(values.numel()))]
    ).cpu()
