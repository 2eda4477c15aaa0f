"""Fine-tuning of a pruned network: by labels, or by what the original network gives, without any."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from threading import Event
from time import sleep
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.data.batches import Batches, as_batches, split_batch
from workbench.data.randomness import OwnRandomness, all_of, batch_count, each_of
from workbench.measure.asking import AmbiguousError
from workbench.measure.intake import Intake
from workbench.measure.positions import Positions, Visible
from workbench.measure.reading import Loss, Reading, TaskLoss, passes_over_marks
from workbench.network.copying import copied
from workbench.network.running import batch_length, call, device_of, main_output, one_line, tensors_of
from workbench.tuning.augmentation import augmented
from workbench.tuning.layout import lay_channels_last, lay_out_like, lay_plain
from workbench.tuning.matching import Matching
from workbench.tuning.settings import Tuning

WARM_UP = 0.2  # of all steps; of very few more, since torch's schedule divides by its steps less one
PAUSE = 0.05  # seconds between two looks at whether a pause is over
Report = Callable[["TuningReport"], Any]


@dataclass(frozen=True)
class TuningReport:
    """How far it is: `step` of `total`, the loss since the last report, the score where it was taken."""

    step: int
    total: int
    loss: float
    score: float | None = None


@dataclass(frozen=True)
class Tuned:
    """The best network found, in evaluation mode, with what was seen on the way, after how many steps."""

    model: nn.Module
    score: float | None
    reports: tuple[TuningReport, ...] = field(repr=False)
    steps: int
    stopped: bool = False


def finetune(
    model: nn.Module,
    training: Any,
    tuning: Tuning | None = None,
    *,
    original: nn.Module | None = None,
    matching: Matching | None = None,
    loss: Loss | None = None,
    score: Callable[[nn.Module], float | None] | None = None,
    report: Report | None = None,
    cancel: Event | None = None,
    pause: Event | None = None,
) -> Tuned:
    """Fine-tune a copy of `model` on `training` batches; the given model is not changed.

    `loss(outputs, targets)`: by default the one that goes with the targets (`Reading.loss`). `original` is
    what `distill` follows, `matching` what `match` does. `score(model)` is taken `checks` times or a few
    more; without it the last network counts as the best. A set `cancel` ends early and keeps the best so
    far; while `pause` is set, nothing goes on. Parameters that need no gradient stay as they are, unless
    none needs one. Random numbers (orders, dropout, changed images) come from `tuning.seed`; the caller's
    generators are not moved.

    Raises ValueError where labels are needed and missing, a batch does not fit, the loss is not finite, or
    the data ends before all it promises.
    """
    tuning = tuning or Tuning()
    if tuning.distill > 0 and original is None:
        raise ValueError("distillation follows the original network: give it")
    if tuning.match > 0 and matching is None:
        raise ValueError("matching follows the original network's activations: give what is to be matched")
    data = _batched(training, tuning)
    total = tuning.steps or max(1, math.ceil(tuning.epochs * _steps_an_epoch(data)))
    trained = _trainable(model, tuning)
    randomness = OwnRandomness(tuning.seed, device_of(model))
    course = _Course(trained, tuning, total, original, matching, loss, data, randomness)
    best = _Best(model, score)
    reports: list[TuningReport] = []
    every, shown = max(1, total // tuning.checks), max(1, total // 100)
    end = min(total, tuning.until or total)
    losses: list[float] = []
    done = checked = 0
    for step, batch in enumerate(_endless(data, randomness, course.generator), start=1):
        stopped = _stopped(pause, cancel)
        if not stopped:
            losses.append(course.step(batch, step - 1))
            done = step
        last = stopped or done == end
        found = None
        if done > checked and (last or done % every == 0):
            found, checked = best.offer(trained), done
        if losses and (checked == done or done % shown == 0):
            reports.append(TuningReport(done, total, sum(losses) / len(losses), found))
            losses = []
            if report is not None:
                report(reports[-1])
        if last:
            break
    for parameter, like in zip(best.model.parameters(), model.parameters(), strict=True):
        parameter.requires_grad_(like.requires_grad)
    return Tuned(best.model, best.score, tuple(reports), done, stopped)


def _batched(training: Any, tuning: Tuning) -> Iterable:
    """Whole tensors in batches of the size wished for; a loader's as they come."""
    data = as_batches(training, "training")
    return replace(data, batch_size=tuning.batch) if isinstance(data, Batches) else data


def _steps_an_epoch(data: Iterable) -> int:
    if isinstance(data, Batches):
        return data.shuffled_count
    return batch_count(data) or sum(1 for _ in each_of(data))


