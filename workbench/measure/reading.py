"""How targets are read: as classes, as yes or no, or as values; the score and the loss that go with each.

What the targets are decides, with the shape of the outputs:

- whole numbers, one where the outputs have a number a class: **classes**. The classes lie along the second
  axis of the outputs, (n, classes, …), or along the last one, (n, …, classes). Where both fit, the network is
  asked (`probing.class_axis`), else the caller must say;
- whole numbers or floats that are all 0 or 1, one for each output: **yes or no**, for one output an example
  (a logit) or several labels. Where exactly one of each example's is 1, they are classes, **one-hot**;
- any other floats, one for each output: **values**.

Targets that do not count: −100, and 255 (of a mask) where there are several targets an example; of whole
numbers also those at positions that an attention mask hides (`positions`). Values all count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.data.batches import IGNORED, as_batches, split_batch
from workbench.data.randomness import each_of
from workbench.measure.asking import COUNTED, AmbiguousError, check_asked
from workbench.measure.axes import MisfitError, chosen_axis, like, misfit, one_hot_axis
from workbench.measure.intake import Intake
from workbench.measure.positions import Positions
from workbench.measure.probing import ends_in_probabilities
from workbench.measure.targets import (
    VOID,
    are_marks,
    are_whole,
    fitting_axes,
    has_void_for_yes,
    is_ignored,
    squeezed,
)
from workbench.network.running import batch_length, call, evaluating, main_output, one_line, shape_of

Loss = Callable[[Tensor, Tensor], Tensor]
SCANNED = 16  # batches that are looked at to tell yes and no from values


class NotFiniteError(ValueError):
    """Outputs or targets are no numbers."""


@dataclass(frozen=True)
class Reading:
    """How targets are read.

    `kind`: "classes", "one-hot", "yes-no", "values", or "own" for a score function. `name`: what the score is
    called on the screen. `axis` of the outputs along which the classes lie. `probabilities`: the network ends
    in a sigmoid or softmax, so that yes is more than a half; else more than 0, as of a logit. Of classes it
    is found out only for a loss, since the largest is the same.
    """

    kind: str
    name: str
    axis: int = 1
    probabilities: bool = False

    @property
    def class_axis(self) -> int | None:
        """The axis of the outputs along which classes exclude each other; None without such classes."""
        return self.axis if self.kind in ("classes", "one-hot") else None

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(right answers, answers that count), float64.

        Raises ValueError where the two do not fit, or for NaN.
        """
        _refuse_nan(outputs)
        if self.kind == "yes-no":
            numbers, wanted = self._yes_no(outputs, targets)
            hits = (numbers > (0.5 if self.probabilities else 0.0)) == (wanted > 0.5)
        else:
            scores, classes = self.scores_and_classes(outputs, targets)
            counted = classes != IGNORED
            hits = scores.argmax(1)[counted] == classes[counted]
        return torch.tensor([float(hits.sum()), float(hits.numel())], dtype=torch.float64)

    def count(self, outputs: Tensor, targets: Tensor) -> int:
        """How many targets count, of which `loss` is the mean. Raises ValueError where they do not fit."""
        if self.kind in ("values", "own"):
            return targets.numel()
        if self.kind == "yes-no":
            return self._yes_no(outputs, targets)[0].numel()
        return int((self.scores_and_classes(outputs, targets)[1] != IGNORED).sum())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of this reading, a scalar, the mean over what counts; 0 where nothing does.

        Classes: cross-entropy. Yes or no: binary cross-entropy. Values: the mean squared error. Probabilities
        are taken as such, those of classes after division by their sum.
        """
        if self.kind in ("values", "own"):
            return functional.mse_loss(outputs, like(outputs, targets).to(outputs.dtype))
        if self.kind == "yes-no":
            numbers, wanted = self._yes_no(outputs, targets)
            if not numbers.numel():
                return outputs.sum() * 0
            if self.probabilities:
                return functional.binary_cross_entropy(numbers, wanted.to(numbers.dtype))
            return functional.binary_cross_entropy_with_logits(numbers, wanted.to(numbers.dtype))
        scores, classes = self.scores_and_classes(self.logits(outputs), targets)
        if not bool((classes != IGNORED).any()):
            return outputs.sum() * 0
        return functional.cross_entropy(scores, classes, ignore_index=IGNORED)

    def logits(self, outputs: Tensor) -> Tensor:
        """The logarithms of probabilities of classes; any other outputs as they are."""
        if self.class_axis is None or not self.probabilities:
            return outputs
        return outputs.clamp_min(torch.finfo(outputs.dtype).tiny).log()

    def values(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Both as (n, outputs), float64, on the CPU, since not every device has doubles.

        Raises ValueError where the two do not fit, or for NaN.
        """
        _refuse_nan(outputs)
        if not bool(targets.isfinite().all()):
            raise NotFiniteError("the targets have NaN or Inf: remove those examples")
        both = (outputs.cpu(), like(outputs, targets).cpu())
        found, wanted = (one.double().reshape(len(outputs), -1) for one in both)
        return found, wanted

    def scores_and_classes(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (answers, classes), and the class of each answer, IGNORED where it does not count."""
        if self.kind == "one-hot":
            targets = like(outputs, targets)
            if not bool(((targets == 1).sum(self.axis) == 1).all() and are_marks(targets)):
                raise ValueError(
                    "in the first batches exactly one of each example's targets is 1, so they were read as "
                    "classes; here that is not so: metric='label accuracy' reads all of them as yes or no"
                )
            targets = targets.to(torch.uint8).argmax(self.axis)
        if self.axis not in fitting_axes(outputs, targets):
            raise MisfitError(misfit(outputs, targets))
        scores = outputs.movedim(self.axis, -1).reshape(-1, outputs.shape[self.axis])
        classes, count = targets.reshape(-1).long(), scores.shape[1]
        if count < 2:
            raise ValueError(
                f"outputs {tuple(outputs.shape)} are one number a target, but targets go up to "
                f"{int(classes.max())}: expected 0 or 1, or metric='R²' for values"
            )
        ignored = is_ignored(targets, count).reshape(-1)
        if not are_whole(targets):
            raise ValueError("targets with fractions are not classes: expected whole numbers")
        counted = classes[~ignored]
        if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < count:
            raise ValueError(
                f"targets from {int(counted.min())} to {int(counted.max())} are not classes of {count} "
                f"outputs; mark what is not to count with {IGNORED}"
            )
        return scores, classes.masked_fill(ignored, IGNORED)

    def _yes_no(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers and targets that count, each (count,)."""
        wanted = like(outputs, targets)
        counted = ~is_ignored(wanted, 2)
        numbers, wanted = outputs[counted], wanted[counted]
        if not are_marks(wanted):
            raise ValueError(
                f"targets from {float(wanted.min()):g} to {float(wanted.max()):g} for one output each: "
                f"expected 0 or 1 ({IGNORED} for what does not count)"
            )
        return numbers, wanted


OWN = Reading("own", "score")


@dataclass(frozen=True)
class TaskLoss:
    """The loss that goes with the targets, as `metric` and `classes` say where they can be read two ways."""

    metric: str | None = None
    classes: str | None = None

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return reading_of(outputs, [targets], self.metric, self.classes).loss(outputs, targets)

    def reading(self, model: nn.Module, data: Any, what: str) -> Reading:
        """How the targets of `data` are read, once for all batches."""
        return read(model, data, self.metric, self.classes, what, for_loss=True)

    def reading_of(
        self, outputs: Tensor, targets: Tensor, model: nn.Module, inputs: Any, data: Any
    ) -> Reading:
        """How the targets of training data are read of which one batch gave these `outputs`."""
        parts = [targets] if _is_plain(targets) else [targets, *_targets_of(data, "training", model)]
        return reading_of(outputs, parts, self.metric, self.classes, model, inputs, for_loss=True)


def passes_over_marks(loss: Loss | None) -> bool:
    """Whether targets that are marked as not counting are passed over: not by a user's own loss, or of R²."""
    return loss is None or (isinstance(loss, TaskLoss) and loss.metric != "R²")


def loss_for(
    loss: Loss | None, model: nn.Module, data: Any, what: str
) -> tuple[Loss, Callable[[Tensor, Tensor], int]]:
    """The loss, and of how many targets it is the mean.

    By default, or for a `TaskLoss`, the loss that goes with the targets of `data`, over what counts. A user's
    own is taken as the mean over the examples.
    """
    if loss is None or isinstance(loss, TaskLoss):
        reading = (loss or TaskLoss()).reading(model, data, what)
        return reading.loss, reading.count
    return loss, lambda outputs, targets: len(targets)


def read(
    model: nn.Module,
    data: Any,
    metric: str | None = None,
    classes: str | None = None,
    what: str = "evaluation",
    for_loss: bool = False,
) -> Reading:
    """How the targets of `data` are read for `model`, which runs on the first batch where that must tell.

    Args:
        model: the network; it is left as it was.
        data: batches of (inputs, targets), as `as_batches` takes them.
        metric: one of `asking.METRICS`, where the targets would be read otherwise; None: as they are.
        classes: "last" or "second", the axis of the outputs along which the classes lie; None: as it fits.
        what: what the data is called in errors.
        for_loss: whether a loss is wanted, for which it matters whether the network gives probabilities.

    Raises:
        ValueError: no example, no targets, an unknown option, or targets that do not fit the outputs.
        AmbiguousError: the classes may lie along two axes, and neither the network nor `classes` says which.
    """
    check_asked(metric, classes)
    for index, batch in enumerate(each_of(as_batches(data, what))):
        inputs, targets = split_batch(batch, index, what)
        if targets is None:
            raise ValueError(f"the {what} data has no targets; a score needs (inputs, targets)")
        if batch_length(inputs):
            break
    else:
        raise ValueError(f"the {what} data is empty: give at least one batch of (inputs, targets)")
    if targets.is_complex() or not targets.dim():
        kind = str(targets.dtype).removeprefix("torch.")
        raise ValueError(
            f"{what} batch {index} has targets {tuple(targets.shape)} of {kind}: expected whole or floating "
            "numbers, one or more for each example"
        )
    if metric is None and (told := _told_by_targets(targets, for_loss)):
        return told
    inputs = Intake(model)(inputs)
    parts = [targets] if _is_plain(targets) else _targets_of(data, what, model)
    try:
        with evaluating(model), torch.no_grad():
            outputs = main_output(call(model, inputs))
        return reading_of(outputs, parts, metric, classes, model, inputs, for_loss)
    except AmbiguousError:
        raise
    except Exception as error:
        said = str(error) if isinstance(error, MisfitError) else one_line(error)
        raise ValueError(
            f"{what} batch {index} (inputs {shape_of(inputs)}, targets {tuple(targets.shape)}) does not fit "
            f"the model: {said}"
        ) from error


def reading_of(
    outputs: Tensor,
    targets: list[Tensor],
    metric: str | None = None,
    classes: str | None = None,
    model: nn.Module | None = None,
    inputs: Any = None,
    for_loss: bool = False,
) -> Reading:
    """How `targets`, of which the first batch belongs to `outputs`, are read. `model`, `inputs`: who to ask.

    Raises ValueError where they do not fit, AmbiguousError.
    """
    check_asked(metric, classes)
    counted = metric in COUNTED
    found = _found(outputs, targets, "accuracy" if counted else metric, classes, model, inputs, for_loss)
    if counted and metric not in ("accuracy", found.name):
        raise MisfitError(
            f"metric={metric!r}, but outputs {tuple(outputs.shape)} for targets {tuple(targets[0].shape)} "
            f"give metric={found.name!r}"
        )
    return found


def _found(
    outputs: Tensor,
    targets: list[Tensor],
    metric: str | None,
    classes: str | None,
    model: nn.Module | None,
    inputs: Any,
    for_loss: bool,
) -> Reading:
    first = targets[0].to(outputs.device)
    same, axes = squeezed(outputs) == squeezed(first), fitting_axes(outputs, first)
    several = outputs[:1].numel() > 1
    marks = all(are_marks(part[~is_ignored(part, 2)]) for part in targets)
    if metric == "R²" or (metric is None and first.is_floating_point() and not marks):
        if not same:
            raise MisfitError(misfit(outputs, first))
        return Reading("values", "R²")
    if same and (not several or not axes or outputs.shape[axes[0]] == 1):
        if not marks:
            raise MisfitError(misfit(outputs, first))
        axis = (
            one_hot_axis(outputs, targets, classes, model, inputs)
            if several and not axes and metric != "label accuracy"
            else None
        )
        if axis is not None:
            asked = for_loss and model is not None and ends_in_probabilities(model, inputs)
            return Reading("one-hot", _name(first.dim() - 2), axis, asked)
        if metric == "accuracy" and several and not axes:
            raise ValueError("these targets are labels, not one class an example: metric='label accuracy'")
        _refuse_doubtful_void(targets, 2)
        asked = model is not None and ends_in_probabilities(model, inputs)
        labels = metric == "label accuracy" or (several and not axes)
        name = "label accuracy" if labels else _name(len(squeezed(first)) - 1)
        return Reading("yes-no", name, probabilities=asked)
    if not axes or metric == "label accuracy":
        raise MisfitError(misfit(outputs, first))
    axis = chosen_axis(outputs, first, axes, classes, model, inputs)
    _refuse_doubtful_void(targets, outputs.shape[axis])
    asked = for_loss and model is not None and ends_in_probabilities(model, inputs)
    return Reading("classes", _name(len(squeezed(first)) - 1), axis, asked)


def _told_by_targets(targets: Tensor, for_loss: bool) -> Reading | None:
    """What needs no run of the network: one class an example to score; floats that are not all 0 or 1."""
    if not targets.numel():
        return None
    if targets.is_floating_point():
        return None if are_marks(targets[~is_ignored(targets, 2)]) else Reading("values", "R²")
    one = targets.numel() == len(targets) and not for_loss
    return Reading("classes", "accuracy") if one and int(targets.max()) > 1 else None


def _targets_of(data: Any, what: str, model: nn.Module | None) -> list[Tensor]:
    positions = None if model is None else Positions.of_data(model, data)
    found = []
    for index, batch in islice(enumerate(each_of(as_batches(data, what))), SCANNED):
        inputs, targets = split_batch(batch, index, what)
        if targets is not None and targets.numel():
            found.append(targets if positions is None else positions.of(inputs).targets(targets))
    return found


def _is_plain(targets: Tensor) -> bool:
    """Whole numbers, one an example: the first batch tells all."""
    return not targets.is_floating_point() and targets.numel() == len(targets)


def _refuse_nan(outputs: Tensor) -> None:
    if bool(outputs.isnan().any()):
        raise NotFiniteError("the network gives NaN, which is no answer that could be scored")


def _name(axes: int) -> str:
    """The name of an accuracy over targets with that many axes an example."""
    return ("accuracy", "token accuracy", "pixel accuracy")[min(max(axes, 0), 2)]


def _refuse_doubtful_void(targets: Iterable[Tensor], classes: int) -> None:
    """Raises ValueError for masks of 0 and 255 where 255 may be what does not count, or yes."""
    if classes == 2 and has_void_for_yes(targets, classes):
        raise MisfitError(
            f"no target is 1, but some are {VOID}: if that means yes, divide the targets by {VOID}; "
            f"if it marks what is not to count, write {IGNORED} for it"
        )
