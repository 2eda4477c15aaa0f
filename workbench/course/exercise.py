"""An exercise: what is asked, how its truth is computed, and the mistakes that people make.

Nothing is stored: truth and mistakes are computed when an answer is checked, from the same data and with the
same package, so that a check cannot be out of step with what the notebook shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Compute = Callable[[], Any]


@dataclass(frozen=True)
class Mistake:
    """A wrong way to an answer: `value()` is what it gives, `hint` names it without giving the answer."""

    value: Compute
    hint: str


@dataclass(frozen=True)
class Exercise:
    """One question of a notebook.

    Attributes:
        key: as "02.3", the notebook's number and the question's.
        asks: what the answer is, in a few words, with its unit.
        truth: computes the right answer: a number, a sequence or an array of numbers, a set of indices, a
            text that names a choice, True or False, or a function.
        mistakes: typical ones; an answer that agrees with one gets its hint.
        hint: for an answer that agrees with none.
        probes: for a function, the arguments it is tried on, a tuple a call.
        tolerance: how far a number may be off, as a share of the largest one of the truth.
        judge: for a question with many right answers: given an answer, the hint where it is wrong, None
            where it is right; raises UnfitError for one of another form. `truth` then computes one of the
            right answers, and what the mistakes give gets their hints from the judge.
    """

    key: str
    asks: str
    truth: Compute
    mistakes: tuple[Mistake, ...]
    hint: str
    probes: Callable[[], Sequence[tuple]] | None = None
    tolerance: float = 1e-3
    judge: Callable[[Any], str | None] | None = None


class UnfitError(ValueError):
    """An answer that cannot be compared with what is asked; the message says why."""


def comparable(answer: Any, truth: Any, exercise: Exercise) -> Any:
    """An answer in the form in which it is compared with the truth.

    Args:
        answer: as it was given.
        truth: the exercise's, which says what form is meant.
        exercise: for its probes.

    Returns:
        A set of whole numbers, a text, or a list of float64 arrays (one, or one a probe).

    Raises:
        UnfitError: it is of another form.
    """
    if callable(truth):
        return _called(answer, exercise)
    if isinstance(truth, set | frozenset):
        return _indices(answer)
    if isinstance(truth, str):
        if not isinstance(answer, str):
            raise UnfitError(f"a word in quotes is expected, and {_named(answer)} was given")
        return answer.strip().lower()
    return [_numbers(answer)]


def agree(first: Any, second: Any, tolerance: float) -> bool:
    """Whether two comparable answers are the same, numbers within `tolerance` of the largest of `second`."""
    if not isinstance(first, list):
        return first == second
    return all(_close(one, other, tolerance) for one, other in zip(first, second, strict=True))


def _close(given: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    if given.shape != wanted.shape:
        return False
    scale = np.abs(wanted).max(initial=0.0) or 1.0
    return bool(np.abs(given - wanted).max(initial=0.0) <= tolerance * scale)


def _called(answer: Any, exercise: Exercise) -> list[np.ndarray]:
    if not callable(answer):
        raise UnfitError(f"a function is expected, and {_named(answer)} was given")
    values = []
    for arguments in exercise.probes() if exercise.probes else ():
        try:
            own = deepcopy(arguments)  # probes may share arrays, and the function may change what it gets
            values.append(_numbers(answer(*own)))
        except UnfitError as error:
            raise UnfitError(f"what the function returns: {error}") from None
        except Exception as error:  # a student's code may raise whatever it likes
            said = f"{type(error).__name__}: {error}"
            told = " and ".join(map(_kind, arguments))
            raise UnfitError(f"the function raised {said}; it was given {told}: try that yourself") from None
    return values


def _indices(answer: Any) -> frozenset[int]:
    values = _numbers(list(answer) if isinstance(answer, set | frozenset) else answer)
    if values.ndim != 1 or (values != np.round(values)).any():
        raise UnfitError(f"a list of whole numbers is expected, and {_named(answer)} was given")
    if len(set(values.tolist())) < len(values):
        raise UnfitError("an index stands twice in the answer")
    return frozenset(int(value) for value in values)


def _numbers(answer: Any) -> np.ndarray:
    try:
        values = np.asarray(_plain(answer))
        if not np.iscomplexobj(values):
            values = values.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise UnfitError(f"numbers are expected, and {_named(answer)} was given") from None
    if not np.isfinite(values).all():
        raise UnfitError("it holds NaN or infinity: look for a division by zero or a logarithm of zero")
    if np.abs(values.imag).max(initial=0.0) > 0:
        raise UnfitError("it holds complex numbers, and real ones are expected")
    return values.real.astype(np.float64)


def _plain(answer: Any) -> Any:
    """What numpy can read: tensors, also those inside of lists, become arrays."""
    if isinstance(answer, torch.Tensor):
        wide = torch.complex128 if answer.is_complex() else torch.float64
        return answer.detach().to("cpu", wide).to_dense().numpy()
    if isinstance(answer, Mapping):
        return [_plain(value) for value in answer.values()]
    if isinstance(answer, list | tuple):
        return [_plain(value) for value in answer]
    return answer


def _kind(argument: Any) -> str:
    """What an argument is, in words, so that a failing call can be tried again."""
    if isinstance(argument, np.ndarray):
        return f"an array of shape {argument.shape}"
    if isinstance(argument, list):
        return f"a list of {len(argument)}"
    return f"the number {argument:.4g}"


def _named(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
