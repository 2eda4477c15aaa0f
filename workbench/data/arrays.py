"""Files of numbers: NumPy's .npy and .npz, and IDX. Objects in them are refused, and never built."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.data.bounds import FileError, check_file, check_unpacked, is_of_system
from workbench.data.numpy_files import KeysError, ObjectsError, map_array, read_arrays
from workbench.network.running import one_line

LARGEST_IDX = 4 << 30  # bytes, unpacked: a small file can claim to hold any number

INPUT_KEYS = ("x", "inputs", "input", "images", "image", "data", "features", "arr_0")
TARGET_KEYS = ("y", "targets", "target", "labels", "label", "arr_1")
IDX_AXES_AT = 3  # the byte of the magic number that says how many axes there are

Pair = tuple[Any, Any]  # inputs, and targets or None


def read_numpy(path: Path, split: str | None = None) -> Pair:
    """The arrays of an `.npy` (inputs alone, left on disc until used) or `.npz` file.

    In an `.npz`: one array is the inputs; of several, 'x' (or inputs, images, data, features) and 'y' (or
    targets, labels), in any case, with `split` before or after them: 'x_train', 'test_labels'.

    Raises:
        FileNotFoundError: there is none.
        FileError: the file is damaged, its arrays have no such names, hold objects, or would unpack to more
            than they should (`numpy_files`).
    """
    check_file(path)
    try:
        if path.suffix.lower() == ".npy":
            return map_array(path), None
        return read_arrays(path, lambda names: _chosen(path, names, split))
    except KeysError:
        raise
    except ObjectsError as error:
        raise FileError(
            f"{path} holds Python objects or is no NumPy file, and was refused: nothing in it was run. Save "
            f"arrays of numbers, of one shape each ({one_line(error)})"
        ) from error
    except Exception as error:  # a damaged file can fail in any way at all
        if is_of_system(error):
            raise
        words = one_line(error) or type(error).__name__
        raise FileError(f"{path} is not a whole NumPy file: {words}. It may be truncated") from error


def _chosen(path: Path, keys: list[str], split: str | None) -> tuple[str, str | None]:
    inputs, targets = _matching(keys, INPUT_KEYS, split), _matching(keys, TARGET_KEYS, split)
    if split is None and not inputs and len(keys) == 1:
        inputs = keys
    if len(inputs) == 1 and len(targets) <= 1:
        return inputs[0], targets[0] if targets else None
    ending = "" if split is None else f" with {split!r} before or after, as in x_{split}"
    splits = split is None and any(_matching(keys, INPUT_KEYS, part) for part in ("train", "test", "val"))
    raise KeysError(
        f"{path} has the arrays {', '.join(keys) or 'none'}: expected one of {', '.join(INPUT_KEYS[:-1])} "
        f"and at most one of {', '.join(TARGET_KEYS[:-1])}{ending}"
        + ("; choose its part with split=" if splits else "")
    )


def _matching(keys: list[str], wanted: tuple[str, ...], split: str | None) -> list[str]:
    if split is not None:
        wanted = tuple(name for key in wanted for name in (f"{key}_{split}", f"{split}_{key}"))
    return [key for key in keys if key.lower() in wanted]


def is_idx(path: Path) -> bool:
    """Whether the file's name, or its first bytes, are those of an IDX file."""
    check_file(path)
    if any(word in path.name for word in ("idx1", "idx2", "idx3", "idx4")):
        return True
    with path.open("rb") as file:
        head = file.read(4)
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in range(8, 15) and 0 < head[3] < 5


def read_idx_pair(path: Path, labels: bool = True) -> Pair:
    """The images of an IDX file, (n, height, width) uint8, and the labels (n,) of the file beside it, if any.

    The file beside is the one whose name has 'labels' for 'images' and 'idx1' for 'idx3', plain or `.gz`.

    Raises FileError for a damaged file, or one of labels.
    """
    axes = _idx_axes(path)
    if axes == 1:
        raise FileError(
            f"{path} holds one number an example: give the file of images, labels are found by it"
        )
    beside = _labels_beside(path) if labels else None
    return read_idx(path, axes), None if beside is None else read_idx(beside, 1)


