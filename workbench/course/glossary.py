"""The words of the field, said once: for the notebooks, and for the screen's ?.

The words themselves stand in glossary.toml.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("glossary.toml")


@dataclass(frozen=True)
class Term:
    """One word of the field; the last line of a cell shows it, formula and all.

    Attributes:
        name: as it is looked up.
        what: it is, in at most two sentences.
        formula: in plain text.
        latex: the same, for print.
        good: which way is good.
        source: where it comes from.
        also: other words and symbols for it.
        code: names of the package that compute or hold it.
    """

    name: str
    what: str
    formula: str
    latex: str
    good: str
    source: str
    also: tuple[str, ...] = ()
    code: tuple[str, ...] = ()

    def _repr_markdown_(self) -> str:
        also = f" ({', '.join(self.also)})" if self.also else ""
        code = ", ".join(f"`{name}`" for name in self.code)
        return (
            f"**{self.name}**{also}: {self.what}\n\n$${self.latex}$$\n\n"
            f"*Which way is good:* {self.good} *In code:* {code}. *Source:* {self.source}"
        )

    def __str__(self) -> str:
        return f"{self.name}: {self.what} {self.formula}. {self.good} Source: {self.source}"


@cache
def glossary() -> dict[str, Term]:
    """Every term.

    Returns:
        The terms by name, in the order of the file.
    """
    with FILE.open("rb") as file:
        rows = tomllib.load(file)["term"]
    terms = [Term(**row | {key: tuple(row.get(key, ())) for key in ("also", "code")}) for row in rows]
    return {term.name: term for term in terms}


def term(name: str) -> Term:
    """The term called `name`, also by another word or symbol for it: "N(λ)", "Â", "theta".

    Args:
        name: capitals do not count, unless two terms differ by them alone.

    Returns:
        The term.

    Raises:
        ValueError: no term is called so; the nearest names are said.
    """
    words = _words()
    wanted = " ".join(str(name).split())
    found = words.get(wanted) or words.get(wanted.casefold())
    if found is None:
        near = difflib.get_close_matches(wanted.casefold(), words, n=3, cutoff=0.5)
        nearest = dict.fromkeys(words[one].name for one in near) or glossary()
        raise ValueError(
            f"the glossary has no {name!r}; {'near it' if near else 'it has'}: {', '.join(nearest)}"
        )
    return found


@dataclass(frozen=True)
class Words:
    """Several terms, one below the other; the last line of a cell shows them."""

    terms: tuple[Term, ...]

    def _repr_markdown_(self) -> str:
        lines = [f"- **{one.name}**: {one.what} ${one.latex}$ *Good:* {one.good}" for one in self.terms]
        return "\n\n".join(lines)

    def __repr__(self) -> str:
        return "\n".join(map(str, self.terms))


def words(*names: str) -> Words:
    """The terms called `names`, to be shown together at the end of a lesson.

    Args:
        names: as `term` takes them.

    Returns:
        The terms, in the order given.

    Raises:
        ValueError: no term is called so; the nearest names are said.
    """
    return Words(tuple(term(name) for name in names))


def page_glossary() -> dict[str, dict[str, str]]:
    """The glossary as the screen takes it.

    Returns:
        name → what, formula, good and source, texts.
    """
    shown = ("what", "formula", "good", "source")
    return {one.name: {key: getattr(one, key) for key in shown} for one in glossary().values()}


@cache
def _words() -> dict[str, Term]:
    """Every word and symbol → its term; in lower case too, where no other term has that."""
    exact = {word: one for one in glossary().values() for word in (one.name, *one.also)}
    return {word.casefold(): one for word, one in exact.items()} | exact
