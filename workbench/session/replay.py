"""Doing a recipe again, without widgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from workbench.measure import Progress
from workbench.measure.examples import load_example
from workbench.session.finetune import Loss
from workbench.session.recipe import RecipeStep, TuneStep, check_fingerprint, parse_step, read_recipe
from workbench.session.session import Session

GIVEN = "data of your own"  # what data is called that nobody named, in place of an example's


def replay(
    recipe: dict[str, Any] | str | Path,
    model: nn.Module | None = None,
    calibration: Any = None,
    evaluation: Any = None,
    progress: Progress | None = None,
    training: Any = None,
    loss: Loss | None = None,
    data_name: str = "",
) -> Session:
    """Do a recipe again, without widgets, and return the session at its end.

    `recipe`: a dictionary, or the path of a JSON file. `model` and `calibration` may be left out for a
    recipe made from a built-in example. `training` and `loss`, for its fine-tunings, and `data_name` are as
    for Session.

    Raises RecipeError where the recipe is damaged or of another model (with both fingerprints), ValueError
    where model or calibration data is missing.
    """
    recipe = read_recipe(recipe)
    session = session_for(recipe, model, calibration, evaluation, progress, training, loss, data_name)
    session.measure(progress)
    for index, record in enumerate(recipe["steps"]):
        step = parse_step(record, f"step {index + 1}")
        if isinstance(step, RecipeStep):
            session.commit(session.choice_of(step), progress, plan=step.plan)
        elif isinstance(step, TuneStep):
            session.finetune(tuning=step.tuning)
        else:
            session.refit(progress)
    return session


def session_for(
    recipe: dict[str, Any],
    model: nn.Module | None,
    calibration: Any,
    evaluation: Any,
    progress: Progress | None = None,
    training: Any = None,
    loss: Loss | None = None,
    data_name: str = "",
) -> Session:
    """A fresh session on the model that `recipe` was made with, after its fingerprint was checked.

    `data_name`: what the calibration data is called, by default the example's name for its own. Raises
    ValueError where model or data is missing.
    """
    example = recipe["model"].get("example")
    name = recipe["model"].get("name", "")
    procedure, measured_on = recipe["procedure"], recipe.get("data", "")
    if model is None and example:
        ex = load_example(example, progress=progress)
        model = ex.model
        if calibration is None and measured_on not in ("", ex.data_name):
            raise ValueError(
                f"this was measured on {measured_on}, not on the example's own {ex.data_name}: give the "
                "calibration data"
            )
        data_name = data_name or (ex.data_name if calibration is None else GIVEN)
        calibration = ex.calibration if calibration is None else calibration
        evaluation = ex.evaluation if evaluation is None else evaluation
    if model is None:
        raise ValueError("the recipe was not made from a built-in example: give the original model")
    check_fingerprint(recipe, model)
    if calibration is None:
        raise ValueError("give the calibration data with which the model is to be measured")
    return Session(
        model, calibration, evaluation,
        procedure=procedure, name=name, data_name=data_name, example=example,
        training=training, loss=loss,
    )  # fmt: skip
