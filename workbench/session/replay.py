"""Doing a recipe again, without widgets."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

from torch import nn

from workbench.data.progress import Cancelled, Progress, of_step
from workbench.measure.positions import Mask
from workbench.session.recipe import RecipeStep, TuneStep, read_recipe, read_steps
from workbench.session.session import Session, session_for
from workbench.tuning.finetuning import Loss, Report


def replay(
    recipe: dict[str, Any] | str | Path,
    model: nn.Module | None = None,
    calibration: Any = None,
    evaluation: Any = None,
    progress: Progress | None = None,
    training: Any = None,
    loss: Loss | None = None,
    data_name: str = "",
    metric: str | None = None,
    classes: str | None = None,
    mask: Mask = None,
    cancel: Event | None = None,
) -> Session:
    """Do a recipe again, without widgets, and return the session at its end.

    `recipe`: a dictionary, or the path of a JSON file. `model` and `calibration` may be left out for a
    recipe made from a built-in example. `training` and `loss`, for its fine-tunings, and `data_name` are as
    for Session; so are `metric`, `classes` and `mask`, by default as the recipe says.

    `progress(done, total, what)` is told of every pass, with the step of the recipe that it belongs to. A set
    `cancel` ends the work before the next batch.

    Raises RecipeError where the recipe is damaged or of another model (with both fingerprints), ValueError
    where model or calibration data is missing, Cancelled.
    """
    recipe = read_recipe(recipe)
    session = session_for(
        recipe, model, calibration, evaluation, data_name=data_name, progress=progress,
        training=training, loss=loss, metric=metric, classes=classes, mask=mask, cancel=cancel,
    )  # fmt: skip
    session.measure(progress, cancel)
    steps = read_steps(recipe)
    for number, step in enumerate(steps, start=1):
        if cancel is not None and cancel.is_set():
            raise _cancelled(number - 1, len(steps))
        told = of_step(progress, number, len(steps), "replaying")
        if isinstance(step, RecipeStep):
            session.commit(session.choice_of(step), told, cancel, plan=step.plan)
        elif isinstance(step, TuneStep):
            done = session.finetune(tuning=step.tuning, report=_reporting(told), cancel=cancel)
            if done.stopped:  # which keeps what it has learned: not what the recipe says
                raise _cancelled(number - 1, len(steps))
        else:
            session.refit(told, cancel)
    return session


def _cancelled(done: int, steps: int) -> Cancelled:
    return Cancelled(f"replaying was cancelled after {done} of {steps} steps; nothing was kept")


def _reporting(progress: Progress | None) -> Report | None:
    """A fine-tuning's reports, told on as progress."""
    if progress is None:
        return None
    return lambda one: progress(one.step, one.total, f"fine-tuning, loss {one.loss:.4g}")
