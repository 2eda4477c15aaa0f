"""How a caller says how targets are read, where that is not as it seems or not clear.

Free of torch, since the command line offers the same names before anything is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# Every name that a score has on the screen; "accuracy" stands for the two that follow as well.
METRICS = ("accuracy", "token accuracy", "pixel accuracy", "label accuracy", "R²")
COUNTED = METRICS[:3]  # right answers among classes, or of yes and no
CLASSES = {"last": -1, "second": 1}  # where the classes lie among the axes of the outputs

NO_MASK = "none"  # as a person writes that every position counts

_OPTION = re.compile(r"\b(metric|classes|mask)=(?:'([^']*)'|(False)\b)")


class AmbiguousError(ValueError):
    """The targets can be read in two ways, and the caller must say in which.

    `readings` are the two in words; the whole message asks for the option of Python that tells them apart.
    """

    def __init__(self, readings: str, options: str) -> None:
        super().__init__(f"{readings}: say which with {options}")
        self.readings, self.options = readings, options

    def __reduce__(self) -> tuple[type[AmbiguousError], tuple[str, str]]:
        return type(self), (self.readings, self.options)  # a process that gets it could not make it otherwise


def check_asked(metric: str | None, classes: str | None) -> None:
    """Raise ValueError for a name that is none of `METRICS` or `CLASSES`; None is every reading's own."""
    if metric is not None and metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}; got {metric!r}")
    if classes is not None and classes not in CLASSES:
        raise ValueError(
            f"classes must be 'last' or 'second', the axis of the outputs where they lie; got {classes!r}"
        )


def mask_of(text: str) -> str | bool:
    """`mask` of Session as a person writes it: an argument's name, or False for `NO_MASK`."""
    return False if text == NO_MASK else text


def option_in(text: str) -> str:
    """The option, "metric", "classes" or "mask", that an error asks for first; "" where it asks for none."""
    found = _OPTION.search(text)
    return found[1] if found else ""


def reworded(text: str, say: Callable[[str, str], str]) -> str:
    """`text` of an error with Python's metric=, classes= and mask= as `say(option, value)` has them."""
    return _OPTION.sub(lambda found: say(found[1], found[2] if found[3] is None else NO_MASK), text)
