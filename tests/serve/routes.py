"""A concrete path for each route of a tornado application: what its regular expression can match."""

import re
import re._parser as regex

ANYTHING = {regex.ANY, regex.NOT_LITERAL}


def path_of(pattern: str, filler: str) -> str:
    """A path that `pattern` matches, with `filler` wherever it takes any name."""
    path = _text(regex.parse(pattern), filler)
    assert re.match(pattern, path), f"{path} is no path of {pattern}"
    return path


def _text(parts, filler: str) -> str:
    return "".join(_one(*part, filler) for part in parts)


def _one(kind, value, filler: str) -> str:
    if kind is regex.LITERAL:
        return chr(value)
    if kind in {regex.MAX_REPEAT, regex.MIN_REPEAT}:
        least, most, item = value
        if _takes_any_name(item):
            return filler if filler or not least else "x"
        return _text(item, filler) * max(least, min(most, 1))
    if kind is regex.SUBPATTERN:
        return _text(value[-1], filler)
    if kind is regex.BRANCH:
        return _text(value[1][0], filler)
    if kind is regex.IN:
        kinds = {one for one, _ in value}
        return chr(value[0][1]) if kinds == {regex.LITERAL} else "a"
    return "a" if kind in ANYTHING else ""


def _takes_any_name(item) -> bool:
    if len(item) != 1:
        return False
    kind, value = item[0]
    return kind in ANYTHING or (kind is regex.IN and value[0][0] is regex.NEGATE)
