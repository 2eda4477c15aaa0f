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
    assert "an array of shape (3,) and the number 0.5" in check("02.1", failing).text
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


@pytest.mark.parametrize(
    "odd",
    [
        {1, "a"},
        {3, None},
        {3, ...},
        10**400,
        [8, ...],
        [[1, 2], [3]],
        torch.tensor([8 + 1j, 2]),
        np.array([8 + 1j, 2]),
        torch.zeros(2, 2).to_sparse(),
    ],
    ids=lambda odd: type(odd).__name__,
)
@pytest.mark.parametrize("key", ["01.1", "01.3", "02.2", "03.2", "06.1", "07.3", "07.4"])
def test_an_odd_answer_is_told_in_words(key, odd):
    verdict = check(key, odd)
    assert verdict.state == "wrong"
    assert verdict.text


def test_numbers_of_any_library_are_taken():
    for right in (
        torch.tensor([8, 4 / 3], requires_grad=True),
        [torch.tensor(8.0, requires_grad=True), np.float32(4 / 3)],
        np.array([8, 4 / 3], dtype=complex),
        torch.tensor([8, 4 / 3], dtype=torch.complex64),
        {"first": 8, "second": 4 / 3},
    ):
        assert check("01.1", right)
    assert check("02.2", torch.tensor(0.3).bfloat16()).state == "wrong"  # too coarse, and no failure
    assert check("03.2", {torch.tensor(1), np.int64(3)})


def test_slips_that_belong_to_no_exercise_are_named():
    assert "order" in check("01.1", [4 / 3, 8]).text
    assert "sign" in check("02.2", -0.3).text
    assert "per cent" in check("07.1", 100 * exercises_of("07")["07.1"].truth()).text
    share = exercises_of("05")["05.4"].truth()
    assert "per cent" in check("05.4", lambda before, after: 100 * share(before, after)).text
    twins = exercises_of("01")["01.3"].truth()
    assert "from 0" in check("01.3", {unit + 1 for unit in twins}).text
    assert "per cent" not in check("04.3", 100 * exercises_of("04")["04.3"].truth()).text


def test_a_shape_is_told_so_that_it_cannot_be_taken_for_the_answer():
    assert "a list of 3 numbers is expected" in check("06.1", (1, 2)).text
    assert "2 × 1" in check("01.1", [[8], [4 / 3]]).text


def test_a_function_may_change_what_it_is_given():
    def widths(spectra, share):
        found = []
        for mu in spectra:
            lam = share * mu.sum()
            mu /= mu + lam  # in place
            found.append(int(np.ceil(mu.sum())))
        return found

    assert check("07.2", widths)


@pytest.mark.parametrize("key", ["05.3", "06.1", "06.3", "06.4", "08.1", "08.3", "08.4"])
def test_a_count_is_exact(key):
    truth = np.array(exercises_of(key[:2])[key].truth())
    assert check(key, truth)
    for entry in range(truth.size):
        off = truth.copy()
        off.flat[entry] += 1
        assert check(key, off).state == "wrong"