def _trainable(model: nn.Module, tuning: Tuning) -> nn.Module:
    """A copy to be trained: what needs a gradient of it, or all, where nothing does."""
    trained = copied(model).train(not tuning.keeps_norms)
    if not any(parameter.requires_grad for parameter in trained.parameters()):
        for parameter in trained.parameters():
            parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    return trained


def _stopped(pause: Event | None, cancel: Event | None) -> bool:
    """Whether to end here; waits while there is a pause."""
    cancelled = cancel.is_set if cancel is not None else lambda: False
    while pause is not None and pause.is_set() and not cancelled():
        sleep(PAUSE)
    return cancelled()


class _Best:
    """The best network so far, in evaluation mode; without a score the last one offered."""

    def __init__(self, model: nn.Module, score: Callable[[nn.Module], float | None] | None):
        self._score = score
        self.model, self.score = copied(model).eval(), score(model) if score else None

    def offer(self, trained: nn.Module) -> float | None:
        """The score of a copy of `trained`, in the layout of the first network; the best one is kept."""
        model = copied(trained).eval()
        lay_out_like(model, self.model)
        found = self._score(model) if self._score else None
        if self._score is None or _better(found, self.score):
            self.model, self.score = model, found
        return found


def _better(found: float | None, best: float | None) -> bool:
    return best is None or (found is not None and found > best)


def _endless(data: Iterable, randomness: OwnRandomness, generator: torch.Generator) -> Iterator[Any]:
    while True:
        seen = 0
        loaded = all_of(data, randomness.batches(data), "training")
        for index, batch in enumerate(data.shuffled(generator) if isinstance(data, Batches) else loaded):
            if batch_length(split_batch(batch, index, "training")[0]):
                seen += 1
                yield batch
        if not seen:
            raise ValueError("the training data is empty: give at least one batch")


