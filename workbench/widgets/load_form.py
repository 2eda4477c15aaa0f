"""A session on a person's own model and data, from a form as the page fills it in: texts, errors in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from workbench.data.loading import load_data, load_evaluation
from workbench.data.models import load_model
from workbench.data.plain_json import parsed
from workbench.measure.asking import CLASSES, METRICS, mask_of
from workbench.session.session import Session
from workbench.widgets.jobs import Reporter, waited_for
from workbench.widgets.wording import field_for, in_fields

FIELDS = (
    "model",
    "checkpoint",
    "options",
    "calibration",
    "calibration_split",
    "calibration_limit",
    "evaluation",
    "evaluation_split",
    "evaluation_limit",
    "targets",
    "metric",
    "classes",
    "mask",
    "training",
    "training_split",
    "training_limit",
    "size",
    "crop",
    "mean",
    "std",
)


def own_session(form: Mapping[str, Any], procedure: str, progress: Reporter) -> Session:
    """The session that `form` describes; not measured yet.

    `form` has texts under FIELDS, each of which may be missing or empty but for "model" and "calibration",
    and "pretrained", a bool. Raises ValueError, beginning with the label of the field that is wrong;
    Cancelled, through `progress`.
    """
    texts = {field: str(form.get(field) or "").strip() for field in FIELDS}
    name, calibration, evaluation = texts["model"], texts["calibration"], texts["evaluation"]
    for label, value in (("Model", name), ("Calibration", calibration)):
        if not value:
            raise ValueError(f"{label}: nothing is given here, and it is needed")
    options = read("Options", texts["options"], _options, 'a JSON object, such as {"num_classes": 10}')
    metric, classes = _asked(texts)
    look = _look(texts)
    parts = {data: _part(texts, data) for data in ("calibration", "evaluation", "training")}
    loading = f"loading {short_name(name)}"
    progress(0, None, loading)
    with _about("Checkpoint" if texts["checkpoint"] else "Model", name, texts["checkpoint"]):
        make = partial(
            load_model,
            name,
            weights="default" if form.get("pretrained") else None,
            checkpoint=texts["checkpoint"] or None,
            options=options,
        )
        model = waited_for(make, lambda: progress(0, None, loading))
    progress(0, None, "reading the calibration data")
    with _about("Calibration", calibration):
        measured_on = load_data(calibration, **look, **parts["calibration"], progress=progress)
    scored_on = None
    if evaluation:
        progress(0, None, "reading the evaluation data")
        targets = texts["targets"] or None
        with _about("Evaluation", evaluation):
            scored_on = load_evaluation(
                evaluation, **look, **parts["evaluation"], targets=targets, progress=progress
            )
    learned_from = None
    if texts["training"]:
        progress(0, None, "reading the training data")
        with _about("Training", texts["training"]):
            learned_from = load_data(texts["training"], **look, **parts["training"], progress=progress)
    with _about_reading():
        return Session(
            model,
            measured_on,
            scored_on,
            procedure=procedure,
            name=short_name(name),
            data_name=short_name(calibration),
            training=learned_from,
            metric=metric,
            classes=classes,
            mask=mask_of(texts["mask"]) if texts["mask"] else None,
            progress=progress,
        )


def short_name(name: str) -> str:
    """'path/to/nets.py:small' as 'nets.py:small', 'torchvision:resnet18' as 'resnet18', a path as its end."""
    place, colon, factory = name.rpartition(":")
    if place in ("torchvision", "timm", "transformers") or not colon:
        return Path(factory).name or name
    return f"{Path(place).name}:{factory}"


def read(label: str, text: str, parse: Callable[[str], Any], expected: str) -> Any:
    """`parse(text)`, None for an empty text. Raises ValueError with `label`, what was given and expected."""
    try:
        return parse(text) if text else None
    except (ValueError, AttributeError):
        raise ValueError(f"{label}: expected {expected}; got {text!r}") from None


def _look(texts: Mapping[str, str]) -> dict[str, Any]:
    sides = "224, or height x width as 224x160"
    numbers = "a number, or one a channel as 0.485, 0.456, 0.406"
    return {
        "size": read("Size", texts["size"], _sides, sides),
        "crop": read("Crop", texts["crop"], _sides, sides),
        "mean": read("Mean", texts["mean"], _numbers, numbers),
        "std": read("Std", texts["std"], _numbers, numbers),
    }


def _asked(texts: Mapping[str, str]) -> tuple[str | None, str | None]:
    """How targets are read, as Session has it."""
    metric = read("Score", texts["metric"], _one_of(METRICS), f"one of {', '.join(METRICS)}")
    classes = read("Classes on", texts["classes"], _one_of(tuple(CLASSES)), f"one of {', '.join(CLASSES)}")
    return metric, classes


def _part(texts: Mapping[str, str], data: str) -> dict[str, Any]:
    """Which part of a data set, and how much of it."""
    limit = read(f"{data.capitalize()}, at most", texts[f"{data}_limit"], int, "a whole number of examples")
    return {"split": texts[f"{data}_split"] or None, "limit": limit}


def _one_of(names: Sequence[str]) -> Callable[[str], str]:
    return lambda text: names[names.index(text)]


def _options(text: str) -> dict[str, Any]:
    return dict(parsed(text, "it").items())


def _sides(text: str) -> int | tuple[int, ...]:
    sides = tuple(int(side) for side in text.lower().replace("×", "x").split("x"))
    return sides[0] if len(sides) == 1 else sides


def _numbers(text: str) -> float | tuple[float, ...]:
    values = tuple(float(value) for value in text.replace(",", " ").split())
    return values[0] if len(values) == 1 else values


@contextmanager
def _about(label: str, *names: str) -> Iterator[None]:
    """Errors within are said of the field `label`; a name that stands in it is not said again."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        text = str(error)
        for name in names:
            text = text.removeprefix(f"{name}: ") if name else text
        raise ValueError(f"{label}: {text}") from error


@contextmanager
def _about_reading() -> Iterator[None]:
    """Errors within that ask for an option of the reading of targets are said of its field."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        label = field_for(text)
        if not label:
            raise
        raise ValueError(f"{label}: {in_fields(text)}") from error
