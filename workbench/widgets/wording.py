"""Errors as the page says them: an option of Python's functions is there a field of the Load card."""

from __future__ import annotations

from workbench.measure.asking import option_in, reworded
from workbench.widgets.constants import CLASSES_WORDS, METRIC_WORDS

_FIELDS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "metric": ("Score", METRIC_WORDS),
    "classes": ("Classes on", CLASSES_WORDS),
    "mask": ("Padding mask", {}),
}


def in_fields(text: str) -> str:
    """`text` of an error with “Classes on: last axis” in place of `classes='last'`."""
    return reworded(text, lambda option, value: f"“{_label(option)}: {_words(option, value)}”")


def field_for(text: str) -> str:
    """The label of the field that an error asks for; "" where it asks for none."""
    option = option_in(text)
    return _label(option) if option else ""


def _label(option: str) -> str:
    return _FIELDS[option][0]


def _words(option: str, value: str) -> str:
    return _FIELDS[option][1].get(value, (value, ""))[0]