class _Course:
    """The optimiser, its schedule and the loss of one fine-tuning."""

    def __init__(
        self,
        model: nn.Module,
        tuning: Tuning,
        total: int,
        original: nn.Module | None,
        matching: Matching | None,
        loss: Loss | None,
        data: Iterable,
        randomness: OwnRandomness,
    ):
        self.randomness, self.generator = randomness, torch.Generator().manual_seed(tuning.seed)
        self.model, self.tuning, self.data, self.intake = model, tuning, data, Intake(model)
        self.task = loss if isinstance(loss, TaskLoss) else TaskLoss()
        self.loss = None if isinstance(loss, TaskLoss) else loss  # the user's own
        self.reading: Reading | None = None
        self.positions = Positions.of_data(model, data)
        self.visible = Visible(model, {})  # of the batch
        self.original, self.matching = original, matching
        self.laid_out: list[nn.Module] = []  # the networks that are channels last here
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(learned, lr=tuning.rate, weight_decay=tuning.decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser,
            max_lr=tuning.rate,
            total_steps=total + 1,
            pct_start=max(WARM_UP, 1.5 / (total + 1)),
        )

    def step(self, batch: Any, index: int) -> float:
        inputs, targets = split_batch(batch, index, "training")
        self.visible = self.positions.of(inputs)
        if targets is not None and self.loss is None and passes_over_marks(self.task):
            targets = self.visible.targets(targets)
        inputs = self.intake(inputs)
        targets = None if targets is None else targets.to(self.intake.device)
        if index == 0:
            self._lay_out(inputs)
        try:
            inputs = self._augmented(inputs, targets)
            with self.randomness.drawing():  # dropout
                value = self._tried(inputs, targets)
        except AmbiguousError:
            raise
        except Exception as error:
            raise ValueError(f"training batch {index} does not fit: {one_line(error)}") from error
        if not torch.isfinite(value):
            raise ValueError(
                f"the loss is {float(value.detach())} at step {index + 1}: {_why(inputs, targets, index)}"
            )
        self.optimiser.zero_grad()
        value.backward()
        self.optimiser.step()
        self.schedule.step()
        return float(value.detach())

    def _lay_out(self, inputs: Any) -> None:
        """Both networks in the layout that trains faster: the trained one, and a copy of the original."""
        if not lay_channels_last(self.model, inputs):
            return
        self.laid_out.append(self.model)
        if self.tuning.match > 0 and self.matching is not None:  # gives the original's outputs too
            self.matching = replace(self.matching, original=self._copied(self.matching.original, inputs))
        elif self.tuning.distill > 0 and self.original is not None:
            self.original = self._copied(self.original, inputs)

    def _copied(self, model: nn.Module, inputs: Any) -> nn.Module:
        """A copy, channels last where it runs that way."""
        model = copied(model)
        if lay_channels_last(model, inputs):
            self.laid_out.append(model)
        return model

    def _tried(self, inputs: Any, targets: Tensor | None) -> Tensor:
        """The loss; from the plain layout on, where a network does not run on these inputs without it.

        A `view` may stand where the network goes only while it trains, or only for some inputs. What the
        attempt did to the running statistics is taken back.
        """
        if not self.laid_out:
            return self._value(inputs, targets)
        before = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        try:
            return self._value(inputs, targets)
        except Exception:
            for buffer, was in before:
                buffer.copy_(was)
            for model in self.laid_out:
                lay_plain(model)
            self.laid_out = []
            return self._value(inputs, targets)

    def _augmented(self, inputs: Any, targets: Tensor | None) -> Any:
        """Raises ValueError where the targets would have to be moved too."""
        flips, shifts = self.tuning.flips, self.tuning.shifts
        if not (flips or shifts):
            return inputs
        if self.tuning.labels > 0 and targets is not None and targets.dim() > 2:
            raise ValueError(
                f"targets of shape {tuple(targets.shape)} lie on the image, but flips and shifts move the "
                "image alone: leave them off, or follow the original alone (distill=1 or match=1)"
            )
        return augmented(inputs, flips, shifts, self.generator)

    def _value(self, inputs: Any, targets: Tensor | None) -> Tensor:
        tuning = self.tuning
        outputs = wanted = distance = None
        if tuning.match > 0 and self.matching is not None:
            outputs, wanted, distance = self.matching.run(self.model, inputs, self.visible)
        else:
            outputs = main_output(call(self.model, inputs))
        value = outputs.new_zeros(()) if distance is None else tuning.match * distance
        if tuning.labels > 0:
            if targets is None:
                raise ValueError(
                    "it has no targets; give labels, or follow the original alone (distill=1 or match=1)"
                )
            own = self.loss or self._read(outputs, targets, inputs).loss
            value = value + tuning.labels * own(outputs, targets)
        if tuning.distill > 0:
            assert self.original is not None
            if wanted is None:
                with torch.no_grad():
                    wanted = main_output(call(self.original, inputs))
            axis, logits = self._classes(outputs, targets, inputs)
            kind = "Conv1d" if axis == 1 and outputs.dim() == 3 else "Linear"  # classes before positions
            ours, theirs = (self.visible.counted(logits(one), kind) for one in (outputs, wanted))
            axis = axis if axis is None or ours.dim() == outputs.dim() else 1
            distance = _distance(ours, theirs, axis, tuning.temperature)
            value = value + tuning.distill * distance
        return value

    def _read(self, outputs: Tensor, targets: Tensor, inputs: Any) -> Reading:
        """How the targets are read, found out once."""
        if self.reading is None:
            found = outputs.detach()
            self.reading = self.task.reading_of(found, targets, self.model, inputs, self.data)
        return self.reading

    def _classes(
        self, outputs: Tensor, targets: Tensor | None, inputs: Any
    ) -> tuple[int | None, Callable[[Tensor], Tensor]]:
        """The axis of the classes, if any, and what makes logits of outputs.

        Where the original alone is followed, or by a loss of the user's own, targets may be anything.
        """
        if targets is not None:
            try:
                reading = self._read(outputs, targets, inputs)
                return reading.class_axis, reading.logits
            except AmbiguousError:
                raise
            except ValueError:
                pass
        return None, lambda numbers: numbers


def _why(inputs: Any, targets: Tensor | None, index: int) -> str:
    """What to do where the loss is not finite."""
    for what, tensors in (("inputs", tensors_of(inputs)), ("targets", [] if targets is None else [targets])):
        if not all(bool(tensor.isfinite().all()) for tensor in tensors):
            return f"the {what} of this batch have NaN or Inf"
    if index == 0:
        return "so it is before anything was learned; look at what the network gives, and at the loss"
    return "take a smaller learning rate"


def _distance(outputs: Tensor, wanted: Tensor, axis: int | None, temperature: float) -> Tensor:
    """Kullback–Leibler divergence of softened classes, where the targets say that these are classes, along
    `axis` of the outputs; else the mean squared error."""
    if not outputs.numel():
        return outputs.sum() * 0
    if axis is None or outputs.dim() < 2 or outputs.shape[axis] < 2:
        return functional.mse_loss(outputs, wanted)
    ours, theirs = (functional.log_softmax(one / temperature, axis) for one in (outputs, wanted))
    answers = ours.numel() / ours.shape[axis] / len(ours)
    divergence = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return temperature**2 * divergence / answers
