"""Ways to damage a file: anywhere in its bytes, or within its structure and made whole again around that."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

HOSTILE = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**12, -(10**12), 10**400, 0.0, -0.5, 1e-320, 1e308),
    *(float("nan"), float("inf"), float("-inf"), "", "x", "../../x", "\x00", "\ud800", "ü" * 50, "9" * 400),
    *([], {}, [[]], [0], [-1], [10**12], [1] * 100, {"a": {}}, "commit", "finetune", "refit", "main"),
)
NUMBERS = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01", b"\x10", b"\x40")
SHAPES = ("()", "(0,)", "(-1,)", "(10**12,)", f"({10**12},)", f"({10**12},0)", "(1,)*40", "None")
NUMPY_TYPES = ("|O", "<f16", "<c16", ">i8", "|V8", "|S8", "<U4", "<M8[s]", "<f8", "|b1", "x", "<f8,<i4")
DEEP = 2000  # levels of nesting; the tests try 100,000
Mutation = Callable[[bytes, random.Random], bytes]


def bytewise(content: bytes, draw: random.Random) -> bytes:
    """Bits flipped, cut, copied, cleared or overwritten by lengths that nothing has."""
    out = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        place, size = draw.randrange(len(out) + 1), draw.choice((1, 2, 4, 8, 64))
        kind = draw.randrange(7)
        if kind == 0 and place < len(out):
            out[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            out[place:] = b""
        elif kind == 2:
            out[place : place + size] = b""
        elif kind == 3:
            out[place:place] = out[draw.randrange(len(out) + 1) :][:size]
        elif kind == 4:
            out[place : place + size] = draw.choice(NUMBERS) * size
        elif kind == 5:
            out[place : place + size] = draw.randbytes(size)
        else:
            number = draw.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1))
            out[place : place + 8] = struct.pack(draw.choice("<>") + "Q", number)
    return bytes(out)


def edited(values: Any, draw: random.Random) -> Any:
    """JSON values with one of them another, gone, twice or moved."""
    places = list(_places(values))
    if not places:
        return draw.choice(HOSTILE)
    above, key = draw.choice(places)
    kind = draw.randrange(6)
    if kind <= 2:
        above[key] = draw.choice(HOSTILE)
    elif kind == 3:
        del above[key]
    elif kind == 4:
        other, place = draw.choice(places)
        above[key] = json.loads(json.dumps(other[place] if place in _keys(other) else None))
    elif isinstance(above, list):
        above[key:key] = [above[key]] * draw.choice((1, 2, 1000))
    else:
        above[draw.choice(("", "kind", "x" * 300, "__metadata__", "steps"))] = above[key]
    return values


def _keys(values: Any) -> Any:
    return values if isinstance(values, dict) else range(len(values))


def _places(values: Any) -> Any:
    waiting = [values]
    while waiting:
        above = waiting.pop()
        if isinstance(above, (dict, list)):
            for key in list(_keys(above)):
                yield above, key
                waiting.append(above[key])


def json_text(content: bytes, draw: random.Random) -> bytes:
    """A JSON text with other values, or with words that no writer of JSON writes."""
    if draw.random() < 0.3:
        return bytewise(content, draw)
    values = json.loads(content)
    for _ in range(draw.choice((1, 1, 2))):
        values = edited(values, draw) if isinstance(values, (dict, list)) else values
    text = json.dumps(values)
    kind = draw.randrange(12)
    if kind == 0 and '"' in text:
        return text.replace(": ", ": " + "[" * DEEP, 1).encode("utf-8", "surrogatepass")
    if kind == 1:
        return text.replace("{", '{"kept": 1, "kept": 2, ', draw.choice((1, 2, -1))).encode()
    return text.encode("utf-8", "surrogatepass")


def safetensors(content: bytes, draw: random.Random) -> bytes:
    """A file whose header says other things, with its length put right."""
    if draw.random() < 0.3:
        return bytewise(content, draw)
    length = int.from_bytes(content[:8], "little")
    header, numbers = content[8 : 8 + length], content[8 + length :]
    if draw.random() < 0.7:
        header = json_text(header, draw)
    else:
        numbers = bytewise(numbers, draw)
    return struct.pack("<Q", len(header)) + header + numbers


def zipped(inner: Mutation) -> Mutation:
    """A mutation of a zip: of its bytes, or of one of its files by `inner`, written anew around it."""

    def mutate(content: bytes, draw: random.Random) -> bytes:
        if draw.random() < 0.4:
            return bytewise(content, draw)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
        at = draw.randrange(len(parts))
        name, part = parts[at]
        if draw.random() < 0.85:
            parts[at] = (name, inner(part, draw))
        else:
            parts[at] = (draw.choice(("/x.png", "../x.png", "x\\y.png", "", "data.pkl", name * 3)), part)
        packing = draw.choice((zipfile.ZIP_STORED,) * 8 + (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", packing) as archive:
            for name, part in parts:
                archive.writestr(name or "x", part)
        return out.getvalue()

    return mutate


def gzipped(content: bytes, draw: random.Random) -> bytes:
    """A gzip file, or what is in it."""
    if draw.random() < 0.4:
        return bytewise(content, draw)
    return gzip.compress(headed(gzip.decompress(content), draw), 1)


def headed(content: bytes, draw: random.Random) -> bytes:
    """A file whose first bytes say what the others are: these are changed more often."""
    if draw.random() < 0.5:
        return bytewise(content, draw)
    start = 128
    return bytewise(content[:start], draw) + content[start:]


def npy(content: bytes, draw: random.Random) -> bytes:
    """An array whose header has another shape or type."""
    if draw.random() < 0.5:
        return headed(content, draw)
    size = int.from_bytes(content[8:10], "little")
    header, numbers = content[10 : 10 + size].decode("latin1"), content[10 + size :]
    shape, kind = draw.choice(SHAPES), draw.choice(NUMPY_TYPES)
    if draw.random() < 0.5:
        header = header[: header.index("(")] + shape + header[header.index(")") + 1 :]
    else:
        header = header.replace("'descr': '<f4'", f"'descr': '{kind}'")
    text = header.encode("latin1")
    return content[:8] + struct.pack("<H", len(text)) + text + numbers