def find_idx(folder: Path, split: str | None = None) -> Path | None:
    """The IDX file of images in `folder`, of the split 'train' or 'test' where several are there.

    torchvision's layouts are known: the files may lie in `raw` or `MNIST/raw` below.
    """
    places = [folder, folder / "raw", folder / "MNIST" / "raw"]
    files = [sorted(place.glob("*images*idx3*")) for place in places]
    found: list[Path] = next(filter(None, files), [])
    plain = {path.name.removesuffix(".gz"): path for path in reversed(found)}
    starts = {"train": ("train",), "test": ("t10k", "test")}.get(split or "", (split or "",))
    chosen = [path for name, path in sorted(plain.items()) if name.startswith(starts)]
    if found and len(chosen) != 1:
        raise FileError(
            f"{folder} has the IDX files {', '.join(sorted(plain))}: give one of them, or split='train' or "
            "'test'"
        )
    return chosen[0] if chosen else None


def _idx_axes(path: Path) -> int:
    head = _start_of(path, 4)
    return head[IDX_AXES_AT] if len(head) == 4 and 0 < head[IDX_AXES_AT] < 5 else 3


def _labels_beside(path: Path) -> Path | None:
    if "images" not in path.name:
        return None
    name = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    return next((p for p in (path.with_name(name), path.with_name(f"{name}.gz")) if p.is_file()), None)


def as_tensor(value: Any, what: str, narrow: bool = True) -> Tensor:
    """An array, a sequence of numbers or a tensor as a detached tensor.

    `narrow`: float64 of NumPy becomes float32; else it stays.

    Raises ValueError for what holds no plain numbers.
    """
    if isinstance(value, Tensor):
        if value.is_meta or value.layout != torch.strided:
            fault = "lies on the 'meta' device and holds no numbers" if value.is_meta else "is sparse"
            raise ValueError(f"the {what} tensor {fault}: give a plain tensor of data")
        return value.detach()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"the {what} cannot become one array: {one_line(error)}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"the {what} array holds {array.dtype}, expected numbers")
    kind: np.dtype[Any]
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        kind = np.dtype(np.float32 if narrow else np.float64)  # torch knows no longer ones
    elif array.dtype.kind == "u" and array.dtype.itemsize > 1:
        kind = np.dtype(np.int64)  # torch does little with its unsigned types
    else:
        kind = array.dtype.newbyteorder("=")
    # What is read from disc cannot be written to, which torch does not take.
    return torch.from_numpy(np.require(array, kind, ["C_CONTIGUOUS", "WRITEABLE", "ALIGNED"]))


def pair_of(source: Any) -> Pair | None:
    """(inputs, targets) where `source` is arrays or tensors; None where it is something else."""
    if _is_array(source):
        return source, None
    if isinstance(source, tuple) and len(source) == 2 and all(map(_is_array, source)):
        return source[0], source[1]
    return None


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray))


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes of an IDX file, plain or gzipped (by the name's ending).

    Returns a uint8 array with `dimensions` axes: 3 for images (n, height, width), 1 for labels (n,).

    Raises:
        FileNotFoundError: there is none.
        FileError: another magic number, more or fewer bytes than the header announces, or more than may be
            unpacked, which is told before anything is.
    """
    start = 4 + 4 * dimensions
    head = _start_of(path, start)
    magic = bytes((0, 0, 8, dimensions))  # 8: unsigned bytes
    if head[:4] != magic:
        raise FileError(
            f"{path} is not an IDX file of unsigned bytes with {dimensions} axes: "
            f"it starts with {head[:4].hex() or 'nothing'}, expected {magic.hex()}"
        )
    if len(head) < start:
        raise FileError(f"{path} ends within its header ({len(head)} of {start} bytes)")
    shape = tuple(int(size) for size in np.frombuffer(head, ">u4", dimensions, offset=4))
    expected = start + int(np.prod(shape, dtype=object))
    packed = check_file(path)
    if path.suffix == ".gz":
        check_unpacked(f"{path}, by its header {shape},", expected, packed, LARGEST_IDX)
        content = _start_of(path, expected + 1)
        found = f"more than {expected}" if len(content) > expected else len(content)
    else:
        if packed == expected and 0 not in shape:
            return np.memmap(path, np.uint8, "r", start, shape)  # read where it is needed
        content, found = b"", packed
    if found != expected:
        raise FileError(f"{path} has {found} bytes, but its header {shape} asks for {expected}")
    return np.frombuffer(content or head, np.uint8, offset=start).reshape(shape)


def _start_of(path: Path, count: int) -> bytes:
    """So many bytes of a file, unpacked where its name says so."""
    check_file(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(count)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FileError(f"{path} is not a whole gzip file: {error}") from error
