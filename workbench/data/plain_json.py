"""JSON of somebody else's: size, depth and numbers are bounded, no key comes twice, a fault has a place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.data.bounds import FileError, read_bytes

LARGEST_JSON = 64 << 20  # bytes
MOST_VALUES = 4_000_000
DEEPEST = 64  # lists and objects within each other
LARGEST_WHOLE = 1 << 64  # of whole numbers, either sign
SHOWN = 24  # characters of a number that an error quotes
_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|([\[{])|[\]}]', re.S)
_HALF_OF_A_PAIR = re.compile(r"[\ud800-\udfff]")


class _Fault:
    """Stands for a value that is refused, until its place is found."""

    def __init__(self, words: str):
        self.words = words


def read_json(path: Path, within: Path | None = None) -> Any:
    """What a JSON file holds.

    Args:
        path: of the file.
        within: as for `check_file`.

    Returns:
        Its values.

    Raises:
        FileError: it is no JSON, or not within the bounds; the message names the file and the place in it.
        FileNotFoundError, OSError: there is none, or it cannot be read.
    """
    return parsed(read_bytes(path, LARGEST_JSON, within), str(path))


def parsed(content: bytes | str, where: str) -> Any:
    """The values of JSON text.

    Args:
        content: the text.
        where: what it is, for messages.

    Returns:
        Its values; whole numbers have 64 bits at most, floating ones are no NaN.

    Raises:
        FileError: it is no JSON, nested deeper than 64 levels, has more than 4,000,000 values, a key twice in
            one object, NaN, a number without end, or half a character; with its place, as `$.steps[3].lam`.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        raise FileError(f"{where} is not a whole JSON file ({error}); it may be truncated") from error
    _check_size(text, where)
    faults: list[_Fault] = []

    def fault(words: str) -> _Fault:
        faults.append(_Fault(words))
        return faults[-1]

    def paired(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for index, name in enumerate(names) if name in names[:index])
            found[twice] = fault("is there twice")
        return found

    def whole(digits: str) -> Any:
        if len(digits) > SHOWN or not -LARGEST_WHOLE < int(digits) < LARGEST_WHOLE:
            return fault(f"is a number of {len(digits.lstrip('-'))} digits, {digits[:SHOWN]}…")
        return int(digits)

    def floating(digits: str) -> Any:
        number = float(digits)
        return fault(f"is a number out of range, {digits[:SHOWN]}") if abs(number) == float("inf") else number

    def constant(name: str) -> Any:
        return fault("is NaN, not a number") if name == "NaN" else float(name)

    try:
        found = json.loads(
            text, object_pairs_hook=paired, parse_int=whole, parse_float=floating, parse_constant=constant
        )
    except (ValueError, RecursionError) as error:
        raise FileError(f"{where} is not a whole JSON file ({error}); it may be truncated") from error
    if faults or "\\ud" in text or "\\uD" in text:
        for place, words in _faults(found):
            raise FileError(f"{where} is damaged: {place} {words}")
    return found


def _check_size(text: str, where: str) -> None:
    opened = text.count("[") + text.count("{")
    if opened + text.count(",") > MOST_VALUES or len(text) > LARGEST_JSON:
        raise FileError(f"{where} has more than {MOST_VALUES:,} values: it is none of this workbench's files")
    if opened <= DEEPEST:
        return
    depth = 0
    for found in _BRACKETS.finditer(text):
        if found[0][0] != '"':
            depth += 1 if found[1] else -1
        if depth > DEEPEST:
            line = text.count("\n", 0, found.start()) + 1
            raise FileError(
                f"{where} is nested more than {DEEPEST} levels deep, in line {line}: it is damaged, or none "
                "of this workbench's files"
            )


def _faults(values: Any) -> Iterator[tuple[str, str]]:
    """Places and words of what is refused, in the order of the file."""
    waiting = [("$", values)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, _Fault):
            yield place, value.words
        elif isinstance(value, str) and _HALF_OF_A_PAIR.search(value):
            yield place, "has half a character"
        elif isinstance(value, dict):
            for name in value:
                if _HALF_OF_A_PAIR.search(name):
                    yield place, "has half a character in a name"
            waiting += [(f"{place}.{name}", one) for name, one in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(f"{place}[{index}]", value[index]) for index in reversed(range(len(value)))]
