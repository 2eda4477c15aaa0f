"""Arrays as text in a page: their kind, and their bytes in base 64."""

from __future__ import annotations

import base64

import numpy as np

KINDS = {"f8": "<f8", "f4": "<f4", "u2": "<u2"}  # as the page's stillstate.js reads them


def packed(values: np.ndarray | list, kind: str) -> str:
    """`values` as "f8:…", little-endian whatever the machine.

    Args:
        values: (n,) numbers.
        kind: one of `KINDS`: float64, float32, or whole numbers under 65,536.

    Returns:
        The text; an empty array is the kind with nothing behind it.

    Raises:
        ValueError: whole numbers that two bytes do not hold.
    """
    array = np.asarray(values)
    if kind == "u2" and array.size and (array.min() < 0 or array.max() >= 1 << 16):
        raise ValueError(f"a page takes groups of up to 65,536 units; got unit {int(array.max())}")
    return f"{kind}:{base64.b64encode(array.astype(KINDS[kind]).tobytes()).decode('ascii')}"


def unpacked(text: str) -> np.ndarray:
    """What `packed` has made of an array; for those who read a page in Python."""
    return np.frombuffer(base64.b64decode(text[3:]), dtype=KINDS[text[:2]])
