"""Errors as the page says them: an option of Python's functions is there a field or a button."""

from __future__ import annotations

import re

from workbench.measure.asking import option_in, reworded
from workbench.widgets.constants import CLASSES_WORDS, METRIC_WORDS

_FIELDS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "metric": ("Score", METRIC_WORDS),
    "classes": ("Classes on", CLASSES_WORDS),
    "mask": ("Padding mask", {}),
}

# Options of Python's functions → what the page calls them; a value, where one is said, follows after a colon.
OPTIONS = {
    "split": "part",
    "limit": "at most",
    "weights": "pretrained",
    "target_type": "Score",
    "distill": "the original's outputs",
    "match": "its activations",
    "refine": "refine for",
    "take_over": "Take over",
    "replace": "Replace",
    "mask": "Padding mask",
    # Of sessions that were made in Python alone, and are so said of it.
    "example_input": "example_input",
    "formats": "formats",
}
IN_PYTHON = ("example_input", "formats")
_SHOWN = {"'default'": "", "True": "", "'values'": "R²", "1": "100 %"}  # values that the field says otherwise
_OPTION = re.compile(rf"\b({'|'.join(OPTIONS)})=('[^']*'|[\d,]*\d|True|False|(?=\W|$))")

# What is asked for by a call, and where it is done on the page.
_CALLS = {
    "call session.measure() first": "press Measure on the tab Layer first",
    "call session.damage() first": "press Measure damage on the tab Budget first",
    "session.damage() measures it": "Measure damage on the tab Budget measures it",
    "call session.measure_gradients() first": "choose Taylor on the tab Layer, which measures them",
    "(Tuning(batch=…), or the batch_size of your own DataLoader), without match": (
        "(“batch”, or the batch_size of your own DataLoader), without “its activations”"
    ),
    "load_pruned opens that, and Session.save writes one": (
        "load_pruned in Python opens that, and Save on this card writes a session"
    ),
    "options such as size, mean or limit do not apply": "“size”, “mean”, “at most” and the like do not apply",
}

# Settings of fine-tuning, where a message begins with one → the field; with a colon, in front of it all.
SETTINGS = {
    "epochs": "train for: ",
    "steps": "train for: ",
    "the number of epochs": "train for: ",
    "the number of steps": "train for: ",
    "rate": "learning rate",
    "the rate": "learning rate",
    "the batch": "batch",
    "shifts": "shift: ",
    "the number of pixels": "shift: ",
    "distill": "the share of the original's outputs",
    "match": "the share of its activations",
}


def in_fields(text: str) -> str:
    """`text` of an error with “Classes on: last axis” in place of `classes='last'`, and so on."""
    text = reworded(text, lambda option, value: f"“{_label(option)}: {_words(option, value)}”")
    for call, words in _CALLS.items():
        text = text.replace(call, words)
    return _OPTION.sub(_field, text)


def of_settings(text: str) -> str:
    """`text` of an error about a setting of fine-tuning, by the name of its field."""
    for name, field in SETTINGS.items():
        if text.startswith((f"{name} must ", f"{name} is ")):
            return field + (text if field.endswith(" ") else text[len(name) :])
    return text


def field_for(text: str) -> str:
    """The label of the field that an error asks for; "" where it asks for none."""
    option = option_in(text)
    return _label(option) if option else ""


def _field(found: re.Match[str]) -> str:
    name, value = found[1], found[2]
    if name in IN_PYTHON:
        return f"{name} in Python" if not value else f"{name}={value} in Python"
    shown = _SHOWN.get(value, value.strip("'"))
    return f"“{OPTIONS[name]}: {shown}”" if shown else f"“{OPTIONS[name]}”"


def _label(option: str) -> str:
    return _FIELDS[option][0]


def _words(option: str, value: str) -> str:
    return _FIELDS[option][1].get(value, (value, ""))[0]
