"""The glossary: complete, short, and true to the names of the package."""

import json
import re
from importlib import import_module

import pytest
from matplotlib.mathtext import MathTextParser

import workbench
from workbench.course.glossary import glossary, page_glossary, term, words
from workbench.pruning.budget import RULES
from workbench.pruning.choice import RECONSTRUCTIONS
from workbench.spectral.selection import SELECTIONS

NAMES = list(glossary())
ASKED = (
    "moment, spectrum, eigenvalue, degrees of freedom, lambda, leverage, ridge, width, guaranteed width, "
    "reader, writer, group, kept, input loss, output loss, combined loss, theta, stale, MACs, score, Taylor, "
    "APoZ, magnitude, shared lambda, equal, least loss per cost, matched fine-tuning, bias, variance, "
    "effective rank, stable rank"
)


@pytest.mark.parametrize("name", NAMES)
def test_a_term_is_short_whole_and_printable(name):
    one = glossary()[name]
    assert all(getattr(one, key).strip() for key in ("what", "formula", "latex", "good", "source"))
    assert len(re.findall(r"[.!?](?=\s|$)", one.what)) <= 2, one.what
    assert one.what.endswith(".")
    MathTextParser("path").parse(f"${one.latex}$")  # raises where it is no formula
    assert one.latex in one._repr_markdown_()


def found(dotted):
    """What `dotted` names: from the public names, or from a module of the package."""
    path, _, last = dotted.rpartition(".")
    if not path:
        return getattr(workbench, last)
    home = getattr(workbench, path) if path in workbench.__all__ else import_module(f"workbench.{path}")
    fields = getattr(home, "__dataclass_fields__", {})
    return fields.get(last) or getattr(home, last)


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_the_code_are_there(name):
    assert glossary()[name].code
    for dotted in glossary()[name].code:
        assert found(dotted) is not None


def test_no_word_means_two_things():
    words = [word for one in glossary().values() for word in (one.name, *one.also)]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("word", [*ASKED.split(", "), *SELECTIONS, *RECONSTRUCTIONS, *RULES])
def test_every_word_of_code_and_screen_is_explained(word):
    if word != "none":
        assert term(word).what


def test_a_term_is_found_by_its_symbol_and_whatever_the_capitals():
    assert term("N(λ)") is term("degrees of freedom") is term(" Degrees  of Freedom ")
    assert term("N").name == "degrees of freedom"
    assert term("m♯").name == "width"
    assert "0.3" in str(term("θ"))


def test_a_word_that_is_not_there_is_told_with_the_nearest():
    with pytest.raises(ValueError, match="effective rank"):
        term("efective rank")
    with pytest.raises(ValueError, match="moment"):
        term("qqqqqq")


def test_the_screen_gets_texts():
    page = json.loads(json.dumps(page_glossary()))
    assert list(page) == NAMES
    assert page["leverage"]["formula"].startswith("τ'ⱼ(λ)")
    assert all(set(one) == {"what", "formula", "good", "source"} for one in page.values())


def test_words_stand_together_and_an_unknown_one_is_told():
    shown = words("N(λ)", "ridge")
    assert [one.name for one in shown.terms] == ["degrees of freedom", "ridge"]
    text = shown._repr_markdown_()
    assert all(one.what in text and one.latex in text and one.what in repr(shown) for one in shown.terms)
    with pytest.raises(ValueError, match="the glossary has no 'rigde'; near it: "):
        words("ridge", "rigde")
