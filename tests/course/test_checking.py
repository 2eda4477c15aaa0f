"""Exercises: the truth passes, every typical mistake gets its own hint, anything else is told in words."""

import numpy as np
import pytest
import torch

from workbench.course import check
from workbench.course.checking import CHAPTERS, exercises_of
from workbench.course.exercise import comparable

EVERY = [exercise for chapter in CHAPTERS for exercise in exercises_of(chapter).values()]


def key_of(exercise):
    return exercise.key


@pytest.mark.parametrize("exercise", EVERY, ids=key_of)
def test_the_truth_passes_and_each_mistake_gets_its_hint(exercise):
    truth = exercise.truth()
    verdict = check(exercise.key, truth)
    assert verdict.right, verdict
    verdict.verify()
    assert len(exercise.mistakes) >= 3
    assert len({mistake.hint for mistake in exercise.mistakes}) == len(exercise.mistakes)
    for mistake in exercise.mistakes:
        verdict = check(exercise.key, mistake.value())
        assert (verdict.state, verdict.text) == ("wrong", mistake.hint)
        with pytest.raises(AssertionError):
            verdict.verify()


@pytest.mark.parametrize("exercise", EVERY, ids=key_of)
def test_what_is_no_answer_is_told(exercise):
    assert check(exercise.key, ...).state == check(exercise.key, None).state == "open"
    assert exercise.asks in check(exercise.key, ...).text
    for odd in (object(), [float("nan")], {"a": "b"}, "a sentence"):
        verdict = check(exercise.key, odd)
        assert verdict.state == "wrong"
        assert verdict.text


@pytest.mark.parametrize("exercise", EVERY, ids=key_of)
def test_the_hint_does_not_give_the_answer_away(exercise):
    truth = exercise.truth()
    if isinstance(truth, int | float) and not isinstance(truth, bool) and truth not in range(11):
        for mistake in exercise.mistakes:
            assert f"{truth:.3g}" not in mistake.hint


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_keys_are_the_notebooks_and_in_order(chapter):
    keys = list(exercises_of(chapter))
    assert keys == [f"{chapter}.{number}" for number in range(1, len(keys) + 1)]


def test_an_answer_may_have_any_form_of_the_same_numbers():
    mu, lam = np.array([3.0, 1.0, 0.1]), 0.5
    exercise = exercises_of("02")["02.1"]

    def right(mu, lam):
        return torch.tensor(mu / (mu + lam)).sum()

    assert check("02.1", right)
    assert comparable(right, right, exercise)[0] == pytest.approx((mu / (mu + lam)).sum())


def test_a_function_that_raises_or_is_not_written_yet():
    def failing(mu, lam):
        raise KeyError("mu")

    assert "KeyError" in check("02.1", failing).text
    for unwritten in (lambda mu, lam: ..., lambda mu, lam: None):
        assert check("02.1", unwritten) == check("02.1", ...)
    assert "single number" in check("02.1", lambda mu, lam: mu).text


def test_a_key_that_is_none_is_told():
    with pytest.raises(ValueError, match=r"notebook 02 has 02\.1"):
        check("02.99", 1)
    with pytest.raises(ValueError, match=r"a key is as '02\.3'"):
        check("two", 1)


def test_a_verdict_shows_itself_without_markup_of_the_answer():
    verdict = check("02.1", "<script>alert(1)</script>")
    assert "<script>" not in verdict._repr_html_()
    assert repr(verdict).startswith("✗ 02.1")
