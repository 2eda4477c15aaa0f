"""`check("02.3", answer)`: right, or a hint that names the mistake."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from workbench.course.exercise import Exercise, UnfitError, agree, comparable
from workbench.course.slips import slip

CHAPTERS = {
    "01": "spectra",
    "02": "freedom",
    "03": "choosing",
    "04": "guarantees",
    "05": "paper",
    "06": "convolutions",
    "07": "budgets",
    "08": "beyond",
}
COLOURS = {"right": "#029e73", "wrong": "#de8f05", "open": "#949494"}  # of seaborn's colour-blind palette
MARKS = {"right": "✓", "wrong": "✗", "open": "…"}


@dataclass(frozen=True)
class Verdict:
    """What is said of an answer: `state` is "right", "wrong" or "open" (nothing was answered yet)."""

    key: str
    state: str
    text: str

    @property
    def right(self) -> bool:
        return self.state == "right"

    def verify(self) -> None:
        """Raise AssertionError with the hint unless the answer is right: what a grader runs."""
        if not self.right:
            raise AssertionError(str(self))

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{MARKS[self.state]} {self.key}: {self.text}"

    def _repr_html_(self) -> str:
        colour = COLOURS[self.state]
        return (
            f'<div style="border-left: 5px solid {colour}; padding: 6px 12px; font-size: 16px">'
            f"<b>{MARKS[self.state]} {html.escape(self.key)}</b>&ensp;{html.escape(self.text)}</div>"
        )


def check(key: str, answer: Any) -> Verdict:
    """Compare an answer to an exercise with the truth, which is computed now.

    Args:
        key: of the exercise, as "02.3".
        answer: of the form that the exercise asks for; `...` for none yet.

    Returns:
        A verdict that shows itself in a notebook.

    Raises:
        ValueError: there is no such exercise; the message lists those of the notebook.
    """
    exercise = exercise_of(key)
    if answer is ... or answer is None:
        return _open(exercise)
    if exercise.judge is not None:
        return _judged(exercise, exercise.judge, answer)
    truth = _truth(key)
    try:
        given = comparable(answer, truth, exercise)
    except UnfitError as error:
        if callable(answer) and callable(truth) and _unwritten(answer, exercise):
            return _open(exercise)
        return _unfit(exercise, error)
    wanted = comparable(truth, truth, exercise)
    if agree(given, wanted, exercise.tolerance):
        return _right(exercise)
    for mistake in exercise.mistakes:
        wrong = comparable(mistake.value(), truth, exercise)
        if agree(given, wrong, exercise.tolerance):
            return Verdict(key, "wrong", mistake.hint)
    said = slip(given, wanted, exercise.tolerance) or _shapes(given, wanted) or exercise.hint
    return Verdict(key, "wrong", said)


def exercise_of(key: str) -> Exercise:
    """The exercise with this key; ValueError where there is none."""
    chapter = str(key).partition(".")[0]
    if chapter not in CHAPTERS:
        raise ValueError(f"there is no exercise {key!r}: a key is as '02.3', the notebook's number first")
    exercises = exercises_of(chapter)
    if key not in exercises:
        raise ValueError(f"there is no exercise {key!r}; notebook {chapter} has {', '.join(exercises)}")
    return exercises[key]


@cache
def exercises_of(chapter: str) -> dict[str, Exercise]:
    """The exercises of one notebook ("02"), by their keys, in their order."""
    module = import_module(f"workbench.course.exercises.{CHAPTERS[chapter]}")
    return {exercise.key: exercise for exercise in module.EXERCISES}


def _judged(exercise: Exercise, judge: Callable[[Any], str | None], answer: Any) -> Verdict:
    """The verdict on an answer that is held to conditions, not to one truth."""
    try:
        wrong = judge(answer)
    except UnfitError as error:
        return _unfit(exercise, error)
    return _right(exercise) if wrong is None else Verdict(exercise.key, "wrong", wrong)


def _right(exercise: Exercise) -> Verdict:
    return Verdict(exercise.key, "right", f"right: {exercise.asks}.")


def _unfit(exercise: Exercise, error: UnfitError) -> Verdict:
    return Verdict(exercise.key, "wrong", f"asked for: {exercise.asks}; {error}.")


def _open(exercise: Exercise) -> Verdict:
    return Verdict(exercise.key, "open", f"not answered yet. Asked for: {exercise.asks}.")


@cache
def _truth(key: str) -> Any:
    return exercise_of(key).truth()


def _unwritten(answer: Any, exercise: Exercise) -> bool:
    """Whether a function still returns nothing, as in the notebook that is handed out."""
    try:
        return all(answer(*arguments) in (None, ...) for arguments in (exercise.probes or tuple)())
    except Exception:  # what it raises was told above
        return False


def _shapes(given: Any, wanted: Any) -> str:
    """What is wrong with the shape of an answer, if that is what is wrong."""
    if not isinstance(given, list):
        return ""
    for one, other in zip(given, wanted, strict=True):
        if one.shape != other.shape:
            return f"what was given is {_shape(one)}, and {_shape(other)} is expected."
    return ""


def _shape(values: Any) -> str:
    if values.ndim == 1:
        return f"a list of {len(values)} number{'s' * (len(values) != 1)}"
    return " × ".join(map(str, values.shape)) or "a single number"
