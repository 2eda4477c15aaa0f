"""NumPy's files: what their headers say is held against their bytes before anything is unpacked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from workbench.data.bounds import FileError, check_unpacked

LARGEST_ARRAY = 4 << 30  # bytes of one array of an .npz
MOST_ARRAYS = 10_000  # in an .npz
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that NumPy writes
_ENCRYPTED = 1
_VERSIONS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class ObjectsError(FileError):
    """What should be an array of numbers is none."""


class KeysError(FileError):
    """The arrays of an .npz are not the expected ones."""


def map_array(path: Path) -> np.ndarray:
    """The array of an `.npy` file, left on disc until it is used.

    Raises FileError, ValueError where it is not whole or holds objects.
    """
    with path.open("rb") as file:
        shape, dtype = _header(file)
        wanted = file.tell() + _bytes(shape, dtype)
    size = path.stat().st_size
    if size < wanted:
        raise FileError(f"it has {size:,} bytes, but its header {shape} of {dtype} asks for {wanted:,}")
    if 0 in shape:
        return np.empty(shape, dtype)  # there is nothing to map
    return npy.open_memmap(path, mode="r")


def read_arrays(
    path: Path, choose: Callable[[list[str]], tuple[str, str | None]]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Two arrays of an `.npz` file; `choose` names them, of all names: inputs, and targets or None.

    Raises FileError, ValueError, and whatever zipfile does, where they are not whole, hold objects, or would
    unpack to more than 4 GiB each, or to far more than real numbers do.
    """
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        if len(entries) > MOST_ARRAYS:
            raise FileError(f"it has {len(entries):,} arrays; the limit is {MOST_ARRAYS:,}")
        if len(entries) < len(archive.infolist()):
            raise FileError("it has two arrays of one name")
        inputs, targets = choose(list(entries))
        for name in (inputs, targets):
            if name is not None:
                _check_entry(archive, entries[name])
        found = [None if name is None else _read(archive, entries[name]) for name in (inputs, targets)]
    assert found[0] is not None
    return found[0], found[1]


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """What an entry says of itself, before it is unpacked."""
    where = f"its array {entry.filename!r}"
    if entry.compress_type not in _PACKINGS or entry.flag_bits & _ENCRYPTED:
        raise FileError(f"{where} is encrypted, or packed in a way that NumPy does not write")
    check_unpacked(where, entry.file_size, entry.compress_size, LARGEST_ARRAY)
    with archive.open(entry) as file:
        shape, dtype = _header(file)
        wanted = file.tell() + _bytes(shape, dtype)
    if wanted != entry.file_size:
        raise FileError(
            f"{where} has {entry.file_size:,} bytes, but its header {shape} of {dtype} asks for {wanted:,}"
        )


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(entry) as file:
        return npy.read_array(file, allow_pickle=False)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array, of which the file is at the beginning."""
    try:
        version = npy.read_magic(file)
    except ValueError as error:
        raise ObjectsError(str(error)) from error
    if version not in _VERSIONS:
        raise FileError(f"its version {version} is not one of arrays of numbers")
    shape, _, dtype = _VERSIONS[version](file)
    if dtype.hasobject:
        raise ObjectsError(f"its numbers are of {dtype}")
    if any(size < 0 for size in shape):
        raise FileError(f"its shape {shape} is negative")
    return shape, dtype


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape) * dtype.itemsize
