"""The score of a model on its task: accuracy, R², or the user's own function. Higher is better."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.data.batches import as_batches, batch_count, split_batch
from workbench.data.progress import Cancelled, Progress
from workbench.network.running import (
    batch_length,
    call,
    device_of,
    evaluating,
    main_output,
    moved,
    one_line,
    shape_of,
)


def metric_name(evaluation: Any) -> str:
    """What `evaluate` returns for this evaluation data: 'accuracy', 'R²', or 'score' for a function."""
    if _is_function(evaluation):
        return "score"
    for index, batch in enumerate(as_batches(evaluation, "evaluation")):
        _, targets = split_batch(batch, index, "evaluation")
        if targets is None:
            raise ValueError("the evaluation data has no targets; a score needs (inputs, targets)")
        return "R²" if targets.is_floating_point() else "accuracy"
    raise ValueError("the evaluation data is empty: give at least one batch of (inputs, targets)")


def evaluate(
    model: nn.Module,
    evaluation: Iterable | Callable[[nn.Module], float],
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> float:
    """Score `model`. `evaluation`: (inputs, targets) batch by batch, or a function of the model.

    Whole-number targets (n, …): accuracy, the share of targets that are the class of the largest output
    (n, classes, …); with one output a target, the share on the right side of 0 (a logit). Floating-point
    targets: the coefficient of determination R², averaged over the outputs. A function: what it returns.
    The model is run in evaluation mode; every module gets its mode back.

    Raises ValueError where a batch has no targets or does not fit the model; Cancelled.
    """
    with evaluating(model):
        if _is_function(evaluation):
            return _own_score(evaluation(model))
        return _score_batches(model, evaluation, progress, cancel)


def _is_function(evaluation: Any) -> TypeGuard[Callable[[nn.Module], float]]:
    return callable(evaluation) and not isinstance(evaluation, Iterable)


def _own_score(score: Any) -> float:
    try:
        value = float(score)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the score function returned {type(score).__name__} {score!r}; it must return one number"
        ) from error
    if value != value:
        raise ValueError("the score function returned NaN; it must return a number")
    return value


def _score_batches(model: nn.Module, data: Any, progress: Progress | None, cancel: Event | None) -> float:
    data = as_batches(data, "evaluation")
    total, device = batch_count(data), device_of(model)
    sums: Tensor | None = None
    classes, count = True, 0
    for index, batch in enumerate(data):
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"scoring was cancelled after {index} batches")
        inputs, targets = split_batch(batch, index, "evaluation")
        if targets is None:
            raise ValueError(f"evaluation batch {index} has no targets; a score needs (inputs, targets)")
        try:
            with torch.no_grad():
                outputs = main_output(call(model, moved(inputs, device)))
            classes = not targets.is_floating_point()
            part = (_right if classes else _moments)(outputs, targets.to(device)).cpu()
        except Exception as error:
            raise ValueError(
                f"evaluation batch {index} (inputs {shape_of(inputs)}, targets {tuple(targets.shape)}) "
                f"does not fit the model: {one_line(error)}"
            ) from error
        sums = part if sums is None else sums + part
        count += batch_length(inputs)
        if progress is not None:
            progress(index + 1, total, f"scoring, {count} examples")
    if sums is None or not count:
        raise ValueError("the evaluation data is empty: give at least one batch of (inputs, targets)")
    return float(sums[0] / sums[1]) if classes else _r_squared(sums)


def _right(outputs: Tensor, targets: Tensor) -> Tensor:
    """(right answers, answers)."""
    if targets.dim() == outputs.dim() and targets.shape[1:] == (1,):
        targets = targets.squeeze(1)
    single = outputs.dim() > 1 and outputs.shape[1] == 1
    answers = (outputs.squeeze(1) > 0).to(targets.dtype) if single else outputs.argmax(1)
    if answers.shape != targets.shape:
        raise ValueError(f"outputs {tuple(outputs.shape)} give answers {tuple(answers.shape)}: one a target")
    classes = 2 if single else outputs.shape[1]
    if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        raise ValueError(
            f"targets from {int(targets.min())} to {int(targets.max())} are not classes of {classes} outputs"
        )
    right = (answers == targets).sum()
    return torch.tensor([float(right), float(targets.numel())], dtype=torch.float64)


def _moments(outputs: Tensor, targets: Tensor) -> Tensor:
    """(squared error, Σt, Σt², count) of every output, (4, outputs)."""
    values = targets.double().reshape(outputs.shape).reshape(len(outputs), -1)
    error = (outputs.double().reshape(len(outputs), -1) - values).square().sum(0)
    return torch.stack(
        [error, values.sum(0), values.square().sum(0), torch.full_like(error, float(len(values)))]
    )


def _r_squared(sums: Tensor) -> float:
    error, total, squares, count = sums
    variation = squares - total**2 / count
    if bool((variation <= 0).any()):
        raise ValueError("R² is not defined for targets that are all the same: give a function of the model")
    return float((1 - error / variation).mean())


def default_loss(targets: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy for whole-number targets, the mean squared error for others."""
    return functional.mse_loss if targets.is_floating_point() else functional.cross_entropy
