"""The file formats of the built-in data sets: IDX files, CIFAR's python batches, trees of small images.

Every function here reads one file or one tree and checks it; where data is looked for is the matter of
`datasets.py`. A file that is not what it should be is a ValueError that names it.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from workbench.data.images import DECODE_ERRORS, REPORT_EVERY
from workbench.data.progress import Progress

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
LARGEST_IMAGE_FILE = 1 << 20  # bytes: an image of a few thousand pixels is far smaller


def read_cifar_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One file of CIFAR-10's python version: pixels (n, 3, 32, 32) uint8 and labels (n,) int64.

    The file is a pickle. It is read by an unpickler that knows numpy's array constructor and nothing
    else, so that a file from elsewhere can run no code.

    Raises
    ------
    ValueError
        The file does not unpickle, names anything but plain arrays, or does not hold n rows of 3,072
        bytes with n labels from 0 to 9.
    """
    try:
        with path.open("rb") as file:
            batch = _ArrayUnpickler(file, encoding="bytes").load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way at all
        raise ValueError(f"{path} is not a CIFAR-10 python batch: {error}") from error
    if not isinstance(batch, dict):
        raise ValueError(
            f"{path} is not a CIFAR-10 python batch: it holds a {type(batch).__name__}, not a dict"
        )
    data, labels = (batch.get(key, batch.get(key.decode())) for key in (b"data", b"labels"))
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise ValueError(f"{path}: 'data' should be a uint8 array of shape (n, 3072)")
    if not isinstance(labels, list) or any(label not in range(10) for label in labels):
        raise ValueError(f"{path}: 'labels' should be a list of integers from 0 to 9")
    if len(labels) != len(data):
        raise ValueError(f"{path} has {len(data)} images but {len(labels)} labels")
    return data.reshape(-1, 3, 32, 32), np.asarray(labels, dtype=np.int64)


def _number_dtype(*arguments: Any) -> np.dtype:
    dtype = np.dtype(arguments[0])
    if dtype.kind not in "iu":
        raise pickle.UnpicklingError(f"arrays of {dtype} are not admitted")
    return dtype


def _latin1_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding!r} is not admitted")
    return text.encode("latin1")


def _reconstruct_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    # What pickles carry here is an empty array, filled afterwards from bytes: nothing else is built.
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError("only plain arrays are admitted")
    return np.ndarray((0,), np.uint8)


class _ArrayUnpickler(pickle.Unpickler):
    """Builds dicts, lists, numbers, strings and integer arrays; refuses every other name."""

    ADMITTED: dict[tuple[str, str], Any] = {  # noqa: RUF012 - never changed
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct_array,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct_array,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _number_dtype,
        ("_codecs", "encode"): _latin1_bytes,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not admitted") from None


@dataclass(frozen=True)
class _Tree:
    """The files of a folder or a zip: their names, and how one is read."""

    names: tuple[str, ...]
    read: Callable[[str], bytes]


def read_image_tree(
    source: Path,
    split: str,
    classes: Sequence[str],
    size: int,
    per_class: int | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The images ``split/<class>/*.jpg|jpeg|png`` of a folder, or of a zip that holds such a tree.

    Members of a zip are read in memory, one at a time, and never written to disc; the tree may stand
    below other folders in it. Names are taken in sorted order, `per_class` of each class where given,
    and only those are decoded. Returns pixels (n, 3, size, size) uint8 and labels (n,) int64, class
    after class, in the order of `classes`.

    Raises
    ------
    ValueError
        The zip cannot be read, there are no images (or no usable names), a class is missing or unknown,
        or an image does not decode to size × size.
    """
    with _open_tree(source, split) as tree:
        chosen = _choose(source, split, tree.names, classes, per_class)
        pixels = np.empty((len(chosen), 3, size, size), np.uint8)
        for done, (name, _) in enumerate(chosen):
            pixels[done] = _decode(source, name, tree.read, size)
            if progress is not None and ((done + 1) % REPORT_EVERY == 0 or done + 1 == len(chosen)):
                progress(done + 1, len(chosen), f"reading {split} images from {source.name}")
    return pixels, np.asarray([label for _, label in chosen], dtype=np.int64)


@contextmanager
def _open_tree(source: Path, split: str) -> Iterator[_Tree]:
    if source.is_dir():
        files = (path for path in (source / split).glob("*/*") if path.is_file())
        names = tuple(path.relative_to(source).as_posix() for path in files)
        yield _Tree(names, lambda name: (source / name).read_bytes())
        return
    try:
        archive = zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{source} is not a readable zip file: {error}") from error
    with archive:
        small = (
            info for info in archive.infolist() if not info.is_dir() and info.file_size <= LARGEST_IMAGE_FILE
        )
        yield _Tree(tuple(info.filename for info in small), archive.read)


def _choose(
    source: Path, split: str, names: Sequence[str], classes: Sequence[str], per_class: int | None
) -> list[tuple[str, int]]:
    found: dict[str, list[str]] = {}
    for name in names:
        if _is_image_of(name, split):
            found.setdefault(PurePosixPath(name).parts[-2], []).append(name)
    if not found:
        raise ValueError(
            f"{source} holds no images {split}/<class>/*.jpg or *.png (of {len(names)} files; "
            "absolute names, names with '..' and hidden files are not read)"
        )
    if set(found) != set(classes):
        raise ValueError(
            f"{source}: the folders under {split}/ are {', '.join(sorted(found))}; "
            f"expected {', '.join(classes)}"
        )
    return [(name, label) for label, kind in enumerate(classes) for name in sorted(found[kind])[:per_class]]


def _is_image_of(name: str, split: str) -> bool:
    path = PurePosixPath(name)
    if path.is_absolute() or len(path.parts) < 3 or "\\" in name or ":" in name:
        return False
    if ".." in path.parts or "__MACOSX" in path.parts or path.name.startswith("."):
        return False
    return path.parts[-3] == split and path.suffix.lower() in IMAGE_SUFFIXES


def _decode(source: Path, name: str, read: Callable[[str], bytes], size: int) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(read(name)), formats=("JPEG", "PNG")) as image:
            if image.size != (size, size):
                raise ValueError(f"it is {image.width} × {image.height} pixels, expected {size} × {size}")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except DECODE_ERRORS as error:
        raise ValueError(f"the image {name} in {source} cannot be read: {error}") from error
